# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Labelled clips in splits, from folders, parquet, data sets saved to disk and the Hub, with one label each or several. All labels
are checked before training starts.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from ..audio.decoding import read_seconds
from ..common.errors import InputError
from .arguments import LabelledDataFields
from .bad_clips import check_all, is_main_process, name_in_data, refuse_bad_clips
from .clip_identity import AudioColumn, ClipNames, ClipNumbers, number_clips
from .folders import SPLIT_FOLDERS, FolderClip, FolderColumns, name_of, read_folder
from .label_encodings import Classes, clean_labels, encode_labels, has_several_labels
from .metadata import FILE_COLUMN, clean_text, quote, text_of
from .sources import open_source, undecoded
from .splits import SplitClips, SplitRows, draw_missing_splits, find_clips_of_rows
from .summary import DataSummary, SplitSummary, name_some


# Separates the labels of a clip in a metadata.csv.
LABEL_SEPARATOR = ";"
# Columns of a table beside the clips and their labels.
MORE_COLUMNS = ("fold", "group")


@dataclass
class LabelledClips:
    """
    Clips in splits, with checked labels.

    Args:
        splits (`dict[str, datasets.Dataset]`):
            "train", "validation" and "test", with the columns `audio` (undecoded) and `label`: a class index or a list of
            class indices.
        names (`list[str]`): The name of each class.
        is_multi_label (`bool`): Whether `label` is a list.
        fold (`int`, *optional*): The fold used as test split.
        drawn (`tuple[str, ...]`, *optional*): The splits that the data lack, drawn from the training clips.
        source (`str`, *optional*): The name of the data.
        numbers (`dict[str, np.ndarray]`, *optional*): Split -> a number of each clip, equal for equal clips of other runs.
        groups (`dict[str, list[str]]`, *optional*): Split -> the group of each clip, if there are groups.
        group_column (`str`, *optional*): The column of the groups.
        shared (`dict[str, int]`, *optional*):
            Split -> how many of its clips are not held out, as a split before it has files of equal content.
        notes (`list[str]`, *optional*): What was merged or is not used: a sentence each.
        bad (`list[tuple[str, str]]`, *optional*): (clip, reason) of the clips that cannot be read, and were left out.
        num_bad (`dict[str, int]`, *optional*): Split -> how many of its clips were left out.
        num_short (`int`, *optional*): Clips shorter than a frame of the filter bank, which are padded to one.
        defects (`list[tuple[str, str]]`, *optional*): (clip, note) of clips that were read with a defect.
    """

    splits: dict[str, datasets.Dataset]
    names: list[str]
    is_multi_label: bool
    fold: int | None = None
    drawn: tuple[str, ...] = ()
    source: str = "data"
    numbers: dict[str, np.ndarray] = field(default_factory=dict)
    groups: dict[str, list[str]] = field(default_factory=dict)
    group_column: str | None = None
    shared: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    bad: list[tuple[str, str]] = field(default_factory=list)
    num_bad: dict[str, int] = field(default_factory=dict)
    num_short: int = 0
    defects: list[tuple[str, str]] = field(default_factory=list)

    @cached_property
    def seconds(self) -> list[float]:
        """The length of each clip of all splits in seconds, as their headers tell it."""
        return [read_seconds(row["audio"]) for split in self.splits.values() for row in split]

    @property
    def problem_type(self) -> str:
        """The `problem_type` of a model's configuration."""
        return "multi_label_classification" if self.is_multi_label else "single_label_classification"

    def summarize(self) -> DataSummary:
        """The clips in numbers, for the beginning of a run."""
        splits = {}
        for split in SPLIT_FOLDERS:
            labels = self.splits[split]["label"][:]
            flat = [label for own in labels for label in own] if self.is_multi_label else list(labels)
            counts = np.bincount(np.asarray(flat, dtype=np.int64), minlength=len(self.names))
            num_groups = len(set(self.groups[split])) if split in self.groups else None
            splits[split] = SplitSummary(len(self.splits[split]), tuple(counts.tolist()), num_groups)
        return DataSummary(
            self.source, self.names, self.is_multi_label, splits, self.group_column, self.drawn, self.fold,
            self.notes, self.bad, self.num_short, self.defects,
        )  # fmt: skip

    def without(self, bad: Mapping[int, tuple[str, str]]) -> "LabelledClips":
        """
        Leaves clips out.

        Args:
            bad (`Mapping[int, tuple[str, str]]`): Number of a clip, as in `numbers`, -> (clip, reason).

        Raises:
            [`InputError`]: If a split is empty then, or a class has no training clip.
        """
        kept = {split: [number not in bad for number in own.tolist()] for split, own in self.numbers.items()}
        why = f"{self.source}: after {len(bad)} clips that cannot be read are left out"
        splits, groups, numbers, num_bad = dict(self.splits), dict(self.groups), dict(self.numbers), {}
        for split, is_kept in kept.items():
            if not any(is_kept):
                raise InputError(f"{why}, the split {split} is empty")
            if all(is_kept):
                continue
            rows = np.flatnonzero(is_kept)
            num_bad[split] = len(is_kept) - len(rows)
            splits[split] = splits[split].select(rows)
            numbers[split] = numbers[split][rows]
            if split in groups:
                groups[split] = [groups[split][row] for row in rows]
        lists = (label if isinstance(label, list) else [label] for label in splits["train"]["label"][:])
        left = {label for labels in lists for label in labels}
        absent = [name for label, name in enumerate(self.names) if label not in left]
        if absent:
            raise InputError(f"{why}, no training clip has the labels {name_some(absent)}")
        return replace(self, splits=splits, groups=groups, numbers=numbers, bad=list(bad.values()), num_bad=num_bad)


