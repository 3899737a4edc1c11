# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Pictures of training, augmentation and a classifier's decisions, as matplotlib figures; `save_figure` writes them."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

from ..audio.frames import frames_to_seconds
from ..common.whole_files import replacing
from ..data.labelled_collator import LabelledClipCollator
from ..models.patch_encoder.configuration_patch_encoder import PatchEncoderConfig


# More classes than this are too many to write numbers and names beside.
READABLE_CLASSES = 30


def save_figure(figure: Figure, path: str | os.PathLike) -> None:
    """Writes a figure as a PNG file, which is whole or not there."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=120)


def draw_spectrogram(
    axes: Axes,
    input_values: torch.Tensor | np.ndarray,
    title: str = "",
    start: float = 0.0,
    cmap: str = "magma",
    **limits: float,
) -> None:
    """
    Draws a filter bank (frames, mel bins) over time in seconds, from `start` on. The colours are matplotlib's `cmap`, between
    the values `vmin` and `vmax` of `limits`.
    """
    values = np.asarray(input_values).T
    extent = (start, start + frames_to_seconds(values.shape[1]), 0, values.shape[0])
    axes.imshow(values, origin="lower", aspect="auto", extent=extent, cmap=cmap, **limits)
    axes.set(xlabel="time (s)", ylabel="mel bin")
    # Names of classes may hold dollars, which do not begin formulas here.
    axes.set_title(title, parse_math=False)


def draw_similarity(
    axes: Axes, similarity_map: torch.Tensor | np.ndarray, config: PatchEncoderConfig, start: float = 0.0
) -> AxesImage:
    """
    Lays the similarity of patches over a drawn spectrogram, the clearer the higher, with a frame around the best patch.

    Args:
        axes (`Axes`): With the spectrogram.
        similarity_map (`torch.Tensor` or `np.ndarray` of shape `(rows, columns)`): From 0 to 1, by frequency and time.
        config (`PatchEncoderConfig`): The configuration of the model that made it.
        start (`float`, *optional*, defaults to 0): When the spectrogram begins, in seconds.

    Returns:
        `AxesImage`: The colours of the similarity, for a colour bar.
    """
    values = np.asarray(similarity_map)
    rows, columns = values.shape
    height, width = config.patch_shape
    # A patch is drawn around its middle; patches may overlap or leave gaps.
    left = start + frames_to_seconds((width - config.time_stride) / 2)
    bottom = (height - config.frequency_stride) / 2
    right, top = left + frames_to_seconds(columns * config.time_stride), bottom + rows * config.frequency_stride
    limits = axes.get_xlim(), axes.get_ylim()
    # A patch that is half as similar as the best one is hardly visible.
    alpha = 0.85 * np.clip(values / max(values.max(), 1e-6), 0, 1) ** 3
    style = {"origin": "lower", "aspect": "auto", "cmap": "plasma", "vmin": 0, "vmax": 1}
    image = axes.imshow(values, extent=(left, right, bottom, top), alpha=alpha, **style)
    row, column = divmod(int(values.argmax()), columns)
    corner = (start + frames_to_seconds(column * config.time_stride), row * config.frequency_stride)
    frame = {"fill": False, "edgecolor": "white", "linewidth": 2}
    axes.add_patch(Rectangle(corner, frames_to_seconds(width), height, **frame))
    axes.set(xlim=limits[0], ylim=limits[1])
    return image


def plot_augmentation(
    collator: LabelledClipCollator, rows: Sequence[dict], names: Sequence[str], versions: int = 3
) -> Figure:
    """
    Shows what a collator's augmentation does to clips: a row for each clip, unchanged and in some versions.

    Args:
        collator (`LabelledClipCollator`): With its augmentation.
        rows (`Sequence[dict]`): Rows of labelled clips, which may be mixed with each other.
        names (`Sequence[str]`): The names of the classes.
        versions (`int`, *optional*, defaults to 3): Number of augmented versions.
    """
    plain = LabelledClipCollator(collator.feature_extractor, collator.num_labels, multi_hot=True)
    changed = LabelledClipCollator(collator.feature_extractor, collator.num_labels, True, collator.augmentation)
    batches = [plain(list(rows)), *(changed(list(rows)) for _ in range(versions))]
    figure = Figure(figsize=(3.2 * len(batches), 2.4 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(batches), squeeze=False)
    for row in range(len(rows)):
        for column, batch in enumerate(batches):
            shares = batch["labels"][row]
            label = ", ".join(f"{names[c]} {shares[c]:.2g}" for c in shares.argsort(descending=True) if shares[c] > 0)
            title = f"{'as it is' if column == 0 else f'version {column}'}: {label}"
            draw_spectrogram(grid[row, column], batch["input_values"][row], title)
    return figure


def plot_confusion_matrix(predictions: ArrayLike, references: ArrayLike, names: Sequence[str]) -> Figure:
    """
    Shows how often each class (row) was predicted as each class (column), in shares of the row's clips.

    Args:
        predictions (`Sequence[int]`): The best-scored class of each clip.
        references (`Sequence[int]`): The class of each clip.
        names (`Sequence[str]`): The names of the classes.
    """
    matrix = confusion_matrix(references, predictions, labels=range(len(names)))
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    readable = len(names) <= READABLE_CLASSES
    size = max(4.0, 0.45 * min(len(names), READABLE_CLASSES) + 2)
    figure = Figure(figsize=(size, size), layout="constrained")
    display = ConfusionMatrixDisplay(shares)
    axes = figure.subplots()
    display.plot(ax=axes, cmap="Blues", colorbar=False, include_values=readable, values_format=".2f")
    shown = names if readable else []
    axes.set_xticks(range(len(shown)), shown, rotation="vertical", parse_math=False)
    axes.set_yticks(range(len(shown)), shown, parse_math=False)
    axes.set_title("share of each class's clips")
    return figure


def plot_learning_curve(log_history: Sequence[Mapping[str, float]], metric: str) -> Figure:
    """
    Shows the losses and the metric over the epochs.

    Args:
        log_history (`Sequence[Mapping]`): `trainer.state.log_history`.
        metric (`str`): The metric's name, without `eval_`.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, keys in (
        (left, {"loss": "training", "eval_loss": "validation"}),
        (right, {f"eval_{metric}": "validation"}),
    ):
        for key, label in keys.items():
            points = [(entry["epoch"], entry[key]) for entry in log_history if key in entry]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", label=label)
        axes.set(xlabel="epoch", ylabel="loss" if axes is left else metric)
        if axes.has_data():
            axes.legend()
    return figure


