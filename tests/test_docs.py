# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The documentation's links lead somewhere, and its commands name scripts and options that exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
COMMANDS = sorted(
    {command for page in PAGES for command in re.findall(r"python (benchmarks/[^`\n#]+)", page.read_text("utf-8"))}
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command):
    script, *options = shlex.split(command)
    # `--help` last: everything before it is parsed and checked first.
    result = subprocess.run(
        [sys.executable, str(ROOT / script), *options, "--help"], capture_output=True, text=True, cwd=ROOT
    )
    assert result.returncode == 0, result.stderr
    assert "usage:" in result.stdout
