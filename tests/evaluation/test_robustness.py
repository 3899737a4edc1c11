# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The changes of clips by their closed forms: lengths of silence, levels and signal-to-noise ratios."""

import numpy as np
import pytest

from hf_audio_ssm.evaluation.robustness import CHANGES, add_noise, add_silence, change_level


RATE = 16000


@pytest.fixture
def clip():
    return np.random.default_rng(3).uniform(-0.5, 0.5, size=RATE // 2).astype(np.float32)


@pytest.mark.parametrize(("before", "after"), [(0.3, 0.0), (0.0, 0.3), (0.1, 0.25), (0.0, 0.0)])
@pytest.mark.parametrize("rate", [8000, 16000, 22050])
def test_silence_has_its_length_and_leaves_the_clip(clip, rate, before, after):
    changed = add_silence(clip, rate, before, after)
    start, end = round(before * rate), round(after * rate)
    assert len(changed) == start + len(clip) + end
    assert not changed[:start].any()
    assert not changed[start + len(clip) :].any()
    assert np.array_equal(changed[start : start + len(clip)], clip)
    assert changed.dtype == clip.dtype


@pytest.mark.parametrize(("decibels", "factor"), [(-20, 0.1), (0, 1.0), (20, 10.0), (-6.0206, 0.5)])
def test_levels(clip, decibels, factor):
    changed = change_level(clip, decibels)
    np.testing.assert_allclose(changed, factor * clip, rtol=1e-5)
    assert changed.dtype == np.float32


@pytest.mark.parametrize("snr_db", [-5, 10, 20, 30])
@pytest.mark.parametrize("level", [1.0, 1e-3])
def test_noise_has_its_level(clip, snr_db, level):
    clip = (level * clip).astype(np.float64)
    noise = add_noise(clip, snr_db, np.random.default_rng(0)) - clip
    assert 10 * np.log10(np.sum(clip**2) / np.sum(noise**2)) == pytest.approx(snr_db, abs=1e-6)
    # White: neighbouring samples are unrelated.
    assert abs(np.corrcoef(noise[1:], noise[:-1])[0, 1]) < 0.05
    assert np.array_equal(add_noise(clip, snr_db, np.random.default_rng(0)), clip + noise)


def test_silence_stays_silence():
    assert not add_noise(np.zeros(100, np.float32), 20, np.random.default_rng(0)).any()


def test_the_changes_are_what_their_names_say(clip):
    def changed(name):
        return CHANGES[name](clip, RATE, np.random.default_rng(0))

    for seconds in (0.1, 0.3):
        samples = int(seconds * RATE)
        for name, start in ((f"{seconds} s of silence before", samples), (f"{seconds} s of silence after", 0)):
            result = changed(name)
            assert len(result) == len(clip) + samples
            assert np.array_equal(result[start : start + len(clip)], clip)
    np.testing.assert_allclose(changed("20 dB quieter"), clip / 10, rtol=1e-6)
    for snr_db in (20, 10):
        noise = changed(f"noise {snr_db} dB below").astype(np.float64) - clip
        assert 10 * np.log10(np.sum(clip.astype(np.float64) ** 2) / np.sum(noise**2)) == pytest.approx(
            snr_db, abs=1e-3
        )
    assert len(CHANGES) == 7
