# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Reading of recordings of any length, block by block, with notes on their defects."""

import io
import os
import re
import shutil
import struct
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import soxr

from ..common.errors import ClipError
from .decoding import LARGEST_SAMPLE, UNKNOWN_FRAMES, SoundFile, clip_name, scale_integers, sound_path


BLOCK_SECONDS = 10.0
# The resolution of notes.
SECONDS_PER_HOP = 0.01
SILENT_BELOW = 1e-4
MIN_SILENT_SECONDS = 1.0
CLIPPED_FROM = 0.999
MIN_CLIPPED_SAMPLES = 3
# Closer defects share a note.
MERGED_SECONDS = 1.0
# Sizes in a WAV header of unknown length.
UNKNOWN_SIZES = (0x7FFFFFFF, 0xFFFFFFFF)
# A block with more channels than this and than samples is taken to be transposed.
MAX_CHANNELS_OF_SHORT_BLOCKS = 32
NOTE_COLUMNS = ["onset", "offset", "kind", "detail"]


def _find_runs(is_active: np.ndarray, max_gap: int = 0) -> list[tuple[int, int]]:
    """Beginning and end of each run of true values; runs at most `max_gap` apart are joined."""
    edges = np.flatnonzero(np.diff(np.pad(is_active.astype(np.int8), 1)))
    runs: list[tuple[int, int]] = []
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if runs and start - runs[-1][1] <= max_gap:
            runs[-1] = (runs[-1][0], end)
        else:
            runs.append((start, end))
    return runs


class _Section(io.RawIOBase):
    """Bytes `start` to `end` of a file that can seek, as a file."""

    def __init__(self, file: BinaryIO, start: int, end: int):
        self.file, self.start, self.end, self.position = file, start, end, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.position = (
            offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.end - self.start}[whence]
        )
        return self.position

    def tell(self) -> int:
        return self.position

    def readinto(self, buffer: Any) -> int:
        self.file.seek(self.start + self.position)
        content = self.file.read(max(0, min(len(buffer), self.end - self.start - self.position)))
        buffer[: len(content)] = content
        self.position += len(content)
        return len(content)


class _UnfinishedWav(_Section):
    """A WAV file whose header still has the length 0, read as one of unknown length."""

    def __init__(self, file: BinaryIO, end: int, size_at: int):
        super().__init__(file, 0, end)
        self.size_at = size_at

    def readinto(self, buffer: Any) -> int:
        first = self.position
        count = super().readinto(buffer)
        for place in range(max(first, self.size_at), min(first + count, self.size_at + 4)):
            buffer[place - first] = 0xFF
        return count


def _find_unfinished_size(file: BinaryIO, end: int) -> int | None:
    """
    The position of the size of the audio in an unfinished WAV file, or None for other files. A recorder fills in this size and
    that of the file at the end; until then, neither counts the audio.
    """
    file.seek(0)
    header = file.read(12)
    if len(header) < 12 or header[:4] != b"RIFF" or header[8:] != b"WAVE":
        return None
    position = 12
    while position + 8 < end:
        file.seek(position)
        name, size = struct.unpack("<4sI", file.read(8))
        if name == b"data":
            whole = struct.unpack("<I", header[4:8])[0]
            return position + 4 if size == 0 and whole <= position else None
        position += 8 + size + size % 2
    return None


def _split_chain(file: BinaryIO) -> list[_Section]:
    """
    The links of a chained Ogg file (RFC 3533), as libsndfile reads only the first; other files stay whole. A new link
    begins where pages that begin a stream follow other pages.
    """
    end = file.seek(0, os.SEEK_END)
    unfinished_at = _find_unfinished_size(file, end)
    if unfinished_at is not None:
        return [_UnfinishedWav(file, end, unfinished_at)]
    position, starts, in_beginning = 0, [], False
    while position < end:
        file.seek(position)
        header = file.read(27)
        if len(header) < 27 or header[:4] != b"OggS":
            break
        begins = bool(header[5] & 2)
        if begins and not in_beginning:
            starts.append(position)
        in_beginning = begins
        position += 27 + header[26] + sum(file.read(header[26]))
    starts = starts or [0]
    # The rest belongs to the last link: libsndfile finds the next page.
    return [_Section(file, start, stop) for start, stop in zip(starts, [*starts[1:], end], strict=True)]


