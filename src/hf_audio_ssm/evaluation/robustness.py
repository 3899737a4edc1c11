# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Changes of clips that leave their labels as they are: silence around them, another level, noise."""

from collections.abc import Callable

import numpy as np


def add_silence(samples: np.ndarray, sampling_rate: int, before: float = 0.0, after: float = 0.0) -> np.ndarray:
    """
    Adds digital silence.

    Args:
        samples (`np.ndarray` of shape `(samples,)`): A mono clip.
        sampling_rate (`int`): Its sampling rate in hertz.
        before (`float`, *optional*, defaults to 0.0): Seconds of silence before the clip.
        after (`float`, *optional*, defaults to 0.0): Seconds of silence after the clip.

    Raises:
        `ValueError`: If a length is negative.
    """
    return np.pad(samples, (round(before * sampling_rate), round(after * sampling_rate)))


def change_level(samples: np.ndarray, decibels: float) -> np.ndarray:
    """
    Makes a clip louder or quieter.

    Args:
        samples (`np.ndarray` of shape `(samples,)`): A mono clip.
        decibels (`float`): The change of its level; below 0 is quieter.
    """
    return (samples * 10 ** (decibels / 20)).astype(samples.dtype)


def add_noise(samples: np.ndarray, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """
    Adds white noise at exactly this signal-to-noise ratio, measured over the whole clip. A silent clip stays silent.

    Args:
        samples (`np.ndarray` of shape `(samples,)`): A mono clip.
        snr_db (`float`): The level of the clip above that of the noise, in decibels.
        rng (`np.random.Generator`): Draws the noise.
    """
    signal = samples.astype(np.float64)
    noise = rng.standard_normal(len(signal))
    scale = np.sqrt(np.sum(signal**2) / np.sum(noise**2)) * 10 ** (-snr_db / 20)
    return (signal + scale * noise).astype(samples.dtype)


# The changes of a table of robustness, by name. Each takes a mono clip `(samples,)`, its sampling rate and a generator.
CHANGES: dict[str, Callable[[np.ndarray, int, np.random.Generator], np.ndarray]] = {
    "0.1 s of silence before": lambda samples, rate, rng: add_silence(samples, rate, before=0.1),
    "0.3 s of silence before": lambda samples, rate, rng: add_silence(samples, rate, before=0.3),
    "0.1 s of silence after": lambda samples, rate, rng: add_silence(samples, rate, after=0.1),
    "0.3 s of silence after": lambda samples, rate, rng: add_silence(samples, rate, after=0.3),
    "20 dB quieter": lambda samples, rate, rng: change_level(samples, -20),
    "noise 20 dB below": lambda samples, rate, rng: add_noise(samples, 20, rng),
    "noise 10 dB below": lambda samples, rate, rng: add_noise(samples, 10, rng),
}
