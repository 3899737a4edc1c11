# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Checkpoints that training continues from: a manifest names their files with sizes and hashes, and nothing in them runs code.
"""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from ..common.errors import InputError
from ..common.text_files import write_text
from ..common.whole_files import file_sha256


T = TypeVar("T")

MANIFEST = "manifest.json"
# In a checkpoint while it is written.
UNFINISHED = ".unfinished"
# Cards are rewritten at any time, and nothing reads them back.
NOT_LISTED = (MANIFEST, UNFINISHED, "README.md")


def _files_in(folder: Path) -> set[str]:
    """The files in a folder and its subfolders, by their paths in it."""
    found = set()
    for root, _, names in os.walk(folder):
        found |= {(Path(root) / name).relative_to(folder).as_posix() for name in names}
    return found - set(NOT_LISTED)


def begin_checkpoint(folder: Path) -> None:
    """Marks a checkpoint as unfinished, until [`write_manifest`]; what an earlier run left there is no longer whole."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / UNFINISHED).touch()
    (folder / MANIFEST).unlink(missing_ok=True)


def write_manifest(folder: Path) -> None:
    """Writes the sizes and the hashes of all files in a checkpoint: the last file that is written, which makes it complete."""
    files = {
        name: {"size": (folder / name).stat().st_size, "sha256": file_sha256(folder / name)}
        for name in sorted(_files_in(folder))
    }
    write_text(folder / MANIFEST, json.dumps({"files": files}, indent=2))
    (folder / UNFINISHED).unlink(missing_ok=True)


def check_manifest(folder: Path) -> None:
    """
    Checks that a checkpoint has the files of its manifest, unchanged, and no others. Hidden files, such as those of a file
    manager, are not read and may be there.

    Raises:
        [`InputError`]: If a file is missing, damaged or not of the checkpoint.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder")
    if not (folder / MANIFEST).is_file():
        raise InputError(
            f"{folder} is incomplete: {MANIFEST} is missing; a run that was stopped while it saved, or an earlier version, left it"
        )
    files = read_json(folder / MANIFEST).get("files")
    if not isinstance(files, dict) or not all(isinstance(entry, dict) for entry in files.values()):
        raise InputError(f"{folder / MANIFEST} is damaged: `files` must map names to sizes and hashes")
    found = _files_in(folder)
    if missing := sorted(set(files) - found):
        raise InputError(f"{folder} is incomplete: {missing[0]} is missing")
    if unknown := sorted(name for name in found - set(files) if not Path(name).name.startswith(".")):
        raise InputError(f"{folder} holds {unknown[0]}, which is not in its {MANIFEST}; remove it or the checkpoint")
    for name, entry in files.items():
        path = folder / name
        # Not a pipe or a device, which would never end.
        if not path.is_file():
            raise InputError(f"{folder} is damaged: {name} is no file")
        size = path.stat().st_size
        if size != entry.get("size"):
            raise InputError(f"{folder} is damaged: {name} has {size} bytes, not {entry.get('size')}")
        if file_sha256(path) != entry.get("sha256"):
            raise InputError(f"{folder} is damaged: {name} is not as it was saved")


def newest_complete(folders: Sequence[Path], say: Callable[[str], None]) -> Path | None:
    """
    The newest complete checkpoint.

    Args:
        folders (`Sequence[Path]`): The checkpoints, oldest first.
        say (callable): Told in a line if it is not the newest of all, and why.

    Returns:
        `Path`, or `None` if there are no checkpoints, or a run was stopped while it saved its first one.

    Raises:
        [`InputError`]: If there are checkpoints, but none is complete.
    """
    errors: list[InputError] = []
    for folder in reversed(folders):
        try:
            check_manifest(folder)
        except InputError as error:
            errors.append(error)
            continue
        if errors:
            say(f"{errors[0]}. Continuing from {folder} instead")
        return folder
    if errors and not all((folder / UNFINISHED).is_file() for folder in folders):
        raise errors[0]
    if errors:
        say(f"{errors[0]}. Starting from the beginning")
    return None


def in_main_process(find: Callable[[], T]) -> T:
    """Calls a function in the main process. All processes get what it returns, or raise the [`InputError`] that it raises."""
    found: list[Any] = [None]
    if PartialState().is_main_process:
        try:
            found[0] = find()
        except InputError as error:
            found[0] = error
    broadcast_object_list(found)
    if isinstance(found[0], InputError):
        raise found[0]
    return found[0]


@contextmanager
def one_line_errors(folder: str | os.PathLike, what: str) -> Iterator[None]:
    """
    Turns what goes wrong while a checkpoint is read into one line. A damaged file can raise anything.

    Args:
        folder (`str` or `PathLike`): The checkpoint.
        what (`str`): What is read of it.

    Raises:
        [`InputError`]: Instead of any other error.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        # torch adds advice to trust the file.
        reason = str(error).split("\n")[0].split("(1)")[0]
        raise InputError(
            f"{folder} is damaged: {what} cannot be used ({type(error).__name__}: {reason:.200})"
        ) from error


# ---- JSON ----


def read_json(path: Path) -> dict[str, Any]:
    """
    Reads a file of one JSON object.

    Raises:
        [`InputError`]: If it cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return content


def is_count(value: Any) -> bool:
    """Whether a value of JSON is an integer that is not negative."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_number(value: Any, finite: bool = False) -> bool:
    """Whether a value of JSON is a number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and (not finite or math.isfinite(value))


def check_values(
    path: Path, content: Mapping[str, Any], checks: Mapping[str, tuple[Callable[[Any], bool], str]]
) -> None:
    """
    Checks values of a file.

    Args:
        path (`Path`): The file, for the message.
        content (`Mapping[str, Any]`): What it holds.
        checks (`Mapping[str, tuple]`): For each name, what its value must fulfil, and this in words.

    Raises:
        [`InputError`]: Naming the first value that is missing or does not fulfil it.
    """
    for name, (check, expected) in checks.items():
        if name not in content:
            raise InputError(f"{path} is damaged: `{name}` is missing")
        if not check(content[name]):
            raise InputError(f"{path} is damaged: `{name}` must be {expected}, got {content[name]!r:.80}")