class AudioStream:
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
        self.sampling_rate = sampling_rate
        self.is_path, self.is_file = isinstance(audio, (str, os.PathLike)), hasattr(audio, "read")
        own_name = audio if self.is_path else getattr(audio, "name", None)
        self.name = (
            Path(own_name).stem if isinstance(own_name, (str, os.PathLike)) and Path(own_name).stem else "audio"
        )
        self.total_seconds: float | None = None
        # Seconds given out so far.
        self.seconds = 0.0
        self._notes: list[tuple[float, float, str, str]] = []
        self._num_samples = 0
        self._pending = np.empty(0, dtype=np.float32)
        self._peaks: list[np.ndarray] = []
        self._clipped: list[tuple[float, float, int]] = []
        self._invalid: list[tuple[float, float, int]] = []
        if isinstance(audio, (str, os.PathLike)):
            self._check_path(Path(audio))
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

    @staticmethod
    def _check_path(path: Path) -> None:
        if path.is_dir():
            raise ClipError(clip_name(path), "is a folder, expected a file")
        if not path.exists():
            raise ClipError(clip_name(path), "no such file")
        if path.is_file() and not path.stat().st_size:
            raise ClipError(clip_name(path), "the file is empty")

    @property
    def notes(self) -> pd.DataFrame:
        """
        The notes so far, by onset: `onset` and `offset` in seconds, `kind` and a `detail` in words. Kinds are "resampled",
        "rate_change", "truncated", "clipping", "silence" of a second or more, and "invalid" for samples that are NaN, infinite
        or beyond any scale, which are read as zeros.
        """
        notes = list(self._notes)
        peaks = np.concatenate(self._peaks) if self._peaks else np.empty(0, dtype=np.float32)
        for start, end in _find_runs(peaks < SILENT_BELOW):
            if (end - start) * SECONDS_PER_HOP >= MIN_SILENT_SECONDS:
                detail = f"nothing above {SILENT_BELOW:g} of full scale"
                notes.append((start * SECONDS_PER_HOP, min(end * SECONDS_PER_HOP, self.seconds), "silence", detail))
        for onset, offset, count in self._clipped:
            detail = f"{count} samples in runs at {CLIPPED_FROM:g} of full scale or above"
            notes.append((onset, offset, "clipping", detail))
        for onset, offset, count in self._invalid:
            detail = f"{count} samples that are NaN, infinite or beyond {LARGEST_SAMPLE:g}, read as zeros"
            notes.append((onset, offset, "invalid", detail))
        return pd.DataFrame(sorted(notes), columns=NOTE_COLUMNS)

    def note(self, onset: float, offset: float, kind: str, detail: str) -> None:
        """Adds a note."""
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
        # A block may end within a hop.
        pending = np.concatenate((self._pending, samples))
        whole = len(pending) // hop * hop
        self._peaks.append(np.abs(pending[:whole]).reshape(-1, hop).max(axis=1))
        self._pending = pending[whole:]
        self._num_samples += len(samples)
        self.seconds = self._num_samples / self.sampling_rate
        return samples

    def _check(self, samples: np.ndarray, rate: int) -> None:
        """Sets invalid samples (channels, samples) to zero, and notes these and clipping."""
        # NaN compares as false.
        is_bad = ~(np.abs(samples) <= LARGEST_SAMPLE)
        if is_bad.any():
            samples[is_bad] = 0
            is_bad = is_bad.any(axis=0)
            for start, end in _find_runs(is_bad, max_gap=round(MERGED_SECONDS * rate)):
                self._add_damage(self._invalid, start, end, int(is_bad[start:end].sum()), rate)
        is_loud = (np.abs(samples) >= CLIPPED_FROM).any(axis=0)
        if is_loud.any():
            for start, end in _find_runs(is_loud):
                if end - start >= MIN_CLIPPED_SAMPLES:
                    self._add_damage(self._clipped, start, end, end - start, rate)

    def _add_damage(self, damage: list[tuple[float, float, int]], start: int, end: int, count: int, rate: int) -> None:
        onset, offset = self.seconds + start / rate, self.seconds + end / rate
        if damage and onset - damage[-1][1] <= MERGED_SECONDS:
            onset, _, before = damage.pop()
            count += before
        damage.append((onset, offset, count))

    def _read_file(self) -> Iterator[tuple[np.ndarray, int]]:
        name = clip_name(self.audio) if self.is_path else self.name
        with ExitStack() as stack:
            try:
                file = stack.enter_context(open(self.audio, "rb")) if self.is_path else self.audio
                if not (file.seekable() if hasattr(file, "seekable") else hasattr(file, "seek")):
                    copy = stack.enter_context(tempfile.TemporaryFile())
                    shutil.copyfileobj(file, copy)
                    file = copy
                links = _split_chain(file)
                if links[0].end == 0:
                    raise ClipError(name, "the file is empty")
                is_unfinished = isinstance(links[0], _UnfinishedWav)
                # libsndfile reads a file by its path faster than through Python.
                is_plain = self.is_path and Path(self.audio).is_file() and len(links) == 1 and not is_unfinished
                sources = [sound_path(self.audio)] if is_plain else map(io.BufferedReader, links)
                files = [stack.enter_context(SoundFile(source)) for source in sources]
            except ClipError:
                raise
            except (OSError, RuntimeError, ValueError, TypeError) as error:
                raise ClipError(name, f"cannot be read as audio ({str(error).strip()})") from error
            if all(file.frames < UNKNOWN_FRAMES for file in files):
                self.total_seconds = sum(file.frames / file.samplerate for file in files)
            for file in files:
                yield from self._read_link(file)
            if is_unfinished:
                self.note(
                    self.seconds, self.seconds, "truncated", "the header was never finished: it tells of no audio"
                )

    def _read_link(self, file: SoundFile) -> Iterator[tuple[np.ndarray, int]]:
        rate, promised = file.samplerate, file.frames if file.frames < UNKNOWN_FRAMES else 0
        # libsndfile trusts a WAV file's size more than its header; only its log says so.
        sizes = re.search(r"^ *data : (\d+) \(should be \d+\)", file.extra_info, re.MULTILINE)
        if sizes and int(sizes[1]) not in UNKNOWN_SIZES:
            end = self.seconds + promised / rate
            self.note(end, end, "truncated", "the header promises more audio than the file has")
        read, block_frames, reason = 0, max(1, round(BLOCK_SECONDS * rate)), ""
        while True:
            # NaN marks what an error left unread.
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
                f"; {(promised - read) / rate:.2f} s that the header promises are missing" if promised > read else ""
            )
            # A resampler may still hold some samples.
            self.note(self.seconds, self.seconds, "truncated", f"reading ends{reason}{lost}")

    def _read_blocks(self) -> Iterator[tuple[np.ndarray, int]]:
        for index, block in enumerate(self.audio):
            name = f"block {index}"
            if not isinstance(block, Mapping) or not {"array", "sampling_rate"} <= set(block):
                raise ClipError(name, "must be a mapping with array and sampling_rate")
            rate = block["sampling_rate"]
            is_number = not isinstance(rate, (str, bytes)) and np.isscalar(rate)
            if not is_number or not 0 < rate < np.inf:
                raise ClipError(name, f"has the sampling rate {rate!r}; expected a positive number")
            samples = np.array(block["array"], ndmin=2)
            if samples.dtype.kind not in "fiu":
                raise ClipError(name, f"holds values of dtype {samples.dtype}; expected floats or integers")
            channels, length = samples.shape[0], samples.shape[-1]
            if samples.ndim != 2 or channels > max(length, MAX_CHANNELS_OF_SHORT_BLOCKS):
                raise ClipError(name, f"has shape {samples.shape}; expected (samples,) or (channels, samples)")
            if not isinstance(block["array"], (list, tuple)):
                samples = scale_integers(samples, name)
            if length:
                yield samples.astype(np.float32), rate
