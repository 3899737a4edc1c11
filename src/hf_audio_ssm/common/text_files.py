# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Text files, written whole, and tables in Markdown for them."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .whole_files import replacing


def write_text(path: str | os.PathLike, text: str) -> None:
    """
    Writes a text file in UTF-8, and its folder. On an error, the file is left as it was.

    Args:
        path (`str` or `PathLike`): The file.
        text (`str`): All of its text.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def mean_and_deviation(values: Sequence[float]) -> str:
    """Mean and standard deviation, as `0.9000 ± 0.0100`; the mean alone, if a value is not finite."""
    mean = f"{np.mean(values):.4f}"
    return f"{mean} ± {np.std(values):.4f}" if np.isfinite(values).all() else mean


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Makes a table in Markdown, of a header and rows of cells."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
