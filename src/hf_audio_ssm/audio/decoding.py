# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Reading of clips, from files or rows of a data set, as samples. All audio is read here."""

import math
import os
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import soxr
from tqdm import tqdm

from ..common.errors import ClipError, InputError
from .frames import seconds_spanned


AUDIO_SUFFIXES = (".aif", ".aiff", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav")
# One frame of the filter bank.
MIN_SECONDS = seconds_spanned(1)
# In decibels of full scale: the smallest sample of 16 bits.
SILENCE_DB = -90
# Of full scale: beyond it, sums of squares overflow float32.
LARGEST_SAMPLE = 1e15
# Headers may estimate the length (MP3 of variable rate). A file with less than this share of it is cut off.
MIN_SHARE_OF_HEADER = 0.9
# libsndfile gives 2**63 - 1 for an unknown length, as in a FLAC file that was written to a pipe.
UNKNOWN_FRAMES = 2**62


class SoundFile(sf.SoundFile):
    """A sound file that is read without seeking if its header does not tell its length."""

    def seekable(self) -> bool:
        """Whether soundfile may seek. It does so after each read, which libsndfile refuses at the end of such a file."""
        return self.frames < UNKNOWN_FRAMES and super().seekable()


def clip_name(clip: str | os.PathLike | Mapping[str, Any]) -> str:
    """The name of a clip in messages: its path, if it has one."""
    if isinstance(clip, Mapping):
        return str(clip.get("path") or "clip without a path")
    return str(clip)


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
        `np.ndarray` of shape (samples,), float32.

    Raises:
        [`ClipError`]: If the clip is missing, empty, no audio, cut off, shorter than one frame of the filter bank, holds
            samples that are NaN, infinite or beyond any scale, or is silent although `refuse_silence`.
    """
    name = clip_name(clip)
    samples, rate = _read(clip, name, max_seconds, generator)
    if samples.ndim == 2:
        samples = samples.mean(axis=0)
    # NaN compares as false.
    if not (np.abs(samples) <= LARGEST_SAMPLE).all():
        raise ClipError(name, f"holds samples that are NaN, infinite or beyond {LARGEST_SAMPLE:g}")
    if rate != sampling_rate and len(samples):
        length = math.ceil(len(samples) * sampling_rate / rate)
        samples = soxr.resample(samples, rate, sampling_rate)
        samples = np.pad(samples, (0, max(0, length - len(samples))))[:length]
    if len(samples) < MIN_SECONDS * sampling_rate:
        milliseconds = 1000 * len(samples) / sampling_rate
        raise ClipError(name, f"{milliseconds:.0f} ms of audio; at least {1000 * MIN_SECONDS:.0f} ms are needed")
    if refuse_silence and np.abs(samples).max() < 10 ** (SILENCE_DB / 20):
        raise ClipError(name, f"is silent (no sample above {SILENCE_DB} dB)")
    return np.ascontiguousarray(samples, dtype=np.float32)


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


def sound_path(path: str | os.PathLike) -> str | bytes:
    """A path for soundfile: bytes, since names need not be UTF-8, except on Windows."""
    return os.fsencode(path) if os.name == "posix" else os.fspath(path)


def read_seconds(clip: str | os.PathLike | Mapping[str, Any]) -> float:
    """
    The length of a clip in seconds. For a file, its header tells the length, if it can.

    Args:
        clip (`str`, `PathLike` or mapping): The clip, as in [`read_audio`].

    Raises:
        [`ClipError`]: If the clip is missing, empty or no audio.
    """
    if isinstance(clip, Mapping) and clip.get("array") is not None:
        return np.shape(clip["array"])[-1] / clip["sampling_rate"]
    name = clip_name(clip)
    try:
        with SoundFile(_open(clip, name)) as file:
            frames = file.frames if file.frames < UNKNOWN_FRAMES else len(_read_to_end(file))
            return frames / file.samplerate
    except ClipError:
        raise
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise ClipError(name, f"cannot be read as audio ({str(error).strip()})") from error


def _open(clip: str | os.PathLike | Mapping[str, Any], name: str) -> str | bytes | BytesIO:
    """The clip in a form that soundfile opens."""
    source: str | bytes | BytesIO
    if isinstance(clip, Mapping) and clip.get("bytes") is not None:
        source, size = BytesIO(clip["bytes"]), len(clip["bytes"])
    else:
        path = clip["path"] if isinstance(clip, Mapping) else clip
        if not Path(path).is_file():
            raise ClipError(name, "no such file")
        if not os.access(path, os.R_OK):
            raise ClipError(name, "may not be read (permission denied)")
        source, size = sound_path(path), os.path.getsize(path)
    if not size:
        raise ClipError(name, "the file is empty")
    return source


def _read(
    clip: str | os.PathLike | Mapping[str, Any],
    name: str,
    max_seconds: float | None,
    generator: np.random.Generator | None,
) -> tuple[np.ndarray, int]:
    """The samples, (samples,) or (channels, samples), at the clip's own sampling rate, and that rate."""

    def crop(length: int, rate: int) -> tuple[int, int]:
        wanted = length if max_seconds is None else min(length, math.ceil(max_seconds * rate))
        start = 0 if generator is None else int(generator.integers(length - wanted + 1))
        return start, wanted

    if isinstance(clip, Mapping) and clip.get("array") is not None:
        samples, rate = np.asarray(clip["array"]), clip["sampling_rate"]
        if samples.ndim not in (1, 2):
            raise ClipError(name, f"has samples of shape {samples.shape}; expected (samples,) or (channels, samples)")
        start, wanted = crop(samples.shape[-1], rate)
        samples = samples[..., start : start + wanted]
        if not isinstance(clip["array"], (list, tuple)):
            samples = scale_integers(samples, name)
        return samples.astype(np.float32, copy=False), rate

    try:
        with SoundFile(_open(clip, name)) as file:
            rate, length = file.samplerate, file.frames
            if length >= UNKNOWN_FRAMES:
                samples = _read_to_end(file)
                start, wanted = crop(len(samples), rate)
                return samples[start : start + wanted].T, rate
            start, wanted = crop(length, rate)
            if wanted < length:
                # A crop does not show that the file is cut off later. Seeking costs little.
                if not _reaches(file, int(MIN_SHARE_OF_HEADER * length)):
                    raise ClipError(name, f"is cut off: its header says {length / rate:.2f} s")
                file.seek(start)
            samples = file.read(wanted, dtype="float32", always_2d=True).T
    except ClipError:
        raise
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        # ClipError adds the path.
        reason = error.error_string if isinstance(error, sf.LibsndfileError) else str(error)
        raise ClipError(name, f"cannot be read as audio ({reason.strip().rstrip('.')})") from error
    if samples.shape[1] < MIN_SHARE_OF_HEADER * wanted:
        raise ClipError(name, f"is cut off: its header says {length / rate:.2f} s")
    return samples, rate


def _read_to_end(file: SoundFile) -> np.ndarray:
    """The samples `(samples, channels)` of a file whose header does not tell its length."""
    blocks: list[np.ndarray] = []
    while not blocks or len(blocks[-1]):
        blocks.append(file.read(file.samplerate, dtype="float32", always_2d=True))
    return np.concatenate(blocks)


def _reaches(file: SoundFile, sample: int) -> bool:
    try:
        file.seek(sample)
        return len(file.read(1)) > 0
    except sf.LibsndfileError:
        return False


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
