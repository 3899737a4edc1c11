# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Python programs in new processes that do not spend seconds on importing torch and transformers: a server has imported these,
and forks itself for each program. The package itself is imported by each program anew.
"""

import functools
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import types
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock


ROOT = Path(__file__).resolve().parents[2]
PRELOADED = ("torch", "transformers.pipelines", "transformers.trainer", "datasets", "accelerate", "peft", "soundfile")
# What transformers imports, without itself and all that imports huggingface_hub: programs load these anew, in their own order.
BARE = (
    "torch._dynamo",
    "torch.distributed.checkpoint",
    "torch.distributed.elastic.agent.server.local_elastic_agent",
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
    "torch.nn.attention.flex_attention",
    "anyio",
    "jinja2.sandbox",
    "PIL.ImageOps",
    "scipy.optimize",
    "soundfile",
    "soxr",
    "tokenizers",
)


@functools.cache
def _server(preloaded: tuple[str, ...]) -> forkserver.ForkServer:
    server = forkserver.ForkServer()
    server.set_forkserver_preload(list(preloaded))
    return server


def run_python(
    arguments: Sequence[str],
    cwd: str | os.PathLike,
    env: Mapping[str, str] | None = None,
    preloaded: tuple[str, ...] = PRELOADED,
) -> subprocess.CompletedProcess:
    """
    Runs `python ARGUMENT...`: `-c CODE`, `-m MODULE` or a script, each with its arguments. Of what the preloaded libraries
    read when they are imported, HF_HOME and HF_HUB_OFFLINE are as `env` says, and the rest, such as HF_ENDPOINT, is as in
    the tests. With the libraries [`BARE`], everything of the Hugging Face libraries is as `env` says.
    """
    with tempfile.TemporaryDirectory() as folder:
        streams = [os.path.join(folder, name) for name in ("out", "error")]
        process = start_python(arguments, cwd, streams, env, preloaded)
        process.join()
        out, error = (Path(stream).read_text(encoding="utf-8") for stream in streams)
    return subprocess.CompletedProcess([sys.executable, *arguments], process.exitcode, out, error)


def start_python(
    arguments: Sequence[str],
    cwd: str | os.PathLike,
    streams: Sequence[str],
    env: Mapping[str, str] | None = None,
    preloaded: tuple[str, ...] = PRELOADED,
) -> multiprocessing.process.BaseProcess:
    """As [`run_python`], without waiting for its end; output and errors go to the files `streams`."""
    environment = dict(os.environ if env is None else env)
    process = multiprocessing.get_context("forkserver").Process(
        target=_run, args=(list(arguments), os.fspath(cwd), environment, list(streams))
    )
    # multiprocessing knows one server only.
    with mock.patch.object(forkserver, "connect_to_new_process", _server(preloaded).connect_to_new_process):
        process.start()
    return process


def _set_home(env: Mapping[str, str]) -> None:
    """Sets what the imported libraries have read of HF_HOME and HF_HUB_OFFLINE."""
    from huggingface_hub import constants
    from transformers import dynamic_module_utils

    if env["HF_HOME"] != os.environ["HF_HOME"]:
        constants.HF_HOME = env["HF_HOME"]
        constants.HF_HUB_CACHE = os.path.join(env["HF_HOME"], "hub")
        dynamic_module_utils.HF_MODULES_CACHE = os.path.join(env["HF_HOME"], "modules")
    constants.HF_HUB_OFFLINE = env["HF_HUB_OFFLINE"] == "1"


def _run(arguments: list[str], cwd: str, env: dict[str, str], streams: list[str]) -> None:
    for number, stream in enumerate(streams, start=1):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT), number)
    if "huggingface_hub" in sys.modules:
        _set_home(env)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    # Without the folders that pytest adds.
    added = (str(ROOT / "tests"), str(ROOT / "examples"))
    paths = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [*paths, *(path for path in sys.path if not path.startswith(added))]
    option, *rest = arguments
    if option == "-c":
        code, *rest = rest
        sys.argv = ["-c", *rest]
        sys.path.insert(0, "")
        sys.modules["__main__"] = main = types.ModuleType("__main__")
        exec(compile(code, "<string>", "exec"), main.__dict__)
    elif option == "-m":
        module, *rest = rest
        sys.argv = [module, *rest]
        sys.path.insert(0, cwd)
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path.insert(0, os.path.dirname(os.path.abspath(option)))
        runpy.run_path(option, run_name="__main__")
