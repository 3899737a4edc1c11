# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs the tests of the Triton kernels under Triton's interpreter, in two parts that test files of their own start."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


TESTS = Path(__file__).resolve().parents[1] / "ops" / "test_triton_kernels.py"
# Words in the names of the tests that go beyond single kernels: the first part. The second one is all the rest.
MODULES = "mixing or autocast or compiles or exports or checkpointing or opcheck or model or clips_are or one_layer"


def check_under_the_interpreter(selection: str, marks: str = "not slow") -> None:
    """
    In a process of its own: Triton decides when it is imported.

    Args:
        selection: what pytest takes as `-k`.
        marks: what pytest takes as `-m`.
    """
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(TESTS), "-k", selection, "-m", marks],
        capture_output=True,
        text=True,
        env={**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert result.returncode == 0, result.stdout[-10_000:] + result.stderr[-2000:]
    assert " passed" in result.stdout


def prepare_once_a_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Makes the interpreter faster. It replaces the functions of Triton's language when a kernel is launched, and again, in 40 % of
    its time, at each call of a function by a kernel. Within a launch, once for each module of functions is enough.
    """
    from triton.runtime import interpreter

    replace_language, launch = interpreter._patch_lang, interpreter.GridExecutor.__call__
    prepared: set[int] = set()

    def replace_language_once(function: Callable) -> Any:
        if id(function.__globals__) not in prepared:
            prepared.add(id(function.__globals__))
            return replace_language(function)

    def launch_unprepared(*arguments: Any, **named: Any) -> None:
        prepared.clear()
        launch(*arguments, **named)

    monkeypatch.setattr(interpreter, "_patch_lang", replace_language_once)
    monkeypatch.setattr(interpreter.GridExecutor, "__call__", launch_unprepared)
