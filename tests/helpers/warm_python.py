# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Python programs in new processes that do not spend seconds on importing torch and transformers: a server has imported these,
and forks itself for each program. The package itself is imported by each program anew.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import types
from collections.abc import Mapping, Sequence
from pathlib import Path


ROOT = Path(__file__).resolve().parents[2]
PRELOADED = ("torch", "transformers.pipelines", "transformers.trainer", "datasets", "accelerate", "peft", "soundfile")

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(list(PRELOADED))


def run_python(
    arguments: Sequence[str], cwd: str | os.PathLike, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess:
    """
    Runs `python ARGUMENT...`: `-c CODE`, `-m MODULE` or a script, each with its arguments. What libraries read of the
    environment when they are imported, such as HF_HOME, is that of the tests; all else is as `env` says.
    """
    with tempfile.TemporaryDirectory() as folder:
        streams = [os.path.join(folder, name) for name in ("out", "error")]
        process = start_python(arguments, cwd, streams, env)
        process.join()
        out, error = (Path(stream).read_text(encoding="utf-8") for stream in streams)
    return subprocess.CompletedProcess([sys.executable, *arguments], process.exitcode, out, error)


def start_python(
    arguments: Sequence[str],
    cwd: str | os.PathLike,
    streams: Sequence[str],
    env: Mapping[str, str] | None = None,
) -> multiprocessing.process.BaseProcess:
    """As [`run_python`], without waiting for its end; output and errors go to the files `streams`."""
    environment = dict(os.environ if env is None else env)
    process = _SERVER.Process(target=_run, args=(list(arguments), os.fspath(cwd), environment, list(streams)))
    process.start()
    return process


def _run(arguments: list[str], cwd: str, env: dict[str, str], streams: list[str]) -> None:
    for number, stream in enumerate(streams, start=1):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT), number)
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
