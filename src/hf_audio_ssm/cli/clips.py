# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The audio files that a command is given, read batch by batch."""

import glob
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from tqdm.auto import tqdm

from ..audio.decoding import AUDIO_SUFFIXES, Clip, read_clip
from ..common.errors import ClipError, InputError
from ..common.printable import printable
from ..data.folders import list_audio


# A batch of long files ends early: together, they would need more memory than the longest alone.
MAX_BATCH_SECONDS = 300


def choose_device(device: str | None) -> torch.device:
    """
    Finds the device that is asked for, or the GPU if there is one.

    Raises:
        [`InputError`]: If it is unknown, or missing.
    """
    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {device} cannot be used: {str(error).splitlines()[0]}") from error
    return chosen


def find_files(files: list[str]) -> list[Path]:
    """
    Finds the files that arguments name, each once: files, the audio files in folders, and those that match patterns.

    Raises:
        [`InputError`]: If an argument names nothing.
    """
    found: dict[Path, None] = {}
    for name in files:
        path = Path(name)
        if path.is_dir():
            matches = list_audio(path)
        elif path.is_file():
            matches = [path]
        else:
            names = sorted(glob.glob(name, recursive=True)) if glob.has_magic(name) else []
            matches = [
                Path(match) for match in names if match.lower().endswith(AUDIO_SUFFIXES) and Path(match).is_file()
            ]
            if not matches:
                raise InputError(f"{name}: no such audio file or folder, and no pattern that matches any")
        found.update(dict.fromkeys(matches))
    return list(found)


def read_batches(
    paths: list[Path],
    sampling_rate: int,
    batch_size: int,
    skip: Callable[[Path, str], None],
    description: str,
    max_seconds: float | None = None,
) -> Iterator[list[tuple[Path, Clip]]]:
    """
    Reads files batch by batch, with progress (in a terminal). What is wrong with a file that is used is printed.

    Args:
        paths (`list[Path]`): The files.
        sampling_rate (`int`): The rate that they are converted to, in hertz.
        batch_size (`int`): The most files in a batch.
        skip (`Callable`): Called with each file that cannot be used, and the reason.
        description (`str`): Of the progress bar.
        max_seconds (`float`, *optional*): How much of each file is read, from its beginning; defaults to all.

    Yields:
        `list`: Files and their clips.

    Raises:
        [`InputError`]: If `batch_size` is less than 1.
    """
    if batch_size < 1:
        raise InputError(f"--batch_size must be at least 1, got {batch_size}")
    batch: list[tuple[Path, Clip]] = []
    seconds = 0.0
    for path in tqdm(paths, desc=description, unit="file", disable=None):
        try:
            clip = read_clip(path, sampling_rate, max_seconds)
        except ClipError as error:
            tqdm.write(f"warning: {error}", file=sys.stderr)
            skip(path, error.reason)
            continue
        for note in clip.notes:
            write_note(path, note.detail)
        length = len(clip.samples) / sampling_rate
        if batch and (len(batch) == batch_size or seconds + length > MAX_BATCH_SECONDS):
            yield batch
            batch, seconds = [], 0.0
        batch.append((path, clip))
        seconds += length
    if batch:
        yield batch


def write_note(path: Path, note: str) -> None:
    """Prints what is to be known of a file that is used."""
    tqdm.write(f"note: {printable(path)}: {note}", file=sys.stderr)


def exit_code(used: int, skipped: int) -> int:
    """0 if all files were used, 3 if some were, 1 if none."""
    if not skipped:
        return 0
    return 3 if used else 1
