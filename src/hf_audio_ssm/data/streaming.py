# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Recordings of any length, block by block, with a report of what is wrong with them."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import soundfile as sf
import soxr

from ..errors import ClipError
from .decoding import clip_name


BLOCK_SECONDS = 10.0
# The report's resolution.
SECONDS_PER_HOP = 0.01
SILENT_BELOW = 1e-4
MIN_SILENT_SECONDS = 1.0
CLIPPED_FROM = 0.999
MIN_CLIPPED_SAMPLES = 3
NOTE_COLUMNS = ["onset", "offset", "kind", "detail"]


def _find_runs(is_active: np.ndarray, max_gap: int = 0) -> list[tuple[int, int]]:
    """Beginning and end of each run of true values; runs no further apart than `max_gap` are one."""
    edges = np.flatnonzero(np.diff(np.pad(is_active.astype(np.int8), 1)))
    runs = []
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if runs and start - runs[-1][1] <= max_gap:
            runs[-1] = (runs[-1][0], end)
        else:
            runs.append((start, end))
    return runs


class AudioStream:
    """
    Iterates over the samples of a recording as mono float32 blocks at one rate, once. Whatever can be read is read; what
    could not be, and what looks wrong, is found in `notes` afterwards.

    Args:
        audio (`str`, `PathLike`, binary file, or iterable):
            A path; an open file that can seek; or blocks, each as `datasets` gives decoded audio: a mapping with `array`,
            of shape (samples,) or (channels, samples), and `sampling_rate`, which may change from block to block.
        sampling_rate (`int`): Wanted rate in hertz.

    Raises:
        [`ClipError`]: If the file is missing, empty or no audio, or a block is none.
    """

    def __init__(self, audio: str | os.PathLike | BinaryIO | Iterable[Mapping[str, Any]], sampling_rate: int):
        self.audio, self.sampling_rate = audio, sampling_rate
        self.is_path, self.is_file = isinstance(audio, (str, os.PathLike)), hasattr(audio, "read")
        self.name = Path(audio).stem if self.is_path else "audio"
        self.total_seconds: float | None = None
        # Seconds given out so far.
        self.seconds = 0.0
        self._notes: list[tuple[float, float, str, str]] = []
        self._num_samples = 0
        self._pending = np.empty(0, dtype=np.float32)
        self._peaks: list[np.ndarray] = []
        self._clipped: list[tuple[float, float]] = []
        if self.is_path and not Path(audio).is_file():
            raise ClipError(clip_name(audio), "no such file")
        if self.is_path and not os.path.getsize(audio):
            raise ClipError(clip_name(audio), "the file is empty")
        if not (self.is_path or self.is_file or isinstance(audio, Iterable)):
            raise TypeError(
                f"`audio` must be a path, a binary file or an iterable of decoded blocks, got {type(audio).__name__}."
            )

    @property
    def notes(self) -> pd.DataFrame:
        """
        What was noticed so far, by onset: `onset` and `offset` in seconds, `kind` ("resampled", "rate_change", "truncated",
        "invalid" for NaN and infinite samples, which are read as zeros, "silence" from a second on, "clipping") and a
        `detail` in words.
        """
        notes = list(self._notes)
        peaks = np.concatenate(self._peaks) if self._peaks else np.empty(0, dtype=np.float32)
        for start, end in _find_runs(peaks < SILENT_BELOW):
            if (end - start) * SECONDS_PER_HOP >= MIN_SILENT_SECONDS:
                detail = f"nothing above {SILENT_BELOW:g} of full scale"
                notes.append((start * SECONDS_PER_HOP, min(end * SECONDS_PER_HOP, self.seconds), "silence", detail))
        for onset, offset in self._clipped:
            notes.append((onset, offset, "clipping", f"runs of samples at {CLIPPED_FROM:g} of full scale or above"))
        return pd.DataFrame(sorted(notes), columns=NOTE_COLUMNS)

    def note(self, onset: float, offset: float, kind: str, detail: str) -> None:
        """Adds to the notes."""
        self._notes.append((onset, offset, kind, detail))

    def __iter__(self) -> Iterator[np.ndarray]:
        resampler, rate = None, None
        for samples, block_rate in self._read_file() if self.is_path or self.is_file else self._read_blocks():
            self._check(samples, block_rate)
            if block_rate != rate:
                if resampler is not None:
                    yield self._give(resampler.resample_chunk(np.empty(0, dtype=np.float32), last=True))
                if rate is not None:
                    detail = f"from {rate} to {block_rate} Hz"
                    self.note(self.seconds, self.seconds, "rate_change", detail)
                elif block_rate != self.sampling_rate:
                    self.note(0.0, 0.0, "resampled", f"from {block_rate} to {self.sampling_rate} Hz")
                rate, resampler = block_rate, None
                if rate != self.sampling_rate:
                    resampler = soxr.ResampleStream(rate, self.sampling_rate, 1, dtype="float32")
            mono = np.ascontiguousarray(samples.mean(axis=0, dtype=np.float32))
            yield self._give(mono if resampler is None else resampler.resample_chunk(mono))
        if resampler is not None:
            yield self._give(resampler.resample_chunk(np.empty(0, dtype=np.float32), last=True))

    def _give(self, samples: np.ndarray) -> np.ndarray:
        hop = round(SECONDS_PER_HOP * self.sampling_rate)
        # Blocks need not be whole hops.
        pending = np.concatenate((self._pending, samples))
        whole = len(pending) // hop * hop
        self._peaks.append(np.abs(pending[:whole]).reshape(-1, hop).max(axis=1))
        self._pending = pending[whole:]
        self._num_samples += len(samples)
        self.seconds = self._num_samples / self.sampling_rate
        return samples

    def _check(self, samples: np.ndarray, rate: int) -> None:
        """Replaces what is no number, and notes it and what is clipped; `samples` (channels, samples)."""
        bad = ~np.isfinite(samples)
        if bad.any():
            samples[bad] = 0
            end = self.seconds + samples.shape[1] / rate
            self.note(
                self.seconds, end, "invalid", f"{int(bad.sum())} samples that are NaN or infinite, read as zeros"
            )
        is_loud = (np.abs(samples) >= CLIPPED_FROM).any(axis=0)
        if is_loud.any():
            runs = [run for run in _find_runs(is_loud) if run[1] - run[0] >= MIN_CLIPPED_SAMPLES]
            for start, end in runs:
                onset, offset = self.seconds + start / rate, self.seconds + end / rate
                if self._clipped and onset - self._clipped[-1][1] <= 1.0:
                    self._clipped[-1] = (self._clipped[-1][0], offset)
                else:
                    self._clipped.append((onset, offset))

    def _read_file(self) -> Iterator[tuple[np.ndarray, int]]:
        name = clip_name(self.audio) if self.is_path else "audio"
        try:
            file = sf.SoundFile(os.fspath(self.audio) if self.is_path else self.audio)
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            raise ClipError(name, f"cannot be read as audio ({str(error).strip()})") from error
        with file:
            rate, promised = file.samplerate, file.frames
            self.total_seconds = promised / rate
            # libsndfile believes the size of a WAV file more than its header, and says so only in its log.
            if any(line.startswith("data") and "should be" in line for line in file.extra_info.splitlines()):
                detail = "the header promises more audio than the file has"
                self.note(self.total_seconds, self.total_seconds, "truncated", detail)
            read, block_frames, reason = 0, max(1, round(BLOCK_SECONDS * rate)), ""
            while True:
                # Not filled where an error ends the reading: what came before it counts.
                block = np.full((block_frames, file.channels), np.nan, dtype=np.float32)
                count = block_frames
                try:
                    count = len(file.read(out=block, dtype="float32"))
                except (RuntimeError, OSError) as error:
                    is_empty = np.isnan(block).all(axis=1)
                    count, reason = int(is_empty.argmax()) if is_empty.any() else count, f" ({str(error).strip()})"
                if count:
                    read += count
                    yield block[:count].T, rate
                if reason or count < block_frames:
                    break
            if reason or read < promised:
                lost = (
                    f"; {(promised - read) / rate:.2f} s that the header promises are missing"
                    if promised > read
                    else ""
                )
                self.note(read / rate, read / rate, "truncated", f"reading ends{reason}{lost}")

    def _read_blocks(self) -> Iterator[tuple[np.ndarray, int]]:
        for index, block in enumerate(self.audio):
            name = f"block {index}"
            if not isinstance(block, Mapping) or not {"array", "sampling_rate"} <= set(block):
                raise ClipError(name, "must be a mapping with array and sampling_rate")
            samples = np.array(block["array"], dtype=np.float32, ndmin=2)
            if samples.ndim != 2:
                raise ClipError(name, f"has shape {samples.shape}; expected (samples,) or (channels, samples)")
            if not 0 < block["sampling_rate"] < np.inf:
                raise ClipError(name, f"has the sampling rate {block['sampling_rate']!r}; expected a positive number")
            if samples.shape[1]:
                yield samples, block["sampling_rate"]
