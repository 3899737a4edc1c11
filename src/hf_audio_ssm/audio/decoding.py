# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Reading of clips, from files or rows of a data set, as samples."""

import math
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from ..common.errors import ClipError, ClipWarning, InputError
from .frames import seconds_spanned
from .mono import MonoSamples, decoded_block, scaled_block
from .sound_files import NO_SAMPLES, Note, Sound, clip_name


AUDIO_SUFFIXES = (".aif", ".aiff", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav")
# One frame of the filter bank. The feature extractor pads shorter clips to it.
MIN_SECONDS = seconds_spanned(1)
# In decibels of full scale: the smallest sample of 16 bits.
SILENCE_DB = -90
# What a file may grow to when it is read whole: an hour, or so many samples for each of its bytes. Digital silence in a FLAC
# file, of 5000 samples a byte, would fill any memory.
MAX_WHOLE_SECONDS = 3600
MAX_SAMPLES_PER_BYTE = 100
# Notes that tell of a fault. A change of the rate is none.
FAULTS = ("truncated", "appended", "invalid")


@dataclass
class Clip:
    """
    A clip that was read.

    Args:
        samples (`np.ndarray` of shape `(samples,)`): Mono float32 samples.
        seconds (`float`, *optional*): The length of the whole clip in seconds; `None` if only reading all of it would tell.
        notes (`list[Note]`): What is wrong with it, such as that the file is cut off; see [`Note`].
    """

    samples: np.ndarray
    seconds: float | None
    notes: list[Note] = field(default_factory=list)


def read_clip(
    clip: str | os.PathLike | Mapping[str, Any],
    sampling_rate: int,
    max_seconds: float | None = None,
    generator: np.random.Generator | None = None,
    refuse_silence: bool = False,
) -> Clip:
    """
    Reads a clip as [`read_audio`] does, and returns what is wrong with it instead of warning.

    Args:
        clip, sampling_rate, max_seconds, generator, refuse_silence: As in [`read_audio`].

    Raises:
        [`ClipError`]: As in [`read_audio`].
    """
    name = clip_name(clip)
    mono = MonoSamples(name, sampling_rate)
    seconds: float | None
    if isinstance(clip, Mapping) and clip.get("array") is not None:
        block, seconds = _crop_array(clip, name, max_seconds, generator)
        samples, notes = _joined(mono.resample([block])), []
    else:
        with open_clip(clip) as sound:
            most = max(MAX_WHOLE_SECONDS * sampling_rate, MAX_SAMPLES_PER_BYTE * sound.num_bytes)
            samples = _joined(_limited(mono.resample(sound.blocks(max_seconds, generator)), most, name))
            if sound.rate is None and max_seconds is not None:
                start, wanted = _draw_crop(len(samples), math.ceil(max_seconds * sampling_rate), generator)
                samples = samples[start : start + wanted]
            seconds, notes = sound.seconds, sound.notes
    if not len(samples):
        raise ClipError(name, NO_SAMPLES)
    if refuse_silence and np.abs(samples).max() < 10 ** (SILENCE_DB / 20):
        raise ClipError(name, f"is silent (no sample above {SILENCE_DB} dB)")
    faults = sorted(note for note in (*notes, *mono.notes_of_samples()) if note.kind in FAULTS)
    return Clip(samples, seconds, faults)


def read_audio(
    clip: str | os.PathLike | Mapping[str, Any],
    sampling_rate: int,
    max_seconds: float | None = None,
    generator: np.random.Generator | None = None,
    refuse_silence: bool = False,
) -> np.ndarray:
    """
    Reads a clip, or a crop of it, as mono float32 samples. Only what is used is decoded; channels are averaged, and soxr
    resamples.

    A file that ends early, or whose header was never finished, is used as far as it goes, and samples that are no numbers are
    read as zeros; both with a [`ClipWarning`]. [`read_clip`] returns these notes instead.

    Args:
        clip (`str`, `PathLike` or mapping):
            A path, or what `datasets.Audio(decode=False)` gives (`bytes` and `path`), or a decoded clip (`array`, of
            shape (samples,) or (channels, samples), and `sampling_rate`). Integers in arrays are fractions of their type's
            full scale.
        sampling_rate (`int`): Wanted rate in hertz.
        max_seconds (`float`, *optional*): Longest result; a longer clip is cropped.
        generator (`np.random.Generator`, *optional*): Draws where the crop begins; the beginning by default.
        refuse_silence (`bool`, *optional*, defaults to `False`):
            Whether to refuse audio without a sample above -90 decibels of full scale.

    Returns:
        `np.ndarray` of shape (samples,), float32: one sample at least.

    Raises:
        [`ClipError`]: If the clip is missing, empty, no audio, without a sample that is a number within any scale, far longer
            than its size explains, or silent although `refuse_silence`.
    """
    read = read_clip(clip, sampling_rate, max_seconds, generator, refuse_silence)
    for note in read.notes:
        warnings.warn(ClipWarning(clip_name(clip), note.detail), stacklevel=2)
    return read.samples


def read_seconds(clip: str | os.PathLike | Mapping[str, Any]) -> float:
    """
    The length of a clip in seconds. For a file, its header tells the length, if the file holds as much.

    Args:
        clip (`str`, `PathLike` or mapping): The clip, as in [`read_audio`].

    Raises:
        [`ClipError`]: If the clip is missing, empty or no audio.
    """
    if isinstance(clip, Mapping) and clip.get("array") is not None:
        samples, rate = decoded_block(clip, clip_name(clip))
        return samples.shape[1] / rate
    with open_clip(clip) as sound:
        return sound.measure()


def open_clip(clip: str | os.PathLike | Mapping[str, Any]) -> Sound:
    """
    Opens the file of a clip.

    Raises:
        [`ClipError`]: If it is missing, empty or no audio.
    """
    source: Any = clip
    if isinstance(clip, Mapping):
        source = clip["bytes"] if clip.get("bytes") is not None else clip.get("path")
    if isinstance(source, (bytearray, memoryview)):
        source = bytes(source)
    if not isinstance(source, (str, os.PathLike, bytes)):
        found = "nothing" if source is None else type(source).__name__
        raise ClipError(
            clip_name(clip), f"holds no audio: expected a path, or a row with array, bytes or path, got {found}"
        )
    return Sound(source, clip_name(clip))


def _draw_crop(length: int, wanted: int, generator: np.random.Generator | None) -> tuple[int, int]:
    """The beginning and length of a crop of `wanted` samples, or of all if there are fewer."""
    wanted = min(length, wanted)
    return 0 if generator is None else int(generator.integers(length - wanted + 1)), wanted


def _crop_array(
    clip: Mapping[str, Any], name: str, max_seconds: float | None, generator: np.random.Generator | None
) -> tuple[tuple[np.ndarray, Any], float]:
    """A decoded clip's samples (channels, samples) with their rate, and the whole clip's length in seconds."""
    samples, rate = decoded_block(clip, name)
    length = samples.shape[1]
    start, wanted = _draw_crop(length, length if max_seconds is None else math.ceil(max_seconds * rate), generator)
    return (scaled_block(samples[:, start : start + wanted], clip["array"], name), rate), length / rate


def _limited(parts: Iterable[np.ndarray], most: int, name: str) -> Iterator[np.ndarray]:
    """Passes parts of a file on, up to `most` samples."""
    count = 0
    for part in parts:
        count += len(part)
        if count > most:
            raise ClipError(name, f"decodes to over {most} samples, far more than its size explains; cut it")
        yield part


def _joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype=np.float32), *parts])


def check_clips(clips: Iterable[str | os.PathLike | Mapping[str, Any]], sampling_rate: int) -> list[float]:
    """
    Reads every clip once, with a progress bar, so that no broken clip stops a run halfway.

    Args:
        clips (iterable): The clips, as in [`read_audio`].
        sampling_rate (`int`): Sampling rate in hertz.

    Returns:
        `list[float]`: The clips' lengths in seconds.

    Raises:
        [`InputError`]: If clips cannot be used. It names the first 20, each with the reason.
    """
    seconds, problems = [], []
    for clip in tqdm(clips, desc="Reading the clips", unit="clip"):
        try:
            seconds.append(len(read_audio(clip, sampling_rate)) / sampling_rate)
        except ClipError as error:
            problems.append(str(error))
    if problems:
        shown = problems[:20] + [f"... and {len(problems) - 20} more"] * (len(problems) > 20)
        raise InputError("\n  ".join([f"{len(problems)} clips cannot be used; repair or remove them:", *shown]))
    return seconds