@dataclass
class LabelledDataArguments(LabelledDataFields):
    """Labelled clips. HfArgumentParser reads the fields from the command line or a file."""

    def load(self) -> list[LabelledClips]:
        """
        Loads the clips: once, or once for each of `test_folds`.

        Raises:
            [`InputError`]: If the data cannot be read, or their labels cannot be used.
        """
        self._notes: list[str] = []
        tables = self._read_tables(self.data)
        if self.fold_column is None:
            for split, source in (("validation", self.validation_data), ("test", self.test_data)):
                if source is not None:
                    if split in tables:
                        self._notes.append(f"the split {split} of {self.data} is not used, as --{split}_data is given")
                    tables[split] = self._only(self._read_tables(source), source)
            clips = label_clips(tables, self.data, self.split_seed)
            return [replace(clips, group_column=self.group_column, notes=[*self._notes, *clips.notes])]

        table = self._only(tables, self.data)
        try:
            folds = np.array([int(fold) for fold in table["fold"][:]])
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"{self.data}: the column {self.fold_column} must hold whole numbers ({error})"
            ) from error
        found = sorted({int(fold) for fold in folds})
        numbers = number_clips(AudioColumn([table]))
        runs = []
        for fold in self.test_folds or found:
            if fold not in found or len(found) == 1:
                raise InputError(
                    f"--test_folds {fold}: {self.data} has clips in the folds {found}, at least 2 are needed"
                )
            rows = {"train": np.flatnonzero(folds != fold), "test": np.flatnonzero(folds == fold)}
            parts = {split: table.select(own) for split, own in rows.items()}
            own_numbers = {split: numbers.select(own) for split, own in rows.items()}
            clips = label_clips(parts, self.data, self.split_seed, own_numbers)
            notes = [*self._notes, *clips.notes]
            runs.append(replace(clips, fold=fold, group_column=self.group_column, notes=notes))
        return runs

    def load_one(self) -> LabelledClips:
        """
        Loads the clips for a single run.

        Raises:
            [`InputError`]: As in [`load`], and if there are several folds.
        """
        runs = self.load()
        if len(runs) > 1:
            folds = [clips.fold for clips in runs]
            raise InputError(f"--test_folds must name one fold here, got --fold_column with the folds {folds}")
        return runs[0]

    def check(self, runs: list[LabelledClips], sampling_rate: int) -> list[LabelledClips]:
        """
        Reads every clip once, if `check_clips`, leaves out those that cannot be read, as `bad_clips` says, and prints a summary
        of each run.

        Args:
            runs (`list[LabelledClips]`): The clips of each fold.
            sampling_rate (`int`): The feature extractor's rate in hertz.

        Returns:
            `list[LabelledClips]`: the clips of each fold that can be read.

        Raises:
            [`InputError`]: If clips cannot be read and are not to be skipped, or are too many, or a class or a split has no
                clip without them.
        """
        if self.check_clips:
            # The other folds have the same clips.
            clips = AudioColumn(runs[0].splits.values())
            found = check_all(clips, sampling_rate)
            numbers = np.concatenate([runs[0].numbers[split] for split in runs[0].splits]).tolist()
            bad = {
                numbers[place]: (name_in_data(name, f"row {numbers[place]} of {self.data}"), reason)
                for place, (name, reason) in found.bad.items()
            }
            refuse_bad_clips(list(bad.values()), len(clips), self.bad_clips, self.max_bad_share)
            runs = [
                replace(own.without(bad), num_short=len(found.short), defects=list(found.notes.values()))
                for own in runs
            ]
        if is_main_process():
            for own in runs:
                print(own.summarize())
        return runs

    def _read_tables(self, source: str) -> dict[str, datasets.Dataset]:
        """The splits of a source, by their usual names, with the columns audio, label and those that arguments name."""
        path = Path(source)
        if path.is_dir() and not any(path.glob("dataset_*.json")):
            return self._read_folder(path)
        opened = open_source(source, split=None)
        opened = opened if isinstance(opened, dict) else {"train": opened}
        wanted = {"audio": self.audio_column, "label": self.label_column}
        wanted |= {name: column for name in MORE_COLUMNS if (column := getattr(self, f"{name}_column")) is not None}
        tables: dict[str, datasets.Dataset] = {}
        unused: dict[str, None] = {}
        for name, table in opened.items():
            for column in wanted.values():
                if column not in table.column_names:
                    raise InputError(f"{source}: needs a column {column}, found {table.column_names}")
            split = next((split for split, names in SPLIT_FOLDERS.items() if name.lower() in names), name)
            if split in tables:
                raise InputError(f"{source}: must have one split {split}, found {', '.join(opened)}")
            unused |= dict.fromkeys(column for column in table.column_names if column not in wanted.values())
            table = _named_as(table, wanted)
            tables[split] = undecoded(table, source)
        self._note_unused(source, list(unused))
        return tables

    def _note_unused(self, source: str, columns: list[str]) -> None:
        if columns:
            self._notes.append(f"columns of {source} that are not used: {name_some(columns, 20)}")

    def _read_folder(self, data_dir: Path) -> dict[str, datasets.Dataset]:
        file_column = FILE_COLUMN if self.audio_column == "audio" else self.audio_column
        columns = FolderColumns(file_column, self.label_column, self.group_column, self.fold_column)
        content = read_folder(data_dir, columns)
        if self.fold_column is not None and len(content.splits) > 1:
            raise InputError(
                f"{data_dir}: --fold_column needs a metadata.csv with the columns file_name, label and {self.fold_column}, and "
                "no folders of splits"
            )
        self._notes += content.notes
        self._note_unused(str(data_dir), content.unused_columns)
        return {split: self._as_table(data_dir, split, clips) for split, clips in content.splits.items()}

    def _as_table(self, data_dir: Path, split: str, clips: list[FolderClip]) -> datasets.Dataset:
        labels: list[Any] = [clip.label for clip in clips]
        if self.multi_label:
            labels = [
                label
                if isinstance(label, list)
                else [clean_text(part) for part in str(label).split(LABEL_SEPARATOR) if part.strip()]
                for label in labels
            ]
        elif several := [label for label in labels if isinstance(label, str) and LABEL_SEPARATOR in label]:
            warnings.warn(
                f"{data_dir}: {quote(several[0])} is read as one label; for several labels a clip, pass --multi_label true",
                stacklevel=2,
            )
        lists = sum(isinstance(label, list) for label in labels)
        if 0 < lists < len(labels):
            raise InputError(
                f"{data_dir}: {lists} of {len(labels)} clips of {split} have a list of labels, the others one label"
            )
        # A column has one type.
        flat = [one for label in labels for one in (label if lists else [label])]
        if any(isinstance(one, str) for one in flat):
            labels = [list(map(str, label)) if lists else str(label) for label in labels]
        columns: dict[str, list[Any]] = {"audio": [name_of(clip.path) for clip in clips], "label": labels}
        for name in MORE_COLUMNS:
            if getattr(self, f"{name}_column") is not None:
                columns[name] = [getattr(clip, name) for clip in clips]
        return undecoded(datasets.Dataset.from_dict(columns), str(data_dir))

    @staticmethod
    def _only(tables: dict[str, datasets.Dataset], source: str) -> datasets.Dataset:
        if len(tables) > 1:
            raise InputError(f"{source}: has the splits {', '.join(tables)}; name one of them: {source}@split")
        return next(iter(tables.values()))


