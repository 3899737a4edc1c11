# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What ends a command: errors of known kinds, whoever raises them, are one line and an exit code; bugs have tracebacks."""

import errno
import json
import sys
from types import SimpleNamespace

import httpx
import pytest
import torch

from hf_audio_ssm.cli import COMMANDS, main
from hf_audio_ssm.common.errors import InputError


LINES = {
    "classify": ["x.wav", "-m", "m"],
    "embed": ["x.wav", "-m", "m", "-o", "x.npz"],
    "convert": ["a", "b"],
    "info": ["m"],
}
KNOWN = [
    (InputError("--model m: is\nodd\x1b[2J"), 1, r"error: --model m: is odd\x1b[2J"),
    (FileNotFoundError(errno.ENOENT, "No such file or directory", "m/a.json"), 1, "error: m/a.json: No such file or directory"),
    (OSError(errno.ENOSPC, "No space left on device"), 1, "error: No space left on device"),
    (json.JSONDecodeError("Expecting value", "", 0), 1, "error: not valid JSON: Expecting value: line 1 column 1 (char 0)"),
    (httpx.ConnectTimeout("timed out"), 1, "error: the network request failed: timed out"),
    (MemoryError(), 1, "error: not enough memory; try fewer or shorter clips at a time"),
    (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried"), 1, "error: not enough memory; try fewer or shorter clips at a time: CUDA out of memory. Tried"),
    (KeyboardInterrupt(), 130, ""),
]  # fmt: skip


def fake(monkeypatch, command, error):
    def run(**arguments):
        raise error

    monkeypatch.setitem(sys.modules, f"hf_audio_ssm.cli.{command}", SimpleNamespace(run=run))


def test_there_is_a_line_for_each_command():
    assert set(LINES) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_known_errors_are_one_line_and_an_exit_code(command, monkeypatch, capsys):
    for error, code, line in KNOWN:
        fake(monkeypatch, command, error)
        assert main([command, *LINES[command]]) == code
        assert capsys.readouterr().err == (f"{line}\n" if line else "")


@pytest.mark.parametrize(
    "error", [KeyError("a"), TypeError("a"), ValueError("a"), AssertionError("a"), RuntimeError("a")]
)
def test_bugs_keep_their_tracebacks(error, monkeypatch):
    fake(monkeypatch, "info", error)
    with pytest.raises(type(error)) as failed:
        main(["info", "m"])
    assert failed.value is error
