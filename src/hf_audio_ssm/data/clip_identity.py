# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Which rows are the same clip: rows that name one file, by whatever path, and files or bytes with equal content. Rows are not
clips: a clip that is on both sides of a split is not held out.
"""

import hashlib
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

import datasets
import numpy as np

from ..audio.decoding import clip_name, read_seconds
from ..common.errors import ClipError


# Bytes that are read in the middle and at the end of files of equal size, before all of them are.
PART = 16_384
# Rows of a data set that are read together.
ROWS = 64
# Bytes at the beginning of a file that are not its samples.
HEADER = 512


class ClipNumbers(NamedTuple):
    """
    Numbers of clips, equal where the clips are.

    Args:
        files (`np.ndarray` of shape `(rows,)`): Equal for rows of one file, or of equal bytes.
        contents (`np.ndarray` of shape `(rows,)`): Equal also for files of equal content.
        are_named (`np.ndarray` of shape `(rows,)`): Whether the rows name a file, instead of holding its bytes.
    """

    files: np.ndarray
    contents: np.ndarray
    are_named: np.ndarray

    def select(self, rows: np.ndarray) -> "ClipNumbers":
        """The numbers of some rows."""
        return ClipNumbers(*(own[rows] for own in self))


def number_clips(clips: Sequence[str | os.PathLike | Mapping[str, Any]], by_content: bool = True) -> ClipNumbers:
    """
    Numbers clips so that equal clips have equal numbers. Only of files of equal size is any content read, and all of it only if
    parts of it are equal.

    Args:
        clips (sequence): Paths, or rows of an undecoded column of `datasets.Audio`: mappings with `bytes` and `path`.
        by_content (`bool`, *optional*, defaults to `True`): Whether to compare contents, not only files.

    Returns:
        [`ClipNumbers`]: with a number for each clip. Clips that are missing, no audio, or uncompressed silence differ
        from all others.
    """
    sources = list(_sources(clips))
    keys, sizes = zip(*map(_key_and_size, sources), strict=True) if sources else ((), ())
    # A file that several rows name is read once.
    first_of_key: dict[Any, int] = {}
    rows_of_key = [first_of_key.setdefault(key, row) for row, key in enumerate(keys)]
    by_size: dict[int, list[int]] = {}
    for row in first_of_key.values():
        if sizes[row] and by_content:
            by_size.setdefault(sizes[row], []).append(row)
    content_of_row = {row: row for row in first_of_key.values()}
    for rows in by_size.values():
        for part in _split([sources[row] for row in rows], clips, whole=False):
            for same in _split(part, clips, whole=True):
                equal = [source.row for source in same]
                # Error pages that a download left in place of clips are equal without being a clip.
                if _is_audio(clips[equal[0]]):
                    content_of_row |= dict.fromkeys(equal, equal[0])
    contents = [content_of_row[row] for row in rows_of_key]
    # Bytes have no name of their own: their content is all that they are.
    files = [content if keys[row][0] == "row" else row for row, content in zip(rows_of_key, contents, strict=True)]
    are_named = [keys[row][0] != "row" for row in rows_of_key]
    return ClipNumbers(np.array(files, np.int64), np.array(contents, np.int64), np.array(are_named, bool))


class _Source(NamedTuple):
    row: int
    path: str | None
    # Of bytes; None for a path.
    size: int | None


def _sources(clips: Sequence[Any]) -> Iterable[_Source]:
    for row, clip in enumerate(clips):
        if isinstance(clip, Mapping):
            content = clip.get("bytes")
            yield _Source(row, clip.get("path"), None if content is None else len(content))
        else:
            yield _Source(row, None if clip is None else os.fspath(clip), None)


def _key_and_size(clip: _Source) -> tuple[Any, int]:
    """What tells the clip from others: its row, or its file; and its size in bytes, 0 if there is nothing to compare."""
    if clip.size is not None or clip.path is None:
        return ("row", clip.row), clip.size or 0
    try:
        # Two names of one file have the same.
        status = os.stat(clip.path)
    except (OSError, ValueError):
        return ("missing", os.path.abspath(clip.path)), 0
    return ("file", status.st_dev, status.st_ino), status.st_size


def _split(sources: list[_Source], clips: Sequence[Any], whole: bool) -> list[list[_Source]]:
    """The sources of equal content, or of equal parts of it, in groups of two or more."""
    if len(sources) < 2:
        return []
    groups: dict[Any, list[_Source]] = {}
    for source in sources:
        groups.setdefault(_digest(source, clips, whole), []).append(source)
    return [equal for equal in groups.values() if len(equal) > 1]


def _is_audio(clip: Any) -> bool:
    try:
        return read_seconds(clip) > 0
    except ClipError:
        return False


def _digest(source: _Source, clips: Sequence[Any], whole: bool) -> bytes | object:
    """A digest of a clip's content, or of parts of it. What cannot be read, and silence, equals nothing."""
    digest = _digest_of_all if whole else _digest_of_parts
    try:
        if source.size is not None:
            return digest(io.BytesIO(clips[source.row]["bytes"]))
        with open(source.path or "", "rb") as file:
            return digest(file)
    except OSError:
        return object()


def _digest_of_all(file: BinaryIO) -> bytes | object:
    digest, values = hashlib.sha256(file.read(HEADER)), set()
    while block := file.read(2**20):
        digest.update(block)
        values |= {block[0]} if block.count(block[0]) == len(block) else {-1}
    # Recordings of nothing are equal without being the same.
    return object() if len(values) == 1 and -1 not in values else digest.digest()


def _digest_of_parts(file: BinaryIO) -> bytes:
    size = file.seek(0, os.SEEK_END)
    digest = hashlib.sha256()
    for start in (size // 2, max(0, size - PART)):
        file.seek(start)
        digest.update(file.read(PART))
    return digest.digest()


class ClipNames(Sequence[str]):
    """
    The names of a table's clips in messages, read when they are asked for.

    Args:
        table (`datasets.Dataset`): With a column `audio`.
        split (`str`): The table's split.
    """

    def __init__(self, table: datasets.Dataset, split: str):
        self.table, self.split = table, split

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: Any) -> Any:
        return f"{clip_name(self.table[int(index)]['audio'])} (split {self.split}, row {index})"


class AudioColumn(Sequence[Any]):
    """
    The undecoded clips of data sets as a sequence, without keeping their bytes in memory.

    Args:
        tables (`Iterable[datasets.Dataset]`): Data sets with a column `audio`, one after the other.
    """

    def __init__(self, tables: Iterable[datasets.Dataset]):
        self.tables = [table.select_columns("audio").with_format(None) for table in tables]
        self.ends = np.cumsum([len(table) for table in self.tables])

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def __getitem__(self, index: Any) -> Any:
        table = int(np.searchsorted(self.ends, index, side="right"))
        return self.tables[table][int(index) - (int(self.ends[table - 1]) if table else 0)]["audio"]

    def __iter__(self) -> Any:
        for table in self.tables:
            # Rows one by one take ten times as long, and all at once the memory of all bytes.
            for start in range(0, len(table), ROWS):
                yield from table[start : start + ROWS]["audio"]
