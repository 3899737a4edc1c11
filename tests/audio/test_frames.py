# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The one clock, against the filter bank itself."""

import ast
import inspect

import numpy as np
import pytest

from hf_audio_ssm import SsambaFeatureExtractor
from hf_audio_ssm.audio import frames


def test_the_clock_imports_nothing():
    """Checkpoints carry it."""
    tree = ast.parse(inspect.getsource(frames))
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100])
@pytest.mark.parametrize("num_frames", [1, 2, 7, 100])
def test_samples_of_frames_are_those_that_the_filter_bank_reads(rate, num_frames):
    samples = frames.samples_spanned(num_frames, rate)
    extractor = SsambaFeatureExtractor(sampling_rate=rate, num_mel_bins=16)
    for length, expected in ((samples, num_frames), (samples - 1, num_frames - 1)):
        if expected:
            values = extractor(np.ones(length), sampling_rate=rate, padding=False)["input_values"][0]
            assert len(values) == expected


@pytest.mark.parametrize("num_frames", [1, 2, 16, 1024])
def test_seconds(num_frames):
    # What whole frames span, they fit in.
    seconds = frames.seconds_spanned(num_frames)
    assert frames.count_frames(seconds) == num_frames
    assert frames.count_frames(seconds - 1e-4) == num_frames - 1
    assert seconds == pytest.approx(frames.frames_to_seconds(num_frames) + 0.015)
    assert frames.samples_spanned(num_frames, 16_000) == pytest.approx(16_000 * seconds)
    assert frames.centre_of_frames(num_frames) == pytest.approx(100 * seconds / 2)


def test_a_patch_of_16_frames_has_its_centre_at_87_5_ms():
    assert frames.frames_to_seconds(frames.centre_of_frames(16)) == pytest.approx(0.0875)


def test_less_than_a_frame():
    assert [frames.count_frames(seconds) for seconds in (0, 0.0249, 0.025, 0.0349, 0.035)] == [0, 0, 1, 1, 2]
