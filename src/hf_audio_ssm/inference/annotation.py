# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The events in a recording, and the files that they are written to."""

import math
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.printable import printable
from ..common.whole_files import replacing


@dataclass
class Annotation:
    """
    The result of [`annotate`].

    Args:
        name (`str`): The recording's name: that of its file, without the suffix.
        seconds (`float`): Its length, up to where it was annotated.
        events (`pd.DataFrame`): The columns `onset` and `offset` (seconds), `label` and `score`.
        notes (`pd.DataFrame`): Damage and other notes, see `AudioStream.notes`; `kind` may also be "interrupted".
        scores (`np.ndarray` of shape `(steps, labels)`): Probabilities along time.
        labels (`list[str]`): Their labels.
        seconds_per_step (`float`): Length of a time step.
        num_windows (`int`): Passes of the encoder.
        spectrogram (`np.ndarray` of shape `(mel bins, columns)`): The normalised filter bank, averaged to a picture's width.
    """

    name: str
    seconds: float
    events: pd.DataFrame
    notes: pd.DataFrame
    scores: np.ndarray
    labels: list[str]
    seconds_per_step: float
    num_windows: int
    spectrogram: np.ndarray

    def write_table(self, path: str | os.PathLike) -> None:
        """Writes the events to a .csv or .json file (a list of objects)."""
        if Path(path).suffix not in (".csv", ".json"):
            raise ValueError(f"`path` must end in .csv or .json, got {str(path)!r}.")
        if Path(path).suffix == ".csv":
            _write(path, self.events.to_csv(index=False, float_format="%.3f"))
        else:
            _write(path, self.events.to_json(orient="records", double_precision=3, indent=1) + "\n")

    def write_rttm(self, path: str | os.PathLike) -> None:
        """Writes the events in NIST's Rich Transcription Time Marked format; spaces in names become underscores."""
        name = printable("_".join(self.name.split())) or "audio"
        lines = [
            f"SPEAKER {name} 1 {onset:.3f} {offset - onset:.3f} <NA> <NA> {printable('_'.join(label.split()))} {score:.3f} <NA>\n"
            for onset, offset, label, score in self.events.itertuples(index=False)
        ]
        _write(path, "".join(lines))

    def write_audacity(self, path: str | os.PathLike) -> None:
        """Writes the events as a label track that Audacity imports."""
        lines = [
            f"{onset:.6f}\t{offset:.6f}\t{printable(' '.join(label.split()))}\n"
            for onset, offset, label in self.events[["onset", "offset", "label"]].itertuples(index=False)
        ]
        _write(path, "".join(lines))

    def draw(self, path: str | os.PathLike) -> None:
        """
        Draws the spectrogram with the events and the notes below it, to a PNG file.

        Raises:
            `ImportError`: If matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("the picture needs matplotlib (pip install matplotlib)") from error
        figure = Figure(figsize=(14, 4 + 0.25 * len(self.labels)), layout="constrained")
        heights = (1, 0.4 + 0.12 * len(self.labels))
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=heights)
        extent = (0, self.seconds, 0, len(self.spectrogram))
        top.imshow(
            self.spectrogram, origin="lower", aspect="auto", extent=extent, cmap="magma", interpolation="nearest"
        )
        top.set(ylabel="mel bin")
        # Names may hold dollars, which do not begin formulas here, and bytes that are not UTF-8.
        top.set_title(printable(self.name), parse_math=False)
        # A collection for each label: thousands of single bars would take longer than annotating.
        for row, label in enumerate(self.labels):
            events = self.events[self.events["label"] == label]
            bars = list(zip(events["onset"], events["offset"] - events["onset"], strict=True))
            bottom.broken_barh(bars, (row - 0.4, 0.8), color="tab:blue", linewidth=0)
        widths = (self.notes["offset"] - self.notes["onset"]).clip(lower=self.seconds / 1000)
        bars = list(zip(self.notes["onset"], widths, strict=True))
        bottom.broken_barh(bars, (-0.5, len(self.labels)), color="tab:red", alpha=0.25, linewidth=0)
        named_until = -math.inf
        for onset, kind in zip(self.notes["onset"], self.notes["kind"], strict=True):
            # Only where there is room.
            if onset >= named_until:
                bottom.annotate(kind, (onset, len(self.labels) - 0.5), fontsize=7, color="tab:red", va="top")
                named_until = onset + self.seconds / 20
        bottom.set(xlabel="time (s)", xlim=(0, self.seconds), ylim=(-0.5, len(self.labels) - 0.5))
        bottom.set_yticks(range(len(self.labels)), list(map(printable, self.labels)), parse_math=False)
        with replacing(path) as partial:
            figure.savefig(partial, format="png", dpi=120)

    def save(self, output_dir: str | os.PathLike) -> list[Path]:
        """
        Writes everything: NAME.csv, NAME.json, NAME.rttm, NAME.txt (Audacity), NAME.notes.csv and NAME.png. Without
        matplotlib, it warns that there is no picture.

        Returns:
            `list[Path]`: The files.
        """
        folder = Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        writers: dict[str, Callable] = {
            ".csv": self.write_table,
            ".json": self.write_table,
            ".rttm": self.write_rttm,
            ".txt": self.write_audacity,
            ".notes.csv": lambda path: _write(path, self.notes.to_csv(index=False, float_format="%.3f")),
        }
        paths = []
        for suffix, write in writers.items():
            paths.append(folder / f"{self.name}{suffix}")
            write(paths[-1])
        picture = folder / f"{self.name}.png"
        try:
            self.draw(picture)
        except ImportError as error:
            warnings.warn(f"{picture} is not written: {error}", stacklevel=2)
            return paths
        return [*paths, picture]


def _write(path: str | os.PathLike, text: str) -> None:
    with replacing(path) as partial:
        # Names may hold bytes that are not UTF-8.
        partial.write_text(text, encoding="utf-8", errors="replace")