def plot_similarity(
    input_values: torch.Tensor,
    similarity_maps: torch.Tensor,
    config: PatchEncoderConfig,
    label: int,
    num_prototypes: int = 3,
) -> Figure:
    """
    Shows why a head with prototypes finds a class in a clip: the spectrogram, and over it the similarity to the class's
    closest prototypes, with a frame around the best patch.

    Args:
        input_values (`torch.Tensor` of shape `(frames, num_mel_bins)`): The model's input for one clip.
        similarity_maps (`torch.Tensor` of shape `(num_labels, num_prototypes, rows, columns)`):
            The model's output for it.
        config (`PatchEncoderConfig`): The model's configuration.
        label (`int`): The class.
        num_prototypes (`int`, *optional*, defaults to 3): Number of prototypes to show.

    Raises:
        `ValueError`: If the shapes do not fit the configuration, or there is no such class.
    """
    expected = (config.num_labels, config.num_prototypes, *config.patch_grid(len(input_values)))
    if tuple(similarity_maps.shape) != expected:
        raise ValueError(
            f"`similarity_maps` must have the shape {expected}, those of one clip, got {tuple(similarity_maps.shape)}."
        )
    if not 0 <= label < config.num_labels:
        raise ValueError(f"`label` must be in 0 ... {config.num_labels - 1}, got {label!r}.")
    maps = similarity_maps[label].detach().float().cpu()
    best = maps.flatten(1).amax(dim=1).argsort(descending=True)[:num_prototypes].tolist()
    figure = Figure(figsize=(3.6 * (1 + len(best)), 3.2), layout="constrained")
    panels = figure.subplots(1, 1 + len(best), squeeze=False)[0]
    name = config.id2label[label]
    draw_spectrogram(panels[0], input_values.detach().cpu(), "input")
    for axes, prototype in zip(panels[1:], best, strict=True):
        title = f"{name}, prototype {prototype}: {maps[prototype].max():.2f}"
        draw_spectrogram(axes, input_values.detach().cpu(), title, cmap="gray")
        draw_similarity(axes, maps[prototype], config)
    return figure


def plot_reconstruction(inputs: torch.Tensor, visible: torch.Tensor, reconstruction: torch.Tensor) -> Figure:
    """
    What a model saw of clips, its reconstruction, and the difference from the true spectrograms, a row for each clip.

    Args:
        inputs (`torch.Tensor` of shape `(clips, frames, mel bins)`): The true spectrograms.
        visible (`torch.Tensor` of the same shape): What the model saw of them, with NaN elsewhere.
        reconstruction (`torch.Tensor` of the same shape): What it made of them.
    """
    panels = {"masked input": visible, "reconstruction": reconstruction, "difference": reconstruction - inputs}

    figure = Figure(figsize=(12, 2.5 * len(inputs)), layout="tight")
    axes = figure.subplots(len(inputs), len(panels), sharex=True, sharey=True, squeeze=False)
    for column, (title, values) in zip(axes.T, panels.items(), strict=True):
        for axis, clip, original in zip(column, values.cpu(), inputs.cpu(), strict=True):
            # Colours of a row mean the same in its input and its reconstruction; differences go from -2 to 2.
            low, high = (-2.0, 2.0) if title == "difference" else (float(original.min()), float(original.max()))
            draw_spectrogram(axis, clip, cmap="RdBu" if title == "difference" else "magma", vmin=low, vmax=high)
        column[0].set_title(title)
    for axis in axes.flat:
        axis.label_outer()
    return figure


def plot_few_shot(table: Mapping[str, Mapping[int, Sequence[float]]], metric: str) -> Figure:
    """
    Shows a metric over the number of clips a class: the mean of the seeds, with bars of one standard deviation.

    Args:
        table (`Mapping`): For each method and each number of clips a class, the values of the seeds.
        metric (`str`): The metric's name.
    """
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for offset, (method, values) in enumerate(table.items()):
        shots = sorted(values)
        # Side by side, so that the bars can be told apart.
        places = [shot * 1.03 ** (offset - len(table) / 2) for shot in shots]
        means, deviations = ([function(values[shot]) for shot in shots] for function in (np.mean, np.std))
        axes.errorbar(places, means, yerr=deviations, marker="o", capsize=3, label=method)
    shots = sorted({shot for values in table.values() for shot in values})
    axes.set(xscale="log", xlabel="clips a class", ylabel=metric)
    axes.set_xticks(shots, [str(shot) for shot in shots])
    axes.minorticks_off()
    axes.legend()
    return figure
