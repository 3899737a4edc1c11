# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Text files that are whole or not there, and what goes into tables in Markdown."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .whole_files import replacing


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a file under another name first."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def mean_and_deviation(values: Sequence[float]) -> str:
    """`0.9000 ± 0.0100`; without a deviation where a value is infinite, which leaves none."""
    mean = f"{np.mean(values):.4f}"
    return f"{mean} ± {np.std(values):.4f}" if np.isfinite(values).all() else mean


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
