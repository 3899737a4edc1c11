# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from hf_audio_ssm import SsambaFeatureExtractor
from hf_audio_ssm.common.errors import ClipError
from hf_audio_ssm.data.labelled_collator import LabelledClipCollator
from hf_audio_ssm.data.statistics import filter_bank_statistics


RATE = 16_000


@pytest.fixture
def rows():
    """Clips of noise, of which only the last two of 40 frames are loud."""
    rng = np.random.default_rng(0)
    samples = 1e-3 * rng.standard_normal((3, 39 * 160 + 400), dtype=np.float32)
    samples[:, 38 * 160 + 240 :] *= 1000
    return [{"audio": {"array": clip, "sampling_rate": RATE}, "label": 0} for clip in samples]


def test_statistics_count_every_frame_that_training_reads(rows):
    extractor = SsambaFeatureExtractor(max_length=40, do_normalize=False)
    read = LabelledClipCollator(extractor, num_labels=2, multi_hot=False)(rows)["input_values"].double()
    expected = (read.mean().item(), read.std(correction=0).item())
    assert filter_bank_statistics(extractor, rows) == pytest.approx(expected, rel=1e-6)
    # The last two frames make the difference.
    without = SsambaFeatureExtractor(max_length=38, do_normalize=False)
    assert abs(filter_bank_statistics(without, rows)[0] - expected[0]) > 0.1


def test_a_limit_and_clips_that_cannot_be_used(rows, tmp_path):
    extractor = SsambaFeatureExtractor(max_length=40)
    broken = [{"audio": str(tmp_path / "missing.wav")}, *rows]
    with pytest.raises(ClipError, match="missing.wav: no such file"):
        filter_bank_statistics(extractor, broken)
    skipped = filter_bank_statistics(extractor, iter(broken), limit=2, skip_unreadable=True)
    assert skipped == filter_bank_statistics(extractor, rows, limit=1) == filter_bank_statistics(extractor, rows[:1])
