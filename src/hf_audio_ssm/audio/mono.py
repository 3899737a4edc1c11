# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""From decoded blocks of any rate and number of channels to mono samples at one rate, with notes on what was repaired."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import soxr

from ..common.errors import ClipError
from .sound_files import MAX_CHANNELS_OF_SHORT_SOUNDS, MAX_RATE, MIN_RATE, Note


# Of full scale: beyond it, sums of squares overflow float32.
LARGEST_SAMPLE = 1e15
# Closer defects share a note.
MERGED_SECONDS = 1.0


def find_runs(is_active: np.ndarray, max_gap: int = 0) -> list[tuple[int, int]]:
    """Beginning and end of each run of true values; runs at most `max_gap` apart are joined."""
    edges = np.flatnonzero(np.diff(np.pad(is_active.astype(np.int8), 1)))
    runs: list[tuple[int, int]] = []
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if runs and start - runs[-1][1] <= max_gap:
            runs[-1] = (runs[-1][0], end)
        else:
            runs.append((start, end))
    return runs


def scale_integers(samples: np.ndarray, name: str) -> np.ndarray:
    """
    Scales integers to fractions of their type's full scale; floats stay as they are.

    Raises:
        [`ClipError`]: For 64-bit integers of unknown scale, such as 16-bit samples that NumPy has widened.
    """
    if samples.dtype.kind not in "iu":
        return samples
    info = np.iinfo(samples.dtype)
    if info.bits == 64 and 0 < np.abs(samples).max(initial=0) < 2**31:
        raise ClipError(
            name, f"holds {samples.dtype} samples far below that type's full scale, so their own scale is unknown"
        )
    full_scale = 2.0 ** (info.bits - 1)
    return (samples - (full_scale if info.min == 0 else 0.0)) / full_scale


def decoded_block(block: Mapping[str, Any], name: str) -> tuple[np.ndarray, Any]:
    """
    Checks a decoded clip or block, as `datasets` gives it.

    Args:
        block (mapping): `array`, of shape (samples,) or (channels, samples), and `sampling_rate`.
        name (`str`): Its name in messages.

    Returns:
        Its samples, (channels, samples), not scaled and not copied, and their rate in hertz.

    Raises:
        [`ClipError`]: If it cannot be used.
    """
    if not isinstance(block, Mapping) or not {"array", "sampling_rate"} <= set(block):
        raise ClipError(name, "must be a mapping with array and sampling_rate")
    rate = block["sampling_rate"]
    is_number = not isinstance(rate, (str, bytes, bool)) and np.isscalar(rate) and np.isreal(rate)
    if not is_number or not MIN_RATE <= rate <= MAX_RATE:
        raise ClipError(name, f"has the sampling rate {rate!r}; expected {MIN_RATE} to {MAX_RATE} Hz")
    try:
        samples = np.asarray(block["array"])
    except (ValueError, TypeError, RuntimeError) as error:
        raise ClipError(name, "holds no array of numbers; expected (samples,) or (channels, samples)") from error
    if samples.dtype.kind not in "fiu":
        raise ClipError(name, f"holds values of dtype {samples.dtype}; expected floats or integers")
    shape = samples.shape
    samples = samples.reshape(1, -1) if samples.ndim == 1 else samples
    if samples.ndim != 2 or samples.shape[0] > max(samples.shape[1], MAX_CHANNELS_OF_SHORT_SOUNDS):
        raise ClipError(name, f"has samples of shape {shape}; expected (samples,) or (channels, samples)")
    return samples, rate


def scaled_block(samples: np.ndarray, array: Any, name: str) -> np.ndarray:
    """The samples of a decoded block as float32; integers are scaled, unless `array`, what was given, was a list."""
    if not isinstance(array, (list, tuple)):
        samples = scale_integers(samples, name)
    with np.errstate(over="ignore"):
        return samples.astype(np.float32)


