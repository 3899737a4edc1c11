# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The types that the package ships, as a user's type checker sees them."""

import subprocess
import sys
from pathlib import Path

import pytest


TESTS = Path(__file__).resolve().parent


@pytest.mark.slow
def test_a_users_program(tmp_path):
    pytest.importorskip("mypy")
    # Of what the program uses, only its own errors matter.
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--config-file=",
        "--follow-imports=silent",
        f"--cache-dir={tmp_path}",
        "typed_use.py",
    ]
    result = subprocess.run(command, cwd=TESTS, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