def _named_as(table: datasets.Dataset, wanted: Mapping[str, str]) -> datasets.Dataset:
    """The wanted columns, new name -> name. A new name may be that of another column."""
    table = table.select_columns(list(wanted.values()))
    if list(wanted) == list(wanted.values()):
        return table
    table = table.rename_columns({old: f"wanted {name}" for name, old in wanted.items()})
    return table.rename_columns({f"wanted {name}": name for name in wanted})


def label_clips(
    tables: dict[str, datasets.Dataset],
    source: str,
    seed: int = 0,
    numbers: Mapping[str, ClipNumbers] | None = None,
) -> LabelledClips:
    """
    Gives every label its class, checks all of them, takes the rows of each clip together, and draws the splits that are missing.

    Args:
        tables (`dict[str, datasets.Dataset]`):
            Splits ("train" at least) with the columns `audio` and `label`: names, whole numbers or a `ClassLabel`, or
            lists of these, or lists of a zero or a one for every class. The classes are named by the `ClassLabel`, else by
            the training clips' labels, else by the places in the lists. With a column `group`, no group may be in two splits.
        source (`str`): The name of the data in messages.
        seed (`int`, *optional*, defaults to 0): Seed for drawing missing splits.
        numbers (`Mapping[str, ClipNumbers]`, *optional*): Those of [`number_clips`], if they are known.

    Raises:
        [`InputError`]: If there is no train split, a split is empty, a label is missing, unknown or out of range, a class
            has no training clip, there is only one class, too few clips to draw a split from, or a clip has different labels
            or is in different splits.
    """
    if "train" not in tables:
        raise InputError(f"{source}: has the splits {', '.join(tables)}, but no train")
    notes = [f"splits of {source} that are not used: {name_some(left)}"] if (left := [name for name in tables if name not in SPLIT_FOLDERS]) else []  # fmt: skip
    tables = {split: tables[split] for split in SPLIT_FOLDERS if split in tables}
    names, classes, is_multi_label = _encode_checked(tables, source)
    notes += _note_similar(names)

    found, rows = _find_clips(tables, classes, names, is_multi_label, source, numbers)
    new_type = datasets.ClassLabel(names=names)
    new_type = datasets.List(new_type) if is_multi_label else new_type
    parts = {}
    for split, table in tables.items():
        column: list[Any] = found.classes[split]
        column = column if is_multi_label else [label for (label,) in column]
        own = table.select_columns("audio")
        own = own if len(found.rows[split]) == len(own) else own.select(found.rows[split])
        parts[split] = (own.add_column("label", column, feature=new_type), np.array(found.rows[split]))
    missing = tuple(split for split in SPLIT_FOLDERS if split not in parts)
    if missing:
        train, own_rows = parts["train"]
        # Clips of several labels are drawn from all clips alike.
        strata = ["any" if is_multi_label else names[labels[0]] for labels in found.classes["train"]]
        groups = rows["train"].groups
        drawn = draw_missing_splits(
            found.classes["train"], strata, missing, seed, source,
            rows["train"].numbers.contents[own_rows].tolist(),
            None if groups is None else [groups[row] for row in own_rows],
        )  # fmt: skip
        parts |= {split: (train.select(indices), own_rows[indices]) for split, indices in drawn.items()}
    of_rows = {split: rows.get(split, rows["train"]) for split in parts}
    return LabelledClips(
        {split: own for split, (own, _) in parts.items()},
        names,
        is_multi_label,
        drawn=missing,
        source=source,
        numbers={split: of_rows[split].numbers.files[kept] for split, (_, kept) in parts.items()},
        groups={
            split: [groups[row] for row in kept]
            for split, (_, kept) in parts.items()
            if (groups := of_rows[split].groups) is not None
        },
        shared=found.shared,
        notes=[*notes, *found.notes],
    )


