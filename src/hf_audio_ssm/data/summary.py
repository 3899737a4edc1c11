# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What a run on labelled clips begins with: how many clips, groups and classes there are, and what chance would reach."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..common.printable import printable
from .bad_clips import count, list_clips


# Names that a note lists.
MAX_NAMED = 5


def name_some(names: Sequence[object], limit: int = MAX_NAMED) -> str:
    """The first names of a list, and how many more there are."""
    shown = ", ".join(printable(name, 80) for name in names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown


@dataclass(frozen=True)
class SplitSummary:
    """
    A split in numbers.

    Args:
        num_clips (`int`): Clips.
        counts (`tuple[int, ...]`): Clips of each class.
        num_groups (`int`, *optional*): Groups, such as speakers, if they are known.
    """

    num_clips: int
    counts: tuple[int, ...]
    num_groups: int | None = None

    @property
    def num_classes(self) -> int:
        """Classes with a clip."""
        return sum(count > 0 for count in self.counts)


@dataclass(frozen=True)
class DataSummary:
    """
    Labelled clips in numbers, for people: `str` makes the text that is printed at the start of a run.

    Args:
        source (`str`): The name of the data.
        names (`Sequence[str]`): The classes.
        is_multi_label (`bool`): Whether clips have several labels.
        splits (`Mapping[str, SplitSummary]`): Each split in numbers.
        group_column (`str`, *optional*): The column of the groups.
        drawn (`Sequence[str]`, *optional*): Splits that were drawn from the training clips.
        fold (`int`, *optional*): The fold that is tested on.
        notes (`Sequence[str]`, *optional*): What was left out or merged, and what looks wrong: a sentence each.
        bad (`Sequence[tuple[str, str]]`, *optional*): (clip, reason) of clips that cannot be read and are left out.
        num_short (`int`, *optional*): Clips shorter than a frame of the filter bank, which are padded to one.
        defects (`Sequence[tuple[str, str]]`, *optional*): (clip, note) of clips that were read with a defect.
    """

    source: str
    names: Sequence[str]
    is_multi_label: bool
    splits: Mapping[str, SplitSummary]
    group_column: str | None = None
    drawn: Sequence[str] = ()
    fold: int | None = None
    notes: Sequence[str] = ()
    bad: Sequence[tuple[str, str]] = field(default_factory=list)
    num_short: int = 0
    defects: Sequence[tuple[str, str]] = field(default_factory=list)

    def chance(self, split: str = "test") -> dict[str, float]:
        """
        What constant or random scores reach on a split: for one label a clip, `accuracy` of the most frequent class and
        `balanced_accuracy` (1 / classes in the split); for several, `mAP`, the mean prevalence of the classes in the split.
        """
        counts, total = np.array(self.splits[split].counts), self.splits[split].num_clips
        if self.is_multi_label:
            return {"mAP": float(counts[counts > 0].mean() / total) if counts.any() else 0.0}
        return {"accuracy": float(counts.max() / total), "balanced_accuracy": 1 / self.splits[split].num_classes}

    def lines(self) -> list[str]:
        """The text, line by line."""
        task = "several labels a clip" if self.is_multi_label else "one label a clip"
        fold = f", fold {self.fold}" if self.fold is not None else ""
        lines = [f"Data: {printable(self.source)}{fold}, {len(self.names)} classes, {task}"]
        for name, split in self.splits.items():
            groups = f", {split.num_groups} groups ({self.group_column})" if split.num_groups is not None else ""
            source = ", drawn from train" if name in self.drawn else ""
            lines.append(f"  {name}: {split.num_clips} clips, {split.num_classes} classes{groups}{source}")
            absent = [own for own, number in zip(self.names, split.counts, strict=True) if not number]
            if absent:
                lines.append(f"    without clips of: {name_some(absent)}")
        named = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "mAP": "mAP"}
        chances = ", ".join(f"{named[key]} {100 * value:.1f} %" for key, value in self.chance().items())
        lines.append(f"  chance level on test: {chances}")
        if self.num_short:
            lines.append(f"  padded to one frame, as they are shorter than 25 ms: {self.num_short}")
        lines += [f"  note: {printable(note)}" for note in self.notes]
        if self.defects:
            lines += [f"  read with a defect: {count(self.defects)}", list_clips(self.defects, MAX_NAMED)]
        if self.bad:
            lines += [f"  left out, as they cannot be read: {count(self.bad)}", list_clips(self.bad)]
        return lines

    def __str__(self) -> str:
        return "\n".join(self.lines())
