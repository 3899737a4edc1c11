# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Labelled clips in splits, from folders, parquet, data sets saved to disk and the Hub, with one label each or several. All labels
are checked before training starts.
"""

import os
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from ..audio.decoding import check_clips
from ..common.errors import ClipError, InputError
from .arguments import LabelledDataFields
from .folders import SPLIT_FOLDERS, find_clips, read_rows, split_folders
from .label_encodings import draw_missing_splits, encode_labels, has_several_labels
from .sources import open_source, undecoded


# Separates the labels of a clip in a metadata.csv.
LABEL_SEPARATOR = ";"


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
    """

    splits: dict[str, datasets.Dataset]
    names: list[str]
    is_multi_label: bool
    fold: int | None = None
    drawn: tuple[str, ...] = ()

    @property
    def problem_type(self) -> str:
        """The `problem_type` of a model's configuration."""
        return "multi_label_classification" if self.is_multi_label else "single_label_classification"


@dataclass
class LabelledDataArguments(LabelledDataFields):
    """Labelled clips. HfArgumentParser reads the fields from the command line or a file."""

    def load(self) -> list[LabelledClips]:
        """
        Loads the clips: once, or once for each of `test_folds`.

        Raises:
            [`InputError`]: If the data cannot be read, or their labels cannot be used.
        """
        tables = self._read_tables(self.data)
        if self.fold_column is None:
            for split, source in (("validation", self.validation_data), ("test", self.test_data)):
                if source is not None:
                    tables[split] = self._only(self._read_tables(source), source)
            return [label_clips(tables, self.data, self.split_seed)]

        table = self._only(tables, self.data)
        try:
            folds = np.array([int(fold) for fold in table["fold"]])
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{self.data}: the column {self.fold_column} must hold whole numbers ({error})"
            ) from error
        found = sorted({int(fold) for fold in folds})
        runs = []
        for fold in self.test_folds or found:
            if fold not in found or len(found) == 1:
                raise InputError(
                    f"--test_folds {fold}: {self.data} has clips in the folds {found}, at least 2 are needed"
                )
            parts = {
                "train": table.select(np.flatnonzero(folds != fold)),
                "test": table.select(np.flatnonzero(folds == fold)),
            }
            runs.append(replace(label_clips(parts, self.data, self.split_seed), fold=fold))
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

    def check(self, runs: list[LabelledClips], sampling_rate: int) -> None:
        """
        Prints the number of clips and labels, and reads every clip once, if `check_clips`.

        Args:
            runs (`list[LabelledClips]`): The clips of each fold.
            sampling_rate (`int`): The feature extractor's rate in hertz.

        Raises:
            [`InputError`]: If a clip cannot be used.
        """
        for clips in runs:
            counts = ", ".join(f"{len(split)} clips to {name}" for name, split in clips.splits.items())
            print(f"{counts}, of {len(clips.names)} labels")
        if self.check_clips:
            check_clips([row["audio"] for split in runs[0].splits.values() for row in split], sampling_rate)

    def _read_tables(self, source: str) -> dict[str, datasets.Dataset]:
        """The splits of a source, by their usual names, with the columns audio, label and, with `fold_column`, fold."""
        path = Path(source)
        if path.is_dir() and not any(path.glob("dataset_*.json")):
            return {split: self._read_folder(folder, path) for split, folder in split_folders(path).items()}
        opened = open_source(source, split=None)
        opened = opened if isinstance(opened, dict) else {"train": opened}
        wanted = {"audio": self.audio_column, "label": self.label_column}
        if self.fold_column is not None:
            wanted["fold"] = self.fold_column
        tables = {}
        for name, table in opened.items():
            for column in wanted.values():
                if column not in table.column_names:
                    raise InputError(f"{source}: needs a column {column}, found {table.column_names}")
            split = next((split for split, names in SPLIT_FOLDERS.items() if name.lower() in names), name)
            table = table.select_columns(list(wanted.values()))
            table = table.rename_columns({old: new for new, old in wanted.items() if old != new})
            tables[split] = undecoded(table, source)
        return tables

    def _read_folder(self, folder: Path, data_dir: Path) -> datasets.Dataset:
        clips = find_clips(folder, data_dir)
        labels: list[Any] = [label for _, label in clips]
        if self.multi_label:
            labels = [[part.strip() for part in label.split(LABEL_SEPARATOR) if part.strip()] for label in labels]
        elif several := [label for label in labels if LABEL_SEPARATOR in label]:
            warnings.warn(
                f"{folder}: {several[0]!r} is read as one label; for several labels a clip, pass --multi_label true",
                stacklevel=2,
            )
        columns: dict[str, list[Any]] = {"audio": [str(path) for path, _ in clips], "label": labels}
        if self.fold_column is not None:
            metadata = data_dir / "metadata.csv"
            if not metadata.is_file() or folder != data_dir:
                raise InputError(
                    f"{data_dir}: --fold_column needs a metadata.csv with the columns file_name, label and fold, and no folders of splits"
                )
            found, rows = read_rows(metadata)
            if self.fold_column not in found:
                raise InputError(f"{metadata}: needs a column {self.fold_column}, found {found}")
            # By clip, as rows and clips may differ in order.
            folds = {os.path.normpath(data_dir / (row["file_name"] or "")): row[self.fold_column] for row in rows}
            for path, _ in clips:
                if os.path.normpath(path) not in folds:
                    raise ClipError(path, f"has no fold: {metadata} does not list it")
            columns["fold"] = [folds[os.path.normpath(path)] for path, _ in clips]
        return undecoded(datasets.Dataset.from_dict(columns), str(folder))

    @staticmethod
    def _only(tables: dict[str, datasets.Dataset], source: str) -> datasets.Dataset:
        if len(tables) > 1:
            raise InputError(f"{source}: has the splits {', '.join(tables)}; name one of them: {source}@split")
        return next(iter(tables.values()))


def label_clips(tables: dict[str, datasets.Dataset], source: str, seed: int = 0) -> LabelledClips:
    """
    Gives every label its class, checks all of them, and draws the splits that are missing.

    Args:
        tables (`dict[str, datasets.Dataset]`):
            Splits ("train" at least) with the columns `audio` and `label`: names, whole numbers or a `ClassLabel`, or
            lists of these, or lists of a zero or a one for every class. The classes are named by the `ClassLabel`, else by
            the training clips' labels, else by the places in the lists.
        source (`str`): The name of the data in messages.
        seed (`int`, *optional*, defaults to 0): Seed for drawing missing splits.

    Raises:
        [`InputError`]: If there is no train split, a split is empty, a label is missing, unknown or out of range, a class
            has no training clip, there is only one class, or too few clips to draw a split from.
    """
    if "train" not in tables:
        raise InputError(f"{source}: has the splits {', '.join(tables)}, but no train")
    tables = {split: tables[split] for split in SPLIT_FOLDERS if split in tables}
    is_multi_label = has_several_labels(tables["train"])
    for split, table in tables.items():
        if not len(table):
            raise InputError(f"{source}: the split {split} is empty")
        if has_several_labels(table) and not is_multi_label:
            raise InputError(f"{source}: the split {split} has lists of labels, train has one label a clip")
    names, classes = encode_labels(tables, source)
    counts = np.bincount([label for labels in classes["train"] for label in labels], minlength=len(names))
    if not counts.all():
        absent = [name for name, count in zip(names, counts, strict=True) if not count]
        raise InputError(f"{source}: no training clip has the labels {', '.join(absent)}")

    new_type = datasets.ClassLabel(names=names)
    new_type = datasets.List(new_type) if is_multi_label else new_type
    splits = {}
    for split, table in tables.items():
        column = classes[split] if is_multi_label else [label for (label,) in classes[split]]
        splits[split] = table.select_columns("audio").add_column("label", column, feature=new_type)
    missing = tuple(split for split in SPLIT_FOLDERS if split not in splits)
    if missing:
        # Clips of several labels are drawn from all clips alike.
        strata = ["any" if is_multi_label else names[labels[0]] for labels in classes["train"]]
        train = splits["train"]
        for split, indices in draw_missing_splits(classes["train"], strata, missing, seed, source).items():
            splits[split] = train.select(indices)
    return LabelledClips(splits, names, is_multi_label, drawn=missing)
