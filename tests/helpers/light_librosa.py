# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""A stand-in for librosa, which compiles for half a minute when it is first used in a new environment."""

from types import SimpleNamespace

import numpy as np
import pytest
import soundfile


def replace_librosa(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes audiomentations read and change sounds without librosa: the lengths are the same, the sounds are not."""
    stand_in = SimpleNamespace(
        __version__="0.10.0",
        load=lambda path, **keywords: soundfile.read(path, dtype="float32"),
        resample=lambda samples, orig_sr, target_sr, res_type: _stretch(samples, orig_sr / target_sr),
        effects=SimpleNamespace(
            pitch_shift=lambda samples, sr, n_steps, **keywords: np.roll(samples, round(n_steps)),
            time_stretch=_stretch,
        ),
    )
    for module in ("core.audio_loading_utils", "augmentations.pitch_shift", "augmentations.time_stretch"):
        monkeypatch.setattr(f"audiomentations.{module}.librosa", stand_in)


def _stretch(samples: np.ndarray, rate: float) -> np.ndarray:
    places = np.linspace(0, len(samples) - 1, round(len(samples) / rate))
    return np.interp(places, np.arange(len(samples)), samples).astype(np.float32)
