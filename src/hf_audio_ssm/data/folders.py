# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Folders of audio, with labels and splits or without.

The layout is that of the `audiofolder` of datasets, which itself needs torchcodec: split folders `train`, `validation` and
`test`, each with either one folder of clips per label, or a `metadata.csv` with the columns `file_name` and `label`.
Without split folders, the folder itself holds the labels' folders or the `metadata.csv`.
"""

import csv
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..audio.decoding import AUDIO_SUFFIXES
from ..common.errors import ClipError, InputError


SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
# Share of the training clips that makes a missing split.
HELD_OUT = 0.15


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
        elif path.name != "metadata.csv":
            others[path.suffix.lower() or path.name] += 1
    if others:
        counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
        warnings.warn(
            f"Not used in {folder}, as their names do not end in {' '.join(AUDIO_SUFFIXES)}: {counts}", stacklevel=2
        )
    if not paths:
        raise InputError(f"{folder}: no audio found (files ending in {' '.join(AUDIO_SUFFIXES)})")
    return paths


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str | None]]]:
    """
    The columns and the rows of a metadata.csv.

    Raises:
        [`InputError`]: If the file is not UTF-8, or the column `file_name` is missing.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or [])
            rows = list(reader)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: must be text in UTF-8 ({error})") from error
    if "file_name" not in columns:
        raise InputError(f"{path}: needs a column file_name, found {columns}")
    return columns, rows


def read_metadata(path: Path) -> list[tuple[Path, str]] | None:
    """
    (clip, label) of each row of a metadata.csv, or None if it has no label column.

    Raises:
        [`InputError`]: If the file cannot be read, or a row has no label or no file below the csv's folder.
    """
    columns, rows = read_rows(path)
    if "label" not in columns:
        return None
    clips = []
    for number, row in enumerate(rows, start=2):
        file_name, label = row["file_name"] or "", (row["label"] or "").strip()
        clip = path.parent / file_name
        if not label:
            raise InputError(f"{path}, row {number}: no label for {file_name!r}")
        # A link may lead out of the folder.
        if not Path(os.path.abspath(clip)).is_relative_to(os.path.abspath(path.parent)) or not clip.is_file():
            raise InputError(f"{path}, row {number}: no file {file_name!r} in {path.parent}")
        clips.append((clip, label))
    return clips


def find_clips(folder: Path, data_dir: Path) -> list[tuple[Path, str]]:
    """
    (clip, label) of each clip of a split: from its metadata.csv, else from that of `data_dir`, else from the labels' folders.

    Raises:
        [`InputError`]: If there is no audio, or a clip has no label.
    """
    for parent in (folder, data_dir):
        if (parent / "metadata.csv").is_file():
            clips = read_metadata(parent / "metadata.csv")
            if clips is not None:
                return [(path, label) for path, label in clips if folder in path.parents]
    clips = []
    for path in list_audio(folder):
        if path.parent == folder:
            raise ClipError(path, "has no label; put it into a folder named as its label, or write a metadata.csv")
        clips.append((path, path.relative_to(folder).parts[0]))
    return clips


def split_folders(data_dir: Path) -> dict[str, Path]:
    """
    The folders of the splits in `data_dir`; `data_dir` itself is train if it has none.

    Raises:
        [`InputError`]: If `data_dir` is no folder, or has folders of splits, but none of train.
    """
    if not data_dir.is_dir():
        raise InputError(f"{data_dir}: no such folder")
    folders = sorted(path for path in data_dir.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = {
        split: folder for split, names in SPLIT_FOLDERS.items() for folder in folders if folder.name.lower() in names
    }
    if found and "train" not in found and len(found) == len(folders):
        raise InputError(f"{data_dir}: has the folders {[folder.name for folder in folders]}, but no folder train")
    return found if "train" in found else {"train": data_dir}


def draw_splits(labels: Sequence[str], missing: Sequence[str], seed: int, source: str) -> dict[str, list[int]]:
    """
    Draws the missing splits from train, label by label.

    Args:
        labels (`Sequence[str]`): The label of each training clip.
        missing (`Sequence[str]`): The splits to draw.
        seed (`int`): Seed for the draw.
        source (`str`): The name of the training clips in messages.

    Returns:
        `dict[str, list[int]]`: indices of the clips of each missing split, and of those that stay in "train".

    Raises:
        [`InputError`]: If a label has too few clips.
    """
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[int]] = {"train": [], **{split: [] for split in missing}}
    for label in sorted(set(labels)):
        indices = [index for index, other in enumerate(labels) if other == label]
        if len(indices) <= len(missing):
            raise InputError(
                f"{source}: label {label!r} has {len(indices)} clips; to draw {' and '.join(missing)} from them, at least "
                f"{len(missing) + 1} are needed"
            )
        indices = [indices[i] for i in rng.permutation(len(indices))]
        count = max(1, round(HELD_OUT * len(indices)))
        for split in missing:
            drawn[split].extend(indices[:count])
            indices = indices[count:]
        drawn["train"].extend(indices)
    return drawn


def find_splits(data_dir: Path, seed: int) -> dict[str, list[tuple[Path, str]]]:
    """
    (clip, label) of the clips of train, validation and test. A split that `data_dir` lacks is drawn from train, label by
    label and by `seed`.

    Raises:
        [`InputError`]: If there is no such folder or no train split, fewer than two labels, a label that train lacks, or too
            few clips to draw a split from.
    """
    folders = split_folders(data_dir)
    splits = {split: find_clips(folder, data_dir) for split, folder in folders.items()}

    for split, clips in splits.items():
        if not clips:
            raise InputError(f"{folders[split]}: metadata.csv lists no clip of this folder")
    labels = sorted({label for _, label in splits["train"]})
    if len(labels) < 2:
        raise InputError(f"{folders['train']}: a classifier needs clips of at least 2 labels, found {labels}")
    for path, label in (clip for clips in splits.values() for clip in clips):
        if label not in labels:
            raise ClipError(path, f"has the label {label!r}, which no training clip has ({', '.join(labels)})")

    missing = [split for split in SPLIT_FOLDERS if split not in splits]
    if missing:
        train = splits["train"]
        for split, indices in draw_splits([label for _, label in train], missing, seed, str(folders["train"])).items():
            splits[split] = [train[index] for index in indices]
    return splits
