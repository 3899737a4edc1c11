# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Draws `images/how_it_works.png`: python docs/draw_figures.py"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from hf_audio_ssm import SsambaConfig, SsambaFeatureExtractor
from hf_audio_ssm.audio.decoding import read_audio


DOCS = Path(__file__).resolve().parent
WORDS = DOCS.parent / "examples" / "spoken_words" / "test"
BLUE, ORANGE, GREY = "#1f77b4", "#ff7f0e", "#555555"


def draw_patches(axes, spectrogram, config) -> None:
    """Draws the spectrogram with its patches, and the order in which the encoder reads them."""
    frames = len(spectrogram)
    axes.imshow(spectrogram.T, origin="lower", aspect="auto", cmap="magma", extent=(0, frames, 0, config.num_mel_bins))
    rows, columns = config.patch_grid(frames)
    for row in range(rows):
        for column in range(columns):
            corner = (column * config.time_stride, row * config.frequency_stride)
            axes.add_patch(Rectangle(corner, 16, 16, fill=False, edgecolor="white", linewidth=0.7))
    for row in range(2):
        y = 8 + 16 * row
        style = {"arrowstyle": "->", "color": "cyan", "linewidth": 2}
        axes.annotate("", (columns * 16 - 4, y), (4, y), arrowprops=style)
    axes.set(title="1. Patches of the spectrogram, read row by row", xlabel="frame (10 ms)", ylabel="mel bin")


def draw_box(axes, x: float, y: float, width: float, height: float, text: str, colour: str) -> None:
    box = FancyBboxPatch(
        (x, y), width, height, boxstyle="round,pad=0.02", facecolor="white", edgecolor=colour, linewidth=2
    )
    axes.add_patch(box)
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=10)


def draw_arrow(axes, start: tuple[float, float], end: tuple[float, float], colour: str = GREY, **style) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": colour, "linewidth": 1.8, **style})


def draw_pair(axes) -> None:
    """Draws a pair of layers: both read the same stream, the second backwards, and their outputs are added to it."""
    axes.set(xlim=(0, 10), ylim=(0, 10), title="2. A pair of layers")
    axes.axis("off")
    draw_box(axes, 3.2, 8.6, 3.6, 1, "tokens", GREY)
    for x, colour, direction in ((0.6, BLUE, "as it is"), (5.9, ORANGE, "reversed")):
        draw_box(axes, x, 6.3, 3.5, 1, "layer norm", colour)
        draw_box(axes, x, 3.9, 3.5, 1.5, f"mixer, on the\nsequence {direction}", colour)
        middle = x + 1.75
        draw_arrow(axes, (5, 8.55), (middle, 7.4), colour)
        draw_arrow(axes, (middle, 6.25), (middle, 5.5), colour)
        draw_arrow(axes, (middle, 3.85), (4.75 if x < 5 else 5.25, 2.5), colour)
    draw_box(axes, 4.6, 1.9, 0.8, 0.6, "+", GREY)
    draw_arrow(axes, (5, 8.55), (5, 2.6))
    draw_arrow(axes, (5, 1.85), (5, 0.9))
    axes.text(5, 0.45, "tokens, after this pair", ha="center", va="center")


def draw_scan(axes) -> None:
    """Draws the mixer's selective scan along the sequence."""
    axes.set(xlim=(0, 10), ylim=(0, 10), title="3. The mixer: a selective scan in each direction")
    axes.axis("off")
    for index in range(4):
        x = 0.4 + 2.5 * index
        draw_box(axes, x, 7.6, 1.5, 1, f"token {index + 1}", GREY)
        draw_box(axes, x, 4.6, 1.5, 1, f"states {index + 1}", BLUE)
        draw_box(axes, x, 1.6, 1.5, 1, f"output {index + 1}", GREY)
        draw_arrow(axes, (x + 0.75, 7.55), (x + 0.75, 5.7))
        draw_arrow(axes, (x + 0.75, 4.55), (x + 0.75, 2.7))
        if index < 3:
            draw_arrow(axes, (x + 1.55, 5.35), (x + 2.45, 5.35), BLUE)
            draw_arrow(axes, (x + 2.45, 4.85), (x + 1.55, 4.85), ORANGE)
    axes.text(
        5,
        0.6,
        "each token says how much of the state is kept,\nand what of itself is written to it and read from it",
        ha="center",
        va="center",
        fontsize=9,
    )


def main() -> None:
    """Draws and saves the figure."""
    config = SsambaConfig.tiny(max_length=96)
    extractor = SsambaFeatureExtractor(max_length=96)
    rate = extractor.sampling_rate
    samples = np.concatenate([read_audio(WORDS / word / "en-us-f5.flac", rate) for word in ("yes", "no")])
    spectrogram = extractor(samples, sampling_rate=rate, return_tensors="np")["input_values"][0]
    figure = Figure(figsize=(15, 4.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    draw_patches(left, spectrogram, config)
    draw_pair(middle)
    draw_scan(right)
    figure.savefig(DOCS / "images" / "how_it_works.png", dpi=110)


if __name__ == "__main__":
    main()
