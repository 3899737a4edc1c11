# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Snippets of the documentation, marked by a comment with their name, and how to run them."""

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path


def read_snippets(page: Path) -> dict[str, tuple[str, str]]:
    """(language, code) of a page's snippets, by name."""
    pattern = r"<!-- snippet: ([\w-]+) -->\n```(\w+)\n(.*?)```"
    text = page.read_text(encoding="utf-8")
    return {name: (language, code) for name, language, code in re.findall(pattern, text, flags=re.DOTALL)}


def run_here(command: str, monkeypatch) -> None:
    """Runs `python SCRIPT ARGUMENT...` in this process, which has imported already what others would import again."""
    program, script, *arguments = shlex.split(command.replace("\\\n", " "))
    assert program == "python"
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    runpy.run_path(script, run_name="__main__")


def run_snippet(snippet: tuple[str, str], folder: Path, more_arguments: str = "") -> str:
    """Runs a snippet in a folder, with further arguments behind it; returns what it printed."""
    language, code = snippet
    code = code.rstrip() + more_arguments
    if language == "python":
        command = [sys.executable, "-c", code]
    else:
        command = ["bash", "-ec", code.replace("python ", f"{sys.executable} ", 1)]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout
