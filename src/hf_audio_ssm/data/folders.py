# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Folders of audio, with labels and splits or without.

The layout is that of the `audiofolder` of datasets, which itself needs torchcodec: split folders `train`, `validation` and
`test`, each with either one folder of clips per label, or a `metadata.csv` (or .jsonl, or .parquet) with the columns
`file_name` and `label`. Without split folders, the folder itself holds the labels' folders or the metadata file, whose column
`split`, if it has one, divides the clips.
"""

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..audio.decoding import AUDIO_SUFFIXES
from ..common.errors import ClipError, InputError
from .clip_identity import number_clips
from .metadata import (
    FILE_COLUMN,
    METADATA_FILES,
    MetadataTable,
    clean_text,
    find_metadata,
    label_fault,
    quote,
)
from .metadata import read_rows as read_rows
from .splits import SplitRows, draw_missing_splits, find_clips_of_rows
from .splits import draw_splits as draw_splits
from .summary import name_some


SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
# The column of a metadata file that names the split of each clip.
SPLIT_COLUMN = "split"


def _list_files(folder: Path) -> Iterator[Path]:
    """The files in a folder and below it that are not hidden. Links are followed, and each folder is listed once."""
    seen, own = set(), [folder]
    linked: list[Path] = []
    # Links last: a folder within this one is listed at its own place.
    while own or linked:
        folder = own.pop() if own else linked.pop(0)
        if (real := folder.resolve()) in seen:
            continue
        seen.add(real)
        try:
            entries = sorted(folder.iterdir())
        except PermissionError:
            continue
        for path in entries:
            if path.name.startswith("."):
                continue
            if path.is_file():
                yield path
            elif path.is_dir():
                (linked if path.is_symlink() else own).append(path)


def list_audio(folder: Path) -> list[Path]:
    """
    The audio files in a folder and below it, sorted. Links are followed and hidden files skipped; a warning counts other files.

    Raises:
        [`InputError`]: If there is no such folder, or it holds no audio.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    paths = []
    others: Counter[str] = Counter()
    for path in sorted(_list_files(folder)):
        if path.suffix.lower() in AUDIO_SUFFIXES:
            paths.append(path)
        elif path.name not in METADATA_FILES:
            others[path.suffix.lower() or path.name] += 1
    if others:
        counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
        warnings.warn(
            f"Not used in {folder}, as their names do not end in {' '.join(AUDIO_SUFFIXES)}: {counts}", stacklevel=2
        )
    if not paths:
        raise InputError(f"{folder}: no audio found (files ending in {' '.join(AUDIO_SUFFIXES)})")
    return paths


def name_of(path: Path) -> str:
    """
    A path as text for a data set.

    Raises:
        [`ClipError`]: If its name is not UTF-8.
    """
    try:
        return str(path).encode().decode()
    except UnicodeEncodeError as error:
        raise ClipError(path, "has a name that is not UTF-8; rename it") from error


def read_metadata(path: Path) -> list[tuple[Path, Any]] | None:
    """
    (clip, label) of each row of a metadata file, or None if it has no label column.

    Raises:
        [`InputError`]: If the file cannot be read, or a row has no label or no file below the file's folder.
    """
    table = MetadataTable(path)
    return _labels_of(table, "label") if "label" in table.columns else None


def _labels_of(table: MetadataTable, label_column: str) -> list[tuple[Path, Any]]:
    clips = []
    for index, file, label in table.values(label_column):
        labels = label if isinstance(label, list) else [label]
        for one in labels:
            if one is None or one == "":
                name = table.rows[index][table.file_column]
                raise InputError(f"{table.where(index)}: no label for {quote(name)}")
            if fault := label_fault(one):
                raise InputError(f"{table.where(index)}: has {fault}")
        clips.append((file, [clean_text(one) if isinstance(one, str) else one for one in label] if isinstance(label, list) else label))  # fmt: skip
    return clips


@dataclass(frozen=True)
class FolderColumns:
    """
    The columns of metadata files to read.

    Args:
        file (`str`, *optional*, defaults to `"file_name"`): Names of the files.
        label (`str`, *optional*, defaults to `"label"`): Labels.
        group (`str`, *optional*): Groups that splits keep apart.
        fold (`str`, *optional*): Folds.
    """

    file: str = FILE_COLUMN
    label: str = "label"
    group: str | None = None
    fold: str | None = None


@dataclass(frozen=True)
class FolderClip:
    """
    A labelled clip in a folder.

    Args:
        path (`Path`): The file.
        label (`str`, `int` or a list of these): The label, or labels.
        group (`str`, *optional*): Its group, if groups are read.
        fold (`str`, *optional*): Its fold, if folds are read.
    """

    path: Path
    label: Any
    group: str | None = None
    fold: str | None = None


@dataclass
class FolderContent:
    """
    What a folder holds.

    Args:
        splits (`dict[str, list[FolderClip]]`): Split -> its clips.
        notes (`list[str]`): What is not used of the audio.
        unused_columns (`list[str]`): Columns of metadata files that are not used.
    """

    splits: dict[str, list[FolderClip]]
    notes: list[str]
    unused_columns: list[str]


def read_folder(data_dir: Path, columns: FolderColumns = FolderColumns()) -> FolderContent:
    """
    The labelled clips of a folder, in the splits of its folders, or of the column `split` of its metadata file.

    Labels come from the metadata file of a split's folder, else from that of `data_dir`, else from the labels' folders.

    Args:
        data_dir (`Path`): The folder.
        columns ([`FolderColumns`], *optional*): The columns of metadata files.

    Raises:
        [`InputError`]: If there is no audio, a clip has no label, a metadata file cannot be used, or the splits contradict.
    """
    folders = split_folders(data_dir)
    notes = _unused_folders(data_dir, folders)
    root = find_metadata(data_dir)
    tables = {data_dir: MetadataTable(root, columns.file)} if root is not None else {}
    for folder in folders.values():
        own = None if folder == data_dir else find_metadata(folder)
        if own is not None:
            tables[folder] = MetadataTable(own, columns.file)
    notes += _unread_metadata(data_dir, [table.path for table in tables.values()])
    _check_columns(data_dir, tables.values(), columns)
    splits: dict[str, list[FolderClip]] = {}
    for split, folder in folders.items():
        own_tables = [tables[parent] for parent in dict.fromkeys((folder, data_dir)) if parent in tables]
        clips = _find_labels(folder, own_tables, columns)
        clips = _add_values(clips, own_tables, columns)
        splits[split] = clips
        notes += _unlisted(folder, clips, own_tables, columns)
    used = {columns.file, columns.label, columns.group, columns.fold}
    if root is not None and SPLIT_COLUMN in tables[data_dir].columns and SPLIT_COLUMN not in used:
        if columns.fold is None:
            splits = _split_by_column(splits, tables[data_dir], has_folders=data_dir not in folders.values())
            used.add(SPLIT_COLUMN)
    names = dict.fromkeys(name for table in tables.values() for name in table.columns)
    return FolderContent(splits, notes, [name for name in names if name not in used])


def _check_columns(data_dir: Path, tables: Iterable[MetadataTable], columns: FolderColumns) -> None:
    """Checks that columns that the arguments name are there."""
    tables = list(tables)
    wanted = {"--label_column": columns.label, "--group_column": columns.group, "--fold_column": columns.fold}
    for argument, column in wanted.items():
        if column is None or column == FolderColumns.label or any(column in table.columns for table in tables):
            continue
        if not tables:
            raise InputError(f"{data_dir}: {argument} needs a metadata.csv with the columns file_name and {column}")
        found = "; ".join(f"{list(table.columns)} in {table.path}" for table in tables)
        raise InputError(f"{data_dir}: needs a column {column} for {argument}, found {found}")


def _find_labels(folder: Path, tables: Sequence[MetadataTable], columns: FolderColumns) -> list[FolderClip]:
    for table in tables:
        if columns.label in table.columns:
            clips = _labels_of(table, columns.label)
            return [FolderClip(path, label) for path, label in clips if folder in path.parents]
    found = []
    for path in list_audio(folder):
        if path.parent == folder:
            raise ClipError(path, "has no label; put it into a folder named as its label, or write a metadata.csv")
        label = path.relative_to(folder).parts[0]
        if fault := label_fault(label):
            raise ClipError(path, f"has {fault}")
        found.append(FolderClip(path, clean_text(label)))
    return found


def _add_values(clips: list[FolderClip], tables: Sequence[MetadataTable], columns: FolderColumns) -> list[FolderClip]:
    """Gives each clip its group and its fold."""
    for name, column in (("group", columns.group), ("fold", columns.fold)):
        table = next((table for table in tables if column in table.columns), None)
        if table is None or column is None:
            continue
        values = table.value_of_files(column)
        for clip in clips:
            if os.path.abspath(clip.path) not in values:
                raise ClipError(clip.path, f"has no {name}: {table.path} does not list it")
        found = [values[os.path.abspath(clip.path)] for clip in clips]
        if name == "group":
            clips = [replace(clip, group=value) for clip, value in zip(clips, found, strict=True)]
        else:
            clips = [replace(clip, fold=value) for clip, value in zip(clips, found, strict=True)]
    return clips


def _split_by_column(
    splits: dict[str, list[FolderClip]], table: MetadataTable, has_folders: bool
) -> dict[str, list[FolderClip]]:
    """Divides the clips by the column `split`, which may not contradict folders of splits."""
    usual = {name: split for split, names in SPLIT_FOLDERS.items() for name in names}
    split_of = {}
    for file, value in table.value_of_files(SPLIT_COLUMN).items():
        if value.lower() not in usual:
            raise ClipError(file, f"has the split {quote(value)} in {table.path}, expected one of {', '.join(usual)}")
        split_of[file] = usual[value.lower()]
    divided: dict[str, list[FolderClip]] = {split: [] for split in SPLIT_FOLDERS}
    for folder_split, clips in splits.items():
        for clip in clips:
            split = split_of.get(os.path.abspath(clip.path), folder_split if has_folders else None)
            if split is not None and has_folders and split != folder_split:
                raise ClipError(clip.path, f"is in a folder of {folder_split}, but {table.path} says {split}")
            if split is not None:
                divided[split].append(clip)
    return {split: clips for split, clips in divided.items() if clips or split in splits}


def _unlisted(
    folder: Path, clips: Iterable[FolderClip], tables: Sequence[MetadataTable], columns: FolderColumns
) -> list[str]:
    """A note on the audio files that a metadata file leaves out of the clips."""
    deciding = [columns.label, *([SPLIT_COLUMN] if columns.fold is None else [])]
    table = next((table for table in tables if any(column in table.columns for column in deciding)), None)
    if table is None:
        return []
    listed = (
        {os.path.realpath(file) for file in table.files}
        if columns.label not in table.columns
        else {os.path.realpath(clip.path) for clip in clips}
    )
    left = [
        path
        for path in sorted(_list_files(folder))
        if path.suffix.lower() in AUDIO_SUFFIXES and os.path.realpath(path) not in listed
    ]
    if not left:
        return []
    return [
        f"{len(left)} audio files are not used, as {table.path} does not list them: {name_some([path.relative_to(folder) for path in left])}"
    ]


def _unused_folders(data_dir: Path, folders: dict[str, Path]) -> list[str]:
    """A note on audio beside the folders of splits."""
    if data_dir in folders.values():
        return []
    left = []
    for path in sorted(data_dir.iterdir()):
        if path.name.startswith(".") or path in folders.values():
            continue
        files = _list_files(path) if path.is_dir() else [path]
        if any(file.suffix.lower() in AUDIO_SUFFIXES for file in files):
            left.append(path.name)
    return [f"audio in {data_dir} that is in no folder of a split is not used: {name_some(left)}"] if left else []


def _unread_metadata(data_dir: Path, read: Sequence[Path]) -> list[str]:
    """A note on metadata files deeper in the folder."""
    found = (path for path in _list_files(data_dir) if path.name in METADATA_FILES)
    left = sorted(str(path.relative_to(data_dir)) for path in found if path not in read)
    return [f"metadata files that are not read: {name_some(left)}"] if left else []


def find_clips(folder: Path, data_dir: Path) -> list[tuple[Path, Any]]:
    """
    (clip, label) of each clip of a split: from its metadata file, else from that of `data_dir`, else from the labels' folders.

    Raises:
        [`InputError`]: If there is no audio, or a clip has no label.
    """
    paths = [path for parent in dict.fromkeys((folder, data_dir)) if (path := find_metadata(parent)) is not None]
    clips = _find_labels(folder, [MetadataTable(path) for path in paths], FolderColumns())
    return [(clip.path, clip.label) for clip in clips]


def split_folders(data_dir: Path) -> dict[str, Path]:
    """
    The folders of the splits in `data_dir`; `data_dir` itself is train if it has none.

    Raises:
        [`InputError`]: If `data_dir` is no folder, has several folders of a split, or has folders of splits, but none of train.
    """
    if not data_dir.is_dir():
        raise InputError(f"{data_dir}: no such folder")
    folders = sorted(path for path in data_dir.iterdir() if path.is_dir() and not path.name.startswith("."))
    found: dict[str, Path] = {}
    for split, names in SPLIT_FOLDERS.items():
        own = [folder for folder in folders if folder.name.lower() in names]
        if own:
            found[split] = own[0]
        if len(own) > 1 and any(folder.name.lower() in SPLIT_FOLDERS["train"] for folder in folders):
            raise InputError(
                f"{data_dir}: must have one folder of {split}, found {', '.join(path.name for path in own)}"
            )
    if found and "train" not in found and len(found) == len(folders):
        raise InputError(f"{data_dir}: has the folders {[folder.name for folder in folders]}, but no folder train")
    return found if "train" in found else {"train": data_dir}


def _as_rows(splits: dict[str, list[FolderClip]], index: dict[str, int], has_groups: bool) -> dict[str, SplitRows]:
    """The clips of each split as rows, with the class of each label in `index`."""
    numbers = number_clips([clip.path for clips in splits.values() for clip in clips])
    rows: dict[str, SplitRows] = {}
    start = 0
    for split, clips in splits.items():
        own = numbers.select(np.arange(start, start + len(clips)))
        groups = [str(clip.group) for clip in clips] if has_groups else None
        classes = [[index[str(clip.label)]] for clip in clips]
        rows[split] = SplitRows([str(clip.path) for clip in clips], classes, own, groups)
        start += len(clips)
    return rows


def find_splits(data_dir: Path, seed: int, group_column: str | None = None) -> dict[str, list[tuple[Path, str]]]:
    """
    (clip, label) of the clips of train, validation and test. A split that `data_dir` lacks is drawn from train, label by
    label and by `seed`. A warning tells what is not used.

    Args:
        data_dir (`Path`): The folder.
        seed (`int`): Seed for the draw.
        group_column (`str`, *optional*): Column of the metadata file with groups that the splits keep apart.

    Raises:
        [`InputError`]: If there is no such folder or no train split, fewer than two labels, a label that train lacks, a clip
            with several labels or in several splits, or too few clips to draw a split from.
    """
    content = read_folder(data_dir, FolderColumns(group=group_column))
    splits = content.splits
    folders = split_folders(data_dir)
    for split, clips in splits.items():
        if not clips:
            raise InputError(f"{folders.get(split, data_dir)}: the metadata file lists no clip of {split}")
    if "train" not in splits:
        raise InputError(f"{data_dir}: has the splits {', '.join(splits)}, but no train")
    for clip in (clip for clips in splits.values() for clip in clips):
        if isinstance(clip.label, list):
            raise ClipError(clip.path, f"has the labels {quote(clip.label)}, expected one")
    labels = sorted({str(clip.label) for clip in splits["train"]})
    train_source = str(folders["train"])
    if len(labels) < 2:
        raise InputError(f"{train_source}: a classifier needs clips of at least 2 labels, found {labels}")
    index = {label: number for number, label in enumerate(labels)}
    for clip in (clip for clips in splits.values() for clip in clips):
        if str(clip.label) not in index:
            raise ClipError(
                clip.path,
                f"has the label {quote(str(clip.label))}, which no training clip has ({name_some(labels, 20)})",
            )

    rows = _as_rows(splits, index, has_groups=group_column is not None)
    found = find_clips_of_rows(rows, labels, is_multi_label=False)
    for note in [*content.notes, *found.notes]:
        warnings.warn(note, stacklevel=2)
    result = {
        split: [(splits[split][row].path, str(splits[split][row].label)) for row in found.rows[split]]
        for split in splits
    }
    missing = [split for split in SPLIT_FOLDERS if split not in result]
    if missing:
        train, kept = result["train"], found.rows["train"]
        all_groups = rows["train"].groups
        drawn = draw_missing_splits(
            found.classes["train"],
            [label for _, label in train],
            missing,
            seed,
            train_source,
            rows["train"].numbers.contents[kept].tolist(),
            None if all_groups is None else [all_groups[row] for row in kept],
        )
        for split, indices in drawn.items():
            result[split] = [train[index] for index in indices]
    return result
