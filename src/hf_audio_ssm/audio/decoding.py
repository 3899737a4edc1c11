# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""From a clip, as a file or as a row of a data set holds it, to samples. Everything that reads audio reads it here."""

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
# Of full scale: the least that 16 bits can hold.
SILENCE_DB = -90
# Of full scale: float32's sums of squares overflow beyond.
LARGEST_SAMPLE = 1e15
# A header may estimate the length (MP3 of variable rate); a file that gives less than this share of it is cut off.
MIN_SHARE_OF_HEADER = 0.9
# Where the header does not tell the length, as in a FLAC file that was written to a pipe, libsndfile says 2**63 - 1.
UNKNOWN_FRAMES = 2**62


class SoundFile(sf.SoundFile):
    """A file whose samples are read forward alone where its header does not tell how many there are."""

    def seekable(self) -> bool:
        """Whether soundfile may seek: it does after each read, which libsndfile refuses at such a file's end."""
        return self.frames < UNKNOWN_FRAMES and super().seekable()


def clip_name(clip: str | os.PathLike | Mapping[str, Any]) -> str:
    """What messages call a clip: its path, where it has one."""
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
    Reads a clip, whole or a crop of it (of which no more is decoded than is used), as mono float32 samples, averaging
    the channels and resampling with soxr.

    Args:
        clip (`str`, `PathLike` or mapping):
            A path, or what `datasets.Audio(decode=False)` gives (`bytes` and `path`), or a decoded clip (`array`, of
            shape (samples,) or (channels, samples), and `sampling_rate`), whose integers are fractions of their type's
            full scale, but in lists.
        sampling_rate (`int`): Wanted rate in hertz.
        max_seconds (`float`, *optional*): Longest result; a longer clip is cropped.
        generator (`np.random.Generator`, *optional*): Draws where the crop begins; without it, at the beginning.
        refuse_silence (`bool`, *optional*, defaults to `False`):
            Whether what is read must have a sample above -90 decibels of full scale.

    Returns:
        `np.ndarray` of shape (samples,), float32.

    Raises:
        [`ClipError`]: If the clip is missing, empty, no audio, cut off, shorter than one frame of 25 ms, or holds
            samples that are NaN, infinite or beyond any scale, or is silent where it must not be.
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
    Integers as fractions of their type's full scale; floats as they are.

    Raises:
        [`ClipError`]: For 64-bit integers that cannot be 64-bit samples, such as those of 16 bits that NumPy has widened.
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
    """A path as soundfile takes it: as bytes, for names that are no UTF-8; Windows has none of these."""
    return os.fsencode(path) if os.name == "posix" else os.fspath(path)


def read_seconds(clip: str | os.PathLike | Mapping[str, Any]) -> float:
    """
    Length of a clip, as [`read_audio`] takes it, in seconds; of a file from its header, if that tells it.

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
    """What soundfile can open."""
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
    """The samples, (samples,) or (channels, samples), at the clip's own rate, and that rate."""

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
                # A crop before the end of a file that is cut off would be whole; seeking costs next to nothing.
                if not _reaches(file, int(MIN_SHARE_OF_HEADER * length)):
                    raise ClipError(name, f"is cut off: its header says {length / rate:.2f} s")
                file.seek(start)
            samples = file.read(wanted, dtype="float32", always_2d=True).T
    except ClipError:
        raise
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        # Without the path, which is the error's own.
        reason = error.error_string if isinstance(error, sf.LibsndfileError) else str(error)
        raise ClipError(name, f"cannot be read as audio ({reason.strip().rstrip('.')})") from error
    if samples.shape[1] < MIN_SHARE_OF_HEADER * wanted:
        raise ClipError(name, f"is cut off: its header says {length / rate:.2f} s")
    return samples, rate


def _read_to_end(file: SoundFile) -> np.ndarray:
    """The samples `(samples, channels)` of a file whose header does not tell how many there are."""
    blocks = []
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
    Reads every clip once, with progress, so that a run does not end on a broken one halfway.

    Returns:
        `list[float]`: The clips' lengths in seconds.

    Raises:
        [`InputError`]: Naming every clip (the first 20) that cannot be used, and why.
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