def _encode_checked(tables: Mapping[str, datasets.Dataset], source: str) -> tuple[list[str], Classes, bool]:
    """The name of each class, the classes of each row, and whether these are several; checked."""
    for split, table in tables.items():
        if not len(table):
            raise InputError(f"{source}: the split {split} is empty")
    tables = clean_labels(tables, source)
    is_multi_label = has_several_labels(tables["train"])
    for split, table in tables.items():
        if has_several_labels(table) and not is_multi_label:
            raise InputError(f"{source}: the split {split} has lists of labels, train has one label a clip")
    names, classes = encode_labels(tables, source)
    counts = np.bincount([label for labels in classes["train"] for label in labels], minlength=len(names))
    if not counts.all():
        absent = [name for name, count in zip(names, counts, strict=True) if not count]
        raise InputError(f"{source}: no training clip has the labels {', '.join(absent)}")
    return names, classes, is_multi_label


def _note_similar(names: list[str]) -> list[str]:
    """A note on labels that differ in capitals or in spaces alone, which are different classes."""
    by_form: dict[str, list[str]] = {}
    for name in names:
        by_form.setdefault("".join(name.casefold().split()), []).append(name)
    similar = [" and ".join(map(quote, own)) for own in by_form.values() if len(own) > 1]
    return [f"labels that differ in capitals or spaces alone are different classes: {name_some(similar)}"] if similar else []  # fmt: skip


def _find_clips(
    tables: Mapping[str, datasets.Dataset],
    classes: Mapping[str, list[list[int]]],
    names: list[str],
    is_multi_label: bool,
    source: str,
    numbers: Mapping[str, ClipNumbers] | None,
) -> tuple[SplitClips, dict[str, SplitRows]]:
    if numbers is None:
        of_all, start, numbers = number_clips(AudioColumn(tables.values())), 0, {}
        for split, table in tables.items():
            numbers = {**numbers, split: of_all.select(np.arange(start, start + len(table)))}
            start += len(table)
    rows = {
        split: SplitRows(ClipNames(table, split), classes[split], numbers[split], _read_groups(table, split, source))
        for split, table in tables.items()
    }
    return find_clips_of_rows(rows, names, is_multi_label), rows


def _read_groups(table: datasets.Dataset, split: str, source: str) -> list[str] | None:
    """The groups of a table's rows, as text."""
    if "group" not in table.column_names:
        return None
    groups = []
    for row, group in enumerate(table["group"][:]):
        text = text_of(group)
        if not text:
            raise InputError(f"{source}: {split}, row {row} has no group, got {quote(group)}")
        groups.append(text)
    return groups
