# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Reading of recordings of any length, block by block, with notes on their defects."""

import io
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from .mono import MonoSamples, decoded_block, find_runs, scaled_block
from .sound_files import BLOCK_SECONDS, Note, Sound, check_path, clip_name


# The resolution of notes.
SECONDS_PER_HOP = 0.01
SILENT_BELOW = 1e-4
MIN_SILENT_SECONDS = 1.0
CLIPPED_FROM = 0.999
MIN_CLIPPED_SAMPLES = 3
NOTE_COLUMNS = list(Note._fields)


class AudioStream(MonoSamples):
    """
    Iterates once over the samples of a recording, as mono float32 blocks at one rate. Everything readable is read; `notes` then
    lists what could not be read and what looks wrong.

    Args:
        audio (`str`, `PathLike`, binary file, or iterable):
            A path; an open binary file; or blocks, each as `datasets` gives decoded audio: a mapping with `array`, of shape
            (samples,) or (channels, samples), and `sampling_rate`, which may change from block to block. Integers are
            fractions of their type's full scale. A file that cannot seek, such as a pipe, is first copied.
        sampling_rate (`int`): Wanted rate in hertz.

    Raises:
        [`ClipError`]: If the file is missing, empty or no audio, or a block cannot be used.
        `TypeError`: If `audio` has another type.
    """

    def __init__(self, audio: str | os.PathLike | BinaryIO | Iterable[Mapping[str, Any]], sampling_rate: int):
        self.audio: Any = audio
        self.is_path, self.is_file = isinstance(audio, (str, os.PathLike)), hasattr(audio, "read")
        own_name = audio if self.is_path else getattr(audio, "name", None)
        self.name = (
            Path(own_name).stem if isinstance(own_name, (str, os.PathLike)) and Path(own_name).stem else "audio"
        )
        super().__init__(clip_name(audio) if isinstance(audio, (str, os.PathLike)) else self.name, sampling_rate)
        self.total_seconds: float | None = None
        self._notes: list[Note] = []
        self._pending = np.empty(0, dtype=np.float32)
        self._peaks: list[np.ndarray] = []
        self._clipped: list[tuple[float, float, int]] = []
        if isinstance(audio, (str, os.PathLike)):
            check_path(audio, clip_name(audio), pipes=True)
        elif isinstance(audio, io.TextIOBase):
            raise TypeError("`audio` must be a file opened in binary mode ('rb'), got one opened as text.")
        elif isinstance(audio, (Mapping, bytes, bytearray)) or hasattr(audio, "ndim"):
            raise TypeError(
                "`audio` must be a path, a binary file or an iterable of decoded blocks, such as "
                f'[{{"array": samples, "sampling_rate": 16000}}], got {type(audio).__name__}.'
            )
        elif not (self.is_file or isinstance(audio, Iterable)):
            raise TypeError(
                f"`audio` must be a path, a binary file or an iterable of decoded blocks, got {type(audio).__name__}."
            )

    @property
    def notes(self) -> pd.DataFrame:
        """
        The notes so far, by onset: `onset` and `offset` in seconds, `kind` and a `detail` in words. Kinds are "resampled",
        "rate_change", "truncated" and "appended" (see [`Note`]), "clipping", "silence" of a second or more, and "invalid" for
        samples that are NaN, infinite or beyond any scale, which are read as zeros.
        """
        notes = [*self._notes, *self.notes_of_samples()]
        peaks = np.concatenate(self._peaks) if self._peaks else np.empty(0, dtype=np.float32)
        for start, end in find_runs(peaks < SILENT_BELOW):
            if (end - start) * SECONDS_PER_HOP >= MIN_SILENT_SECONDS:
                onset, offset = start * SECONDS_PER_HOP, min(end * SECONDS_PER_HOP, self.seconds)
                notes.append(Note(onset, offset, "silence", f"nothing above {SILENT_BELOW:g} of full scale"))
        for onset, offset, count in self._clipped:
            detail = f"{count} samples in runs at {CLIPPED_FROM:g} of full scale or above"
            notes.append(Note(onset, offset, "clipping", detail))
        return pd.DataFrame(sorted(notes), columns=NOTE_COLUMNS)

    def note(self, onset: float, offset: float, kind: str, detail: str) -> None:
        """Adds a note."""
        self._notes.append(Note(onset, offset, kind, detail))

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.resample(self._read_file() if self.is_path or self.is_file else self._read_blocks())

    def _give(self, samples: np.ndarray) -> np.ndarray:
        hop = round(SECONDS_PER_HOP * self.sampling_rate)
        # A block may end within a hop.
        pending = np.concatenate((self._pending, samples))
        whole = len(pending) // hop * hop
        self._peaks.append(np.abs(pending[:whole]).reshape(-1, hop).max(axis=1))
        self._pending = pending[whole:]
        return super()._give(samples)

    def _check(self, samples: np.ndarray, rate: int) -> None:
        super()._check(samples, rate)
        is_loud = (np.abs(samples) >= CLIPPED_FROM).any(axis=0)
        if is_loud.any():
            for start, end in find_runs(is_loud):
                if end - start >= MIN_CLIPPED_SAMPLES:
                    self.add_damage(self._clipped, start, end, end - start, rate)

    def _read_file(self) -> Iterator[tuple[np.ndarray, int]]:
        name = clip_name(self.audio) if self.is_path else self.name
        with ExitStack() as stack:
            source = self.audio
            if self.is_path and stat.S_ISFIFO(os.stat(source).st_mode):
                source = stack.enter_context(open(source, "rb"))
            if source is not self.audio or (self.is_file and not _can_seek(source)):
                copy = stack.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(source, copy)
                source = copy
            sound = stack.enter_context(Sound(source, name, BLOCK_SECONDS))
            # For the progress bar. A header's claim is compared with what the file holds where it is extraordinary.
            self.total_seconds = sound.promised_seconds
            yield from sound.blocks()
            self._notes += sound.notes

    def _read_blocks(self) -> Iterator[tuple[np.ndarray, int]]:
        for index, block in enumerate(self.audio):
            name = f"block {index}"
            samples, rate = decoded_block(block, name)
            if samples.shape[1]:
                yield scaled_block(samples, block["array"], name), rate


def _can_seek(file: Any) -> bool:
    return file.seekable() if hasattr(file, "seekable") else hasattr(file, "seek")
