# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""How a classifier does on clips that are changed in ways that do not change their labels, and on clips of another source."""

from collections.abc import Callable, Mapping
from typing import Any

import datasets
import numpy as np
import torch

from ..audio.decoding import read_audio
from ..evaluation.robustness import CHANGES


# Test clips that a table is measured on, at most: it takes a pass over them for each change.
MAX_CLIPS = 1000
UNCHANGED = "unchanged"


class ChangedClips(torch.utils.data.Dataset):
    """
    Labelled clips that are changed as they are read. A clip is changed alike at each reading.

    Args:
        clips (`datasets.Dataset`): The clips: rows with `audio` and `label`.
        change (`str`): The name of one of [`CHANGES`].
        sampling_rate (`int`): The rate that clips are read at, in hertz.
        max_seconds (`float`): How much of each clip is read at most, from its beginning.
    """

    def __init__(self, clips: datasets.Dataset, change: str, sampling_rate: int, max_seconds: float):
        self.clips, self.change = clips, change
        self.sampling_rate, self.max_seconds = sampling_rate, max_seconds

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.clips[index]
        samples = read_audio(row["audio"], self.sampling_rate, self.max_seconds)
        samples = CHANGES[self.change](samples, self.sampling_rate, np.random.default_rng(index))
        return {**row, "audio": {"array": samples, "sampling_rate": self.sampling_rate}}


def choose_clips(clips: datasets.Dataset, most: int = MAX_CLIPS) -> datasets.Dataset:
    """All clips, or `most` of them at equal distances, if there are more."""
    if len(clips) <= most:
        return clips
    return clips.select(np.linspace(0, len(clips) - 1, most).round().astype(int))


def measure_robustness(
    score: Callable[[Any], float],
    clips: datasets.Dataset,
    sampling_rate: int,
    max_seconds: float,
    others: Mapping[str, datasets.Dataset] | None = None,
) -> dict[str, float]:
    """
    Scores a classifier on clips as they are, on the same clips with each of [`CHANGES`], and on clips of other sources.

    Args:
        score (`Callable`): A metric of the classifier on clips: rows of `audio` and `label`.
        clips (`datasets.Dataset`): The test clips. At most [`MAX_CLIPS`] of them are read.
        sampling_rate (`int`): The feature extractor's sampling rate in hertz.
        max_seconds (`float`): What the model hears of a clip at most, in seconds.
        others (mapping, *optional*): Clips of other sources, by the names of their rows in the table.

    Returns:
        `dict[str, float]`: the metric by the name of the change, that of the unchanged clips first.
    """
    clips = choose_clips(clips)
    table = {UNCHANGED: score(clips)}
    for name in CHANGES:
        table[name] = score(ChangedClips(clips, name, sampling_rate, max_seconds))
    return table | {name: score(choose_clips(other)) for name, other in (others or {}).items()}
