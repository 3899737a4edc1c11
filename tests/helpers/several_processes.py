# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""How the tests launch several processes on one machine."""

import multiprocessing
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from warm_python import ROOT, start_python


# On a free port, by the loopback address: where a machine cannot look up its own name, torchrun would wait for minutes.
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--local_addr", "127.0.0.1")


def job_variables() -> list[dict[str, str]]:
    """What torchrun sets for each of two processes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    job = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    return [{**job, "RANK": rank, "LOCAL_RANK": rank} for rank in ("0", "1")]


def start_job(arguments: Sequence[str], folder: Path) -> list[tuple[multiprocessing.process.BaseProcess, Path]]:
    """Starts `python ARGUMENT...` in two processes that know of each other; gives each with the file of its errors."""
    found = os.pathsep.join(str(ROOT / name) for name in ("examples", "tests/helpers"))
    job = []
    for variables in job_variables():
        streams = [folder / f"{name}-{variables['RANK']}" for name in ("out", "errors")]
        environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "PYTHONPATH": found, **variables}
        job.append((start_python(arguments, folder, [str(stream) for stream in streams], environment), streams[1]))
    return job
