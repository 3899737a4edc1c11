# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Augmentation of labelled clips: of waveforms, of pairs of clips with their labels, and of filter banks.

Every transform draws only from the `numpy.random.Generator` that it is called with. The order is that of the original:
waveforms, mixing, filter bank, SpecAugment, noise, roll.
"""

import itertools
import math
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import soxr
import torch

from ..audio.decoding import MIN_SECONDS
from ..evaluation.robustness import add_noise, add_silence, change_level
from .arguments import AugmentationFields


# Waveforms of a batch, their labels (batch, classes), a sampling rate and a generator to new waveforms and labels.
WaveformTransform = Callable[
    [list[np.ndarray], np.ndarray, int, np.random.Generator], tuple[list[np.ndarray], np.ndarray]
]
# A normalised filter bank (frames, mel bins), the value of silence in it and a generator to a new filter bank.
SpectrogramTransform = Callable[[torch.Tensor, float, np.random.Generator], torch.Tensor]


def _check_share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"`{name}` must be in 0 ... 1, got {value!r}.")
    return value


def _check_range(name: str, low: float, high: float) -> tuple[float, float]:
    if not low <= high:
        raise ValueError(f"`min_{name}` must be at most `max_{name}`, got {low!r} and {high!r}.")
    return low, high


# ---- Waveforms and labels ----


class EachWaveform:
    """
    Applies a transform of audiomentations, or a composition, to each waveform. A waveform that would become too short to be
    read stays as it is.

    Args:
        transform (`Callable`): Takes `samples` and `sample_rate`, as the transforms of audiomentations do.
    """

    mixes_labels = False

    def __init__(self, transform: Callable):
        self.transform = transform

    def __call__(
        self, waveforms: list[np.ndarray], labels: np.ndarray, sampling_rate: int, rng: np.random.Generator
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """The transformed waveforms `(samples,)`, and the unchanged labels."""
        # audiomentations draws from the global generators: seed them for the call, then restore them.
        python_state, numpy_state = random.getstate(), np.random.get_state()
        try:
            seed = int(rng.integers(2**32))
            random.seed(seed)
            np.random.seed(seed)
            changed = [
                self.transform(samples=np.asarray(waveform, dtype=np.float32), sample_rate=sampling_rate)
                for waveform in waveforms
            ]
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
        least = MIN_SECONDS * sampling_rate
        pairs = zip(changed, waveforms, strict=True)
        return [after if len(after) >= least else before for after, before in pairs], labels


class VaryRecordings:
    """
    Makes of each clip another recording: another speed, with pitch and formants, more treble or more bass, more silence around
    it, another level, and noise. A classifier of few clips otherwise learns how they were cut and how loud they are.

    Args:
        speed (`float`, *optional*, defaults to 1.25): The speed is drawn from 1 / `speed` to `speed`.
        colour (`float`, *optional*, defaults to 0.6):
            Each sample gets a share, drawn from -`colour` to `colour`, of the one before it: a negative share favours treble, a
            positive one bass.
        silence (`float`, *optional*, defaults to 0.3): Longest silence before and after a clip, in seconds.
        min_level_db (`float`, *optional*, defaults to -30.0): Lowest change of the level, in decibels.
        max_level_db (`float`, *optional*, defaults to 6.0): Highest change of the level.
        noise_p (`float`, *optional*, defaults to 0.9): Share of clips with noise. The others keep digital silence.
        min_snr_db (`float`, *optional*, defaults to 5.0): Lowest level of a clip above its noise, in decibels.
        max_snr_db (`float`, *optional*, defaults to 40.0): Highest level of a clip above its noise.
        max_seconds (`float`, *optional*):
            What the model hears of a clip. Silence pushes no part of a clip out of it. By default there is no limit.
    """

    mixes_labels = False

    def __init__(
        self,
        speed: float = 1.25,
        colour: float = 0.6,
        silence: float = 0.3,
        min_level_db: float = -30.0,
        max_level_db: float = 6.0,
        noise_p: float = 0.9,
        min_snr_db: float = 5.0,
        max_snr_db: float = 40.0,
        max_seconds: float | None = None,
    ):
        for name, value, least in (("speed", speed, 1), ("silence", silence, 0)):
            if not least <= value < math.inf:
                raise ValueError(f"`{name}` must be a number of at least {least}, got {value!r}.")
        self.speed, self.colour = speed, _check_share("colour", colour)
        self.silence, self.max_seconds = silence, max_seconds
        self.level_range = _check_range("level_db", min_level_db, max_level_db)
        self.noise_p = _check_share("noise_p", noise_p)
        self.snr_range = _check_range("snr_db", min_snr_db, max_snr_db)

    def __call__(
        self, waveforms: list[np.ndarray], labels: np.ndarray, sampling_rate: int, rng: np.random.Generator
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """The changed waveforms `(samples,)`, and the unchanged labels."""
        return [self.vary(waveform, sampling_rate, rng) for waveform in waveforms], labels

    def describe(self) -> str:
        """Its settings, in words."""
        low, high = self.level_range
        return (
            f"speed {1 / self.speed:.2g} to {self.speed:.3g}, treble and bass, up to {self.silence:g} s of silence before and after, level "
            f"{low:g} to {high:g} dB, noise in {self.noise_p:.0%} of the clips"
        )

    def vary(self, waveform: np.ndarray, sampling_rate: int, rng: np.random.Generator) -> np.ndarray:
        """Another recording of a clip: float32 `(samples,)`."""
        speed = self.speed ** rng.uniform(-1, 1)
        changed = soxr.resample(waveform, speed * sampling_rate, sampling_rate, quality="LQ")
        # The shortest clips have no sample left at a higher speed.
        waveform = changed if len(changed) else waveform
        waveform = waveform + rng.uniform(-self.colour, self.colour) * np.pad(waveform, (1, 0))[:-1]
        silences = rng.uniform(0, self.silence, size=2)
        if self.max_seconds is not None and silences.any():
            room = max(0.0, self.max_seconds - len(waveform) / sampling_rate)
            silences *= min(1.0, room / silences.sum())
        snr_db = rng.uniform(*self.snr_range) if rng.random() < self.noise_p else None
        waveform = add_silence(waveform, sampling_rate, *silences)
        if snr_db is not None:
            waveform = add_noise(waveform, snr_db, rng)
        return change_level(waveform, rng.uniform(*self.level_range)).astype(np.float32)


def fit_length(waveform: np.ndarray, length: int) -> np.ndarray:
    """Cuts the waveform at `length` samples, or pads it with zeros."""
    return np.pad(waveform[:length], (0, max(0, length - len(waveform))))


def mix_waveforms(waveform: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """`share` of a waveform plus the rest of another, cut or padded to the first; both minus their mean."""
    other = fit_length(other - other.mean(), len(waveform))
    return (share * (waveform - waveform.mean()) + (1 - share) * other).astype(np.float32)


class Mixup:
    """
    Mixup (arXiv 1710.09412) as SSAMBA's and SSAST's code applies it to waveforms: `lambda` times a clip plus `1 - lambda`
    times another clip of the batch, cut or padded to the first, both minus their mean; the labels are mixed alike.

    Args:
        p (`float`, *optional*, defaults to 0.5): Share of clips that are mixed.
        alpha (`float`, *optional*, defaults to 10.0): `lambda` is drawn from Beta(alpha, alpha).
    """

    def __init__(self, p: float = 0.5, alpha: float = 10.0):
        if not alpha > 0:
            raise ValueError(f"`alpha` must be positive, got {alpha!r}.")
        self.p, self.alpha = _check_share("p", p), alpha

    def __call__(
        self, waveforms: list[np.ndarray], labels: np.ndarray, sampling_rate: int, rng: np.random.Generator
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """The batch with some of its waveforms and their labels `(batch, classes)` mixed."""
        mixed, mixed_labels = list(waveforms), labels.copy()
        for i, waveform in enumerate(waveforms):
            if len(waveforms) > 1 and rng.random() < self.p:
                other = draw_others(i, len(waveforms), 1, rng)[0]
                share = rng.beta(self.alpha, self.alpha)
                mixed[i] = mix_waveforms(waveform, waveforms[other], share)
                mixed_labels[i] = share * labels[i] + (1 - share) * labels[other]
        return mixed, mixed_labels


class MultiLabelMix:
    """
    Adds other clips of the batch, each scaled to a random signal-to-noise ratio and cut or padded to the first. The mix has
    the labels of all its clips (as in BirdSet, arXiv 2403.10380). Silent clips are not scaled.

    Args:
        p (`float`, *optional*, defaults to 0.5): Share of clips that others are added to.
        max_clips (`int`, *optional*, defaults to 3): Largest number of clips in a mix; 2 to `max_clips` are drawn.
        min_snr_db (`float`, *optional*, defaults to 3.0): Lowest level of a clip above one added to it, in decibels.
        max_snr_db (`float`, *optional*, defaults to 30.0): Highest level of a clip above one added to it.
    """

    def __init__(self, p: float = 0.5, max_clips: int = 3, min_snr_db: float = 3.0, max_snr_db: float = 30.0):
        if max_clips < 2:
            raise ValueError(f"`max_clips` must be at least 2, got {max_clips!r}.")
        self.p, self.max_clips = _check_share("p", p), max_clips
        self.snr_range = _check_range("snr_db", min_snr_db, max_snr_db)

    def __call__(
        self, waveforms: list[np.ndarray], labels: np.ndarray, sampling_rate: int, rng: np.random.Generator
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """The batch with other clips added to some of its waveforms, and the united labels `(batch, classes)`."""
        mixed, mixed_labels = list(waveforms), labels.copy()
        for i, waveform in enumerate(waveforms):
            if len(waveforms) > 1 and rng.random() < self.p:
                count = min(int(rng.integers(1, self.max_clips)), len(waveforms) - 1)
                others = draw_others(i, len(waveforms), count, rng)
                for other in others:
                    mixed[i] = mixed[i] + at_snr(waveforms[other], waveform, rng.uniform(*self.snr_range))
                mixed_labels[i] = labels[[i, *others]].max(axis=0)
        return mixed, mixed_labels


def draw_others(index: int, total: int, count: int, rng: np.random.Generator) -> list[int]:
    """`count` different indices below `total`, none of them `index`."""
    others = rng.choice(total - 1, size=count, replace=False)
    return [int(other + (other >= index)) for other in others]


def at_snr(waveform: np.ndarray, reference: np.ndarray, snr_db: float) -> np.ndarray:
    """`waveform` with the length of `reference`, scaled to `snr_db` decibels below it, unless one is silent."""
    waveform = fit_length(waveform, len(reference))
    rms, reference_rms = (float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) for x in (waveform, reference))
    scale = reference_rms / rms * 10 ** (-snr_db / 20) if rms > 0 and reference_rms > 0 else 1.0
    return (scale * waveform).astype(np.float32)


# ---- Filter banks ----


class SpecAugment:
    """
    Sets one band of mel bins and one of frames to silence (arXiv 1904.08779), like torchaudio's FrequencyMasking and
    TimeMasking in the original, with widths drawn uniformly from 0 to the given ones. The original masks with 0, the value
    of padding, before it normalises.

    Args:
        frequency_mask (`int`): Upper bound, exclusive, of the width in mel bins.
        time_mask (`int`): Upper bound, exclusive, of the width in frames.
    """

    def __init__(self, frequency_mask: int, time_mask: int):
        for name, width in (("frequency_mask", frequency_mask), ("time_mask", time_mask)):
            if width < 0:
                raise ValueError(f"`{name}` must not be negative, got {width!r}.")
        self.frequency_mask, self.time_mask = frequency_mask, time_mask

    def __call__(self, spectrogram: torch.Tensor, silence: float, rng: np.random.Generator) -> torch.Tensor:
        """A copy of the filter bank `(frames, mel bins)` with two bands set to `silence`."""
        spectrogram = spectrogram.clone()
        for axis, limit in ((spectrogram.T, self.frequency_mask), (spectrogram, self.time_mask)):
            width = rng.random() * min(limit, len(axis))
            start = int(rng.random() * (len(axis) - width))
            axis[start : start + int(width)] = silence
        return spectrogram


class UniformNoise:
    """Adds noise to a filter bank, like the original: values from U(0, 1), scaled by U(0, 1) / 10."""

    def __call__(self, spectrogram: torch.Tensor, silence: float, rng: np.random.Generator) -> torch.Tensor:
        """The filter bank `(frames, mel bins)` plus noise."""
        noise = rng.random(tuple(spectrogram.shape), dtype=np.float32) * rng.random() / 10
        return spectrogram + torch.from_numpy(noise)


class RollTime:
    """Rolls a filter bank in time by -`frames` to `frames` - 1 frames (10 in the original)."""

    def __init__(self, frames: int = 10):
        if frames < 1:
            raise ValueError(f"`frames` must be at least 1, got {frames!r}.")
        self.frames = frames

    def __call__(self, spectrogram: torch.Tensor, silence: float, rng: np.random.Generator) -> torch.Tensor:
        """The filter bank `(frames, mel bins)`, rolled."""
        return torch.roll(spectrogram, int(rng.integers(-self.frames, self.frames)), dims=0)


# ---- All of it ----


class Augmentation:
    """
    Transforms of waveforms and labels, then of filter banks, in order.

    Args:
        waveform_transforms (`Sequence`, *optional*): [`EachWaveform`], [`Mixup`], [`MultiLabelMix`] or the like.
        spectrogram_transforms (`Sequence`, *optional*): [`SpecAugment`], [`UniformNoise`], [`RollTime`] or the like.
        seed (`int`, *optional*, defaults to 0):
            Seed of the generators. Each process that trains (by the environment's `RANK`) and each worker process of a
            `DataLoader` has its own generator, seeded by `seed`, the rank, and torch's seed for that worker and epoch, so
            that no two processes repeat each other. After [`begin_batch`], the clips of the batch seed it instead.

    Attributes:
        first_step (`int`): The step at which training begins, 0 at first. Another step gives other draws.
    """

    def __init__(
        self,
        waveform_transforms: Sequence[WaveformTransform] = (),
        spectrogram_transforms: Sequence[SpectrogramTransform] = (),
        seed: int = 0,
    ):
        self.waveform_transforms = list(waveform_transforms)
        self.spectrogram_transforms = list(spectrogram_transforms)
        self.seed = seed
        self.first_step = 0
        self._rng: Any = None
        self._entropy: tuple[int, ...] | None = None
        self._batch_rng: np.random.Generator | None = None

    def __bool__(self) -> bool:
        return bool(self.waveform_transforms or self.spectrogram_transforms)

    @property
    def mixes_labels(self) -> bool:
        """Whether the transforms may give a clip shares of several classes."""
        return any(getattr(transform, "mixes_labels", True) for transform in self.waveform_transforms)

    def begin_batch(self, places: Sequence[tuple[int, int]] | None) -> None:
        """
        Makes the draws of a batch depend on its clips alone, not on what was drawn before, the process or the worker.

        Args:
            places (`Sequence[tuple[int, int]]`, *optional*):
                Epoch and index of each clip. Without them, the generator of this process goes on.
        """
        self._batch_rng = None if places is None else np.random.default_rng((self.seed, *itertools.chain(*places)))

    @property
    def rng(self) -> np.random.Generator:
        """The generator of this batch, or of this process."""
        if self._batch_rng is not None:
            return self._batch_rng
        worker = torch.utils.data.get_worker_info()
        entropy = (self.seed, int(os.environ.get("RANK", 0)), self.first_step, 0 if worker is None else worker.seed)
        if entropy != self._entropy:
            self._rng, self._entropy = np.random.default_rng(entropy), entropy
        return self._rng

    def waveforms(
        self, waveforms: list[np.ndarray], labels: np.ndarray, sampling_rate: int
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """
        Transforms a batch.

        Args:
            waveforms (`list[np.ndarray]`): Mono clips (samples,) of any lengths.
            labels (`np.ndarray` of shape `(batch_size, classes)`): Ones for each clip's classes, zeros elsewhere.
            sampling_rate (`int`): Sampling rate of the waveforms in hertz.

        Returns:
            New waveforms and new labels, which may lie between 0 and 1.
        """
        for transform in self.waveform_transforms:
            waveforms, labels = transform(waveforms, labels, sampling_rate, self.rng)
        return waveforms, labels

    def spectrogram(self, spectrogram: torch.Tensor, silence: float) -> torch.Tensor:
        """
        Transforms the normalised filter bank (frames, mel bins) of one clip, whose padded frames have the value `silence`.
        """
        for transform in self.spectrogram_transforms:
            spectrogram = transform(spectrogram, silence, self.rng)
        return spectrogram


@dataclass
class AugmentationArguments(AugmentationFields):
    """The augmentation of training clips. HfArgumentParser reads the fields."""

    def make(self, seed: int = 0, max_seconds: float | None = None) -> Augmentation:
        """
        Makes the [`Augmentation`], in the order of the original.

        Args:
            seed (`int`, *optional*, defaults to 0): Seed of its draws.
            max_seconds (`float`, *optional*): What the model hears of a clip, see [`VaryRecordings`].
        """
        import audiomentations

        changes = []
        if self.impulse_response_dir is not None:
            changes.append(audiomentations.ApplyImpulseResponse(self.impulse_response_dir, p=0.5))
        if self.change_waveforms:
            p = self.change_waveforms
            changes += [
                audiomentations.PitchShift(p=p),
                audiomentations.TimeStretch(leave_length_unchanged=False, p=p),
                audiomentations.Gain(p=p),
                audiomentations.AddGaussianSNR(p=p),
            ]
        if self.background_dir is not None:
            changes.append(audiomentations.AddBackgroundNoise(self.background_dir, p=0.5))
        waveform_transforms: list[WaveformTransform] = []
        if self.vary_recordings:
            waveform_transforms.append(VaryRecordings(max_seconds=max_seconds))
        if changes:
            waveform_transforms.append(EachWaveform(audiomentations.Compose(changes)))
        if self.mixup:
            waveform_transforms.append(Mixup(p=self.mixup))
        if self.multi_label_mix:
            waveform_transforms.append(MultiLabelMix(p=self.multi_label_mix))
        spectrogram_transforms: list[SpectrogramTransform] = []
        if self.frequency_mask or self.time_mask:
            spectrogram_transforms.append(SpecAugment(self.frequency_mask, self.time_mask))
        if self.noise:
            spectrogram_transforms += [UniformNoise(), RollTime()]
        return Augmentation(waveform_transforms, spectrogram_transforms, seed=seed)