class _Resampler:
    """soxr's resampler for consecutive samples; all that it gives together is as long as what it was given, rounded up."""

    def __init__(self, rate: int, sampling_rate: int):
        self.rate, self.sampling_rate = rate, sampling_rate
        self.read = self.given = 0
        self.stream = None
        if rate != sampling_rate:
            self.stream = soxr.ResampleStream(rate, sampling_rate, 1, dtype="float32")

    def add(self, samples: np.ndarray) -> np.ndarray:
        self.read += len(samples)
        samples = samples if self.stream is None else self.stream.resample_chunk(samples)
        self.given += len(samples)
        return samples

    def finish(self) -> np.ndarray:
        """What the resampler still holds."""
        rest = np.empty(0, dtype=np.float32)
        if self.stream is not None:
            rest = self.stream.resample_chunk(rest, last=True)
        missing = math.ceil(self.read * self.sampling_rate / self.rate) - self.given - len(rest)
        return np.pad(rest, (0, missing)) if missing > 0 else rest[: len(rest) + missing]


class MonoSamples:
    """
    Iterates once over mono float32 samples at one rate. Samples that are NaN, infinite or beyond any scale are read as zeros.

    Args:
        called (`str`): The name of the audio in messages.
        sampling_rate (`int`): Wanted rate in hertz.

    Attributes:
        seconds (`float`): Seconds given out so far.

    Raises:
        [`ClipError`]: When all samples are such.
    """

    def __init__(self, called: str, sampling_rate: int) -> None:
        self.called, self.sampling_rate = called, sampling_rate
        self.seconds = 0.0
        self._num_samples = 0
        self._rate_notes: list[Note] = []
        self._invalid: list[tuple[float, float, int]] = []
        self._has_valid = False

    def notes_of_samples(self) -> list[Note]:
        """Changes of the rate, and places that were read as zeros."""
        detail = f"samples that are NaN, infinite or beyond {LARGEST_SAMPLE:g} are read as zeros"
        return [
            *self._rate_notes,
            *(Note(onset, offset, "invalid", f"{count} {detail}") for onset, offset, count in self._invalid),
        ]

    def resample(self, blocks: Iterable[tuple[np.ndarray, int]]) -> Iterator[np.ndarray]:
        """Mixes blocks (channels, samples) of any rates down, and resamples them."""
        resampler: _Resampler | None = None
        for samples, rate in blocks:
            self._check(samples, rate)
            if resampler is None or rate != resampler.rate:
                if resampler is not None:
                    yield self._give(resampler.finish())
                    self._note_rate("rate_change", resampler.rate, rate)
                elif rate != self.sampling_rate:
                    self._note_rate("resampled", rate, self.sampling_rate)
                resampler = _Resampler(rate, self.sampling_rate)
            yield self._give(resampler.add(np.ascontiguousarray(samples.mean(axis=0, dtype=np.float32))))
        if resampler is not None:
            yield self._give(resampler.finish())
        if self._invalid and not self._has_valid:
            raise ClipError(self.called, f"holds samples that are NaN, infinite or beyond {LARGEST_SAMPLE:g}")

    def _note_rate(self, kind: str, old: float, new: float) -> None:
        self._rate_notes.append(Note(self.seconds, self.seconds, kind, f"from {old} to {new} Hz"))

    def _give(self, samples: np.ndarray) -> np.ndarray:
        self._num_samples += len(samples)
        self.seconds = self._num_samples / self.sampling_rate
        return samples

    def _check(self, samples: np.ndarray, rate: int) -> None:
        """Sets invalid samples (channels, samples) to zero."""
        # NaN compares as false.
        is_bad = ~(np.abs(samples) <= LARGEST_SAMPLE)
        if not is_bad.any():
            self._has_valid = True
            return
        self._has_valid |= not is_bad.all()
        samples[is_bad] = 0
        is_bad = is_bad.any(axis=0)
        for start, end in find_runs(is_bad, max_gap=round(MERGED_SECONDS * rate)):
            self.add_damage(self._invalid, start, end, int(is_bad[start:end].sum()), rate)

    def add_damage(self, damage: list[tuple[float, float, int]], start: int, end: int, count: int, rate: int) -> None:
        """Adds a place in the present block to a list, joined with the one before it if they are close."""
        onset, offset = self.seconds + start / rate, self.seconds + end / rate
        if damage and onset - damage[-1][1] <= MERGED_SECONDS:
            onset, _, before = damage.pop()
            count += before
        damage.append((onset, offset, count))
