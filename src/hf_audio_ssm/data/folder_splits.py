# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The readable clips of a folder in splits, for scripts that need no data sets."""

from collections import Counter
from pathlib import Path

from ..common.errors import InputError
from .arguments import FolderFields
from .bad_clips import ClipCheck, check_all, refuse_bad_clips
from .folders import SPLIT_FOLDERS, find_splits
from .summary import DataSummary, SplitSummary, name_some


def load_folder_splits(
    data_dir: Path, seed: int, sampling_rate: int, arguments: FolderFields
) -> tuple[dict[str, list[tuple[Path, str]]], DataSummary, ClipCheck]:
    """
    Finds the splits of a folder, see [`find_splits`], reads every clip once, and leaves out those that cannot be read.

    Args:
        data_dir (`Path`): The folder.
        seed (`int`): Seed for drawing missing splits.
        sampling_rate (`int`): Sampling rate in hertz.
        arguments ([`FolderFields`]): The groups, and what is done with clips that cannot be read.

    Returns:
        `tuple`: (clip, label) of the clips of each split; these in numbers; and what was found in reading them.

    Raises:
        [`InputError`]: As [`find_splits`], and if clips cannot be read and are not to be skipped, are too many, or a split or a
            label has no clip without them.
    """
    splits = find_splits(data_dir, seed, arguments.group_column)
    clips = [(split, *clip) for split in SPLIT_FOLDERS for clip in splits[split]]
    found = check_all([path for _, path, _ in clips], sampling_rate)
    bad = list(found.bad.values())
    refuse_bad_clips(bad, len(clips), arguments.bad_clips, arguments.max_bad_share)
    kept: dict[str, list[tuple[Path, str]]] = {split: [] for split in SPLIT_FOLDERS}
    for number, (split, path, label) in enumerate(clips):
        if number not in found.bad:
            kept[split].append((path, label))
    labels = sorted({label for _, label in splits["train"]})
    left = {label for _, label in kept["train"]}
    why = f"{data_dir}: after {len(bad)} clips that cannot be read are left out"
    if absent := [label for label in labels if label not in left]:
        raise InputError(f"{why}, no training clip has the labels {name_some(absent)}")
    numbers = {}
    for split, own in kept.items():
        if not own:
            raise InputError(f"{why}, the split {split} is empty")
        counts = Counter(label for _, label in own)
        numbers[split] = SplitSummary(len(own), tuple(counts[label] for label in labels))
    summary = DataSummary(
        str(data_dir), labels, False, numbers, bad=bad, num_short=len(found.short), defects=list(found.notes.values())
    )
    return kept, summary, found
