# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Blocks of code in the documentation, of which some are named by a comment (snippets), and how to run them."""

import re
import runpy
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from warm_python import ROOT, run_python


@dataclass(frozen=True)
class Block:
    """A fenced block, and the name that the comment above it gives it."""

    name: str | None
    language: str
    code: str

    @property
    def is_benchmark(self) -> bool:
        """Whether it is nothing but commands that measure, which take long."""
        return all(line.startswith("python benchmarks/") for line in self.code.splitlines())


# Indented and quoted ones, too, and with whatever stands behind the language.
FENCED = re.compile(
    r"(?:^<!-- snippet: ([\w-]+) -->\n)?^[ >]*(`{3,}|~{3,})([^\n]*)\n(.*?)^[ >]*\2 *$", re.DOTALL | re.MULTILINE
)


def read_blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    found = FENCED.finditer(page.read_text(encoding="utf-8"))
    return [Block(match[1], match[3].strip(), match[4]) for match in found]


def read_snippets(page: Path) -> dict[str, tuple[str, str]]:
    """(language, code) of a page's snippets, by name."""
    return {block.name: (block.language, block.code) for block in read_blocks(page) if block.name}


def read_inline_commands(page: Path) -> list[str]:
    """The `python SCRIPT ARGUMENT...` that stand in a page's sentences."""
    return re.findall(r"`(python \w+/[^`]+)`", FENCED.sub("", page.read_text(encoding="utf-8")))


def copy_few_words(clone: Path, counts: dict[str, int], words: tuple[str, ...] = ("no", "stop", "yes")) -> None:
    """Writes the shipped data set into the folder of a clone, with `counts` of each split for each of a few words."""
    whole, few = (folder / "examples" / "spoken_words" for folder in (ROOT, clone))
    for split, count in counts.items():
        for word in words:
            (few / split / word).mkdir(parents=True)
            for clip in sorted((whole / split / word).glob("*.flac"))[:count]:
                shutil.copy(clip, few / split / word)


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
        result = run_python(["-c", code], folder)
    elif code.startswith("python "):
        result = run_python(shlex.split(code.replace("\\\n", " "))[1:], folder)
    else:
        command = ["bash", "-ec", code.replace("python ", f"{sys.executable} ", 1)]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout
