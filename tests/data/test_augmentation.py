# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Augmentation: what each transform does, that seeds decide it, and that workers do not repeat each other."""

import random

import numpy as np
import pytest
import soundfile
import torch
from light_librosa import replace_librosa

from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.data.augmentation import (
    Augmentation,
    AugmentationArguments,
    EachWaveform,
    Mixup,
    MultiLabelMix,
    RollTime,
    SpecAugment,
    UniformNoise,
    VaryRecordings,
)


RATE = 16000
LABELS = np.eye(3, 4, dtype=np.float32)


def make_rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def make_waveforms() -> list[np.ndarray]:
    return [make_rng(i).normal(0.2, 0.1, size=length).astype(np.float32) for i, length in enumerate((800, 1000, 600))]


def test_mixup():
    waveforms = make_waveforms()
    mixed, labels = Mixup(p=1.0)(waveforms, LABELS, RATE, make_rng())
    shares = set()
    for i in range(3):
        (other,) = np.flatnonzero(labels[i] * (np.arange(4) != i))
        share = labels[i, i]
        assert labels[i].sum() == pytest.approx(1)
        first, second = (waveform - waveform.mean() for waveform in (waveforms[i], waveforms[other]))
        second = np.pad(second, (0, 400))[: len(first)]
        np.testing.assert_allclose(mixed[i], share * first + (1 - share) * second, atol=1e-6)
        assert mixed[i].dtype == np.float32
        shares.add(float(share))
    assert len(shares) == 3
    assert (LABELS == np.eye(3, 4)).all()
    # Beta(10, 10) keeps to the middle.
    many = [Mixup(p=1.0)(waveforms, LABELS, RATE, make_rng(seed))[1][0, 0] for seed in range(200)]
    assert 0.45 < np.mean(many) < 0.55
    assert 0.08 < np.std(many) < 0.14


def test_share_of_mixed_clips():
    counts = [np.sum(Mixup(p=0.3)(make_waveforms(), LABELS, RATE, make_rng(s))[1].max(1) < 1) for s in range(300)]
    assert 0.25 < np.mean(counts) / 3 < 0.35
    alone, labels = Mixup(p=1.0)(make_waveforms()[:1], LABELS[:1], RATE, make_rng())
    np.testing.assert_array_equal(alone[0], make_waveforms()[0])
    np.testing.assert_array_equal(labels, LABELS[:1])


def test_multi_label_mix():
    waveforms = make_waveforms()
    mixed, labels = MultiLabelMix(p=1.0, max_clips=2, min_snr_db=6, max_snr_db=12)(waveforms, LABELS, RATE, make_rng())
    for i, waveform in enumerate(waveforms):
        assert labels[i, i] == 1
        assert labels[i].sum() == 2
        added = mixed[i] - waveform
        snr = 20 * np.log10(np.sqrt(np.mean(waveform**2)) / np.sqrt(np.mean(added**2)))
        assert 6 <= snr <= 12
    counts = {
        labels.sum() for s in range(20) for labels in MultiLabelMix(1.0)(waveforms, LABELS, RATE, make_rng(s))[1]
    }
    assert counts == {2, 3}


def test_multi_label_mix_with_silence():
    waveforms = [np.zeros(800, dtype=np.float32), make_waveforms()[0]]
    mixed, labels = MultiLabelMix(p=1.0)(waveforms, LABELS[:2], RATE, make_rng())
    assert all(np.isfinite(waveform).all() for waveform in mixed)
    np.testing.assert_array_equal(mixed[1], waveforms[1])
    assert (labels[:, :2] == 1).all()


def test_spec_augment():
    spectrogram = torch.ones(100, 40)
    widths = {"mels": [], "frames": []}
    for seed in range(200):
        masked = SpecAugment(frequency_mask=10, time_mask=30)(spectrogram, -5.0, make_rng(seed)) == -5
        mels, frames = masked.all(dim=0), masked.all(dim=1)
        assert torch.equal(masked, mels[None] | frames[:, None])
        for name, axis in (("mels", mels), ("frames", frames)):
            widths[name].append(int(axis.sum()))
            assert len(torch.unique_consecutive(axis)) <= 3
    assert (spectrogram == 1).all()
    assert set(widths["mels"]) == set(range(10))
    assert min(widths["frames"]) <= 1
    assert 27 <= max(widths["frames"]) <= 29
    # Masks wider than the clip are as wide as the clip.
    SpecAugment(500, 500)(spectrogram, 0.0, make_rng())


def test_uniform_noise_and_roll():
    spectrogram = torch.arange(100.0)[:, None].repeat(1, 4)
    noise = UniformNoise()(spectrogram, 0.0, make_rng()) - spectrogram
    assert noise.min() >= 0
    assert 0 < noise.max() <= 0.1
    shifts = {int(RollTime()(spectrogram, 0.0, make_rng(seed))[50, 0]) - 50 for seed in range(300)}
    assert shifts == set(range(-9, 11))


def test_audiomentations_draws_from_the_generator_alone():
    import audiomentations

    transform = EachWaveform(audiomentations.AddGaussianSNR(p=1.0))
    random.seed(5)
    np.random.seed(5)
    states = random.getstate(), np.random.get_state()[1].copy()
    first, labels = transform(make_waveforms(), LABELS, RATE, make_rng(3))
    assert random.getstate() == states[0]
    assert (np.random.get_state()[1] == states[1]).all()
    random.seed(6)
    again, _ = transform(make_waveforms(), LABELS, RATE, make_rng(3))
    other, _ = transform(make_waveforms(), LABELS, RATE, make_rng(4))
    assert labels is LABELS
    for a, b, c, original in zip(first, again, other, make_waveforms(), strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)
        assert not np.array_equal(a, original)


def test_no_clip_gets_too_short_to_be_read():
    waveforms = [np.ones(length, dtype=np.float32) for length in (800, 410)]
    half = EachWaveform(lambda samples, sample_rate: samples[::2])
    assert [len(waveform) for waveform in half(waveforms, LABELS[:2], RATE, make_rng())[0]] == [400, 410]
    assert [len(waveform) for waveform in half(waveforms, LABELS[:2], RATE // 2, make_rng())[0]] == [400, 205]


@pytest.fixture
def sound_dir(tmp_path):
    folder = tmp_path / "sounds"
    folder.mkdir()
    soundfile.write(folder / "hum.wav", np.sin(np.arange(8000) / 10) / 4, 8000)
    return str(folder)


@pytest.fixture(params=["stand_in", pytest.param("librosa", marks=pytest.mark.slow)])
def librosa(request, monkeypatch):
    """What audiomentations reads and stretches sounds with."""
    if request.param == "stand_in":
        replace_librosa(monkeypatch)


def test_everything_in_order(sound_dir, librosa):
    arguments = AugmentationArguments(
        change_waveforms=1.0,
        background_dir=sound_dir,
        impulse_response_dir=sound_dir,
        mixup=0.5,
        multi_label_mix=0.5,
        frequency_mask=8,
        time_mask=8,
        noise=True,
    )
    augmentation = arguments.make(seed=3)
    kinds = [type(transform) for transform in augmentation.waveform_transforms + augmentation.spectrogram_transforms]
    assert kinds == [VaryRecordings, EachWaveform, Mixup, MultiLabelMix, SpecAugment, UniformNoise, RollTime]
    assert augmentation.mixes_labels
    # Clips of one frame of the filter bank, too.
    for waveforms in (make_waveforms(), [waveform[:400] for waveform in make_waveforms()]):
        changed, _ = augmentation.waveforms(waveforms, LABELS, RATE)
        assert all(np.isfinite(waveform).all() and len(waveform) for waveform in changed)
    again = arguments.make(seed=3)
    first, second = arguments.make(seed=4), arguments.make(seed=4)
    for waveforms in (make_waveforms(), make_waveforms()):
        a, b = (each.waveforms(waveforms, LABELS, RATE) for each in (first, second))
        np.testing.assert_array_equal(a[1], b[1])
        for x, y in zip(a[0], b[0], strict=True):
            np.testing.assert_array_equal(x, y)
    spectrogram = torch.zeros(64, 32)
    assert not torch.equal(first.spectrogram(spectrogram, 0.0), again.spectrogram(spectrogram, 0.0))


def test_recordings_are_varied_by_default():
    augmentation = AugmentationArguments().make()
    assert [type(transform) for transform in augmentation.waveform_transforms] == [VaryRecordings]
    assert augmentation.spectrogram_transforms == []
    assert not augmentation.mixes_labels


def test_nothing_if_it_is_turned_off():
    augmentation = AugmentationArguments(vary_recordings=False).make()
    assert not augmentation
    assert not augmentation.mixes_labels
    assert AugmentationArguments(vary_recordings=False, change_waveforms=0.5).make().mixes_labels is False
    waveforms = make_waveforms()
    assert augmentation.waveforms(waveforms, LABELS, RATE) == (waveforms, LABELS)


def test_other_recordings_of_the_same_clips():
    """Speed, silence, level and noise each stay in their range, reach its ends, and change nothing else."""
    rate, clip = 8000, np.sin(np.arange(4000) * 0.5).astype(np.float32)
    still = {"speed": 1.0, "colour": 0.0, "silence": 0.0, "min_level_db": 0.0, "max_level_db": 0.0, "noise_p": 0.0}

    def draw(count=60, **settings):
        (transform, rng) = VaryRecordings(**still | settings), make_rng()
        return [transform([clip], LABELS[:1], rate, rng)[0][0] for _ in range(count)]

    np.testing.assert_array_equal(draw(1)[0], clip)
    lengths = [len(clip) / len(changed) for changed in draw(speed=1.25)]
    assert 0.8 - 1e-3 <= min(lengths) < 0.82
    assert 1.22 < max(lengths) <= 1.25 + 1e-3
    for changed in draw(silence=0.3):
        (start,) = np.flatnonzero(np.correlate(changed, clip, "valid") > 0.999 * np.sum(clip**2))
        np.testing.assert_array_equal(changed[start : start + len(clip)], clip)
        assert not changed[:start].any()
        assert not changed[start + len(clip) :].any()
        assert max(start, len(changed) - len(clip) - start) <= 0.3 * rate
    for seconds in (0.6, 0.5, 0.1):
        lengths = [len(changed) / rate for changed in draw(silence=0.3, max_seconds=seconds)]
        assert max(lengths) <= max(seconds, 0.5) + 2 / rate
        assert max(lengths) > max(seconds, 0.5) - 0.02
    # The filter's gain at a sine's frequency, of 0.5 in radians a sample, is |1 + share * exp(-0.5j)|.
    gains = [np.abs(changed[100:]).max() / np.abs(clip[100:]).max() for changed in draw(colour=0.6)]
    least, most = (abs(1 + share * np.exp(-0.5j)) for share in (-0.6, 0.6))
    assert least - 1e-3 <= min(gains) < least + 0.1
    assert most - 0.1 < max(gains) <= most + 1e-3
    levels = [20 * np.log10(np.abs(changed).max() / np.abs(clip).max()) for changed in draw(min_level_db=-30.0)]
    assert -30 <= min(levels) < -27
    assert -3 < max(levels) <= 0
    noises = [changed - clip for changed in draw(noise_p=0.5, min_snr_db=5.0, max_snr_db=50.0)]
    ratios = [10 * np.log10(np.sum(clip**2) / np.sum(noise**2)) for noise in noises if noise.any()]
    assert 15 < len(ratios) < 45
    assert 4.9 <= min(ratios) < 15
    assert 40 < max(ratios) <= 50.1
    # A single sample has no speed.
    assert len(VaryRecordings().vary(np.ones(1, np.float32), rate, make_rng())) >= 1


class Draws(torch.utils.data.Dataset):
    """What the augmentation draws first for each item, in whichever process asks."""

    def __init__(self):
        self.augmentation = Augmentation(spectrogram_transforms=[UniformNoise()], seed=7)

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.augmentation.spectrogram(torch.zeros(1, 1), 0.0)


def test_workers_and_epochs_do_not_repeat_each_other():
    runs = []
    for _ in range(2):
        torch.manual_seed(0)
        dataset = Draws()
        dataset[0]
        loader = torch.utils.data.DataLoader(dataset, batch_size=2, num_workers=2)
        runs.append([float(value) for _ in range(2) for batch in loader for value in batch.flatten()])
    assert len(set(runs[0])) == 8
    assert runs[0] == runs[1]


def test_processes_and_continued_trainings_do_not_repeat_each_other(monkeypatch):
    first = []
    for rank in (0, 1):
        monkeypatch.setenv("RANK", str(rank))
        draws = Draws()
        for step in (0, 5):
            draws.augmentation.first_step = step
            torch.manual_seed(0)
            first.append(float(draws[0]))
            loader = torch.utils.data.DataLoader(draws, batch_size=4, num_workers=1)
            first.append(float(next(iter(loader))[0]))
    assert len(set(first)) == 8
    monkeypatch.delenv("RANK")
    assert float(Draws()[0]) == first[0]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Mixup(p=1.5), ValueError, r"`p` must be in 0 \.\.\. 1, got 1.5"),
        (lambda: Mixup(alpha=0), ValueError, "`alpha` must be positive, got 0"),
        (lambda: MultiLabelMix(max_clips=1), ValueError, "`max_clips` must be at least 2, got 1"),
        (lambda: MultiLabelMix(min_snr_db=5, max_snr_db=1), ValueError, "`min_snr_db` must be at most `max_snr_db`"),
        (lambda: SpecAugment(-1, 0), ValueError, "`frequency_mask` must not be negative, got -1"),
        (lambda: VaryRecordings(speed=0.5), ValueError, "`speed` must be a number of at least 1, got 0.5"),
        (lambda: VaryRecordings(silence=-1), ValueError, "`silence` must be a number of at least 0, got -1"),
        (lambda: VaryRecordings(colour=1.5), ValueError, r"`colour` must be in 0 \.\.\. 1, got 1.5"),
        (lambda: VaryRecordings(noise_p=2), ValueError, r"`noise_p` must be in 0 \.\.\. 1, got 2"),
        (lambda: VaryRecordings(max_level_db=-40), ValueError, "`min_level_db` must be at most `max_level_db`"),
        (lambda: RollTime(0), ValueError, "`frames` must be at least 1, got 0"),
        (lambda: AugmentationArguments(mixup=-0.1), InputError, r"--mixup must be in 0 \.\.\. 1, got -0.1"),
        (lambda: AugmentationArguments(time_mask=-3), InputError, "--time_mask must not be negative, got -3"),
        (lambda: AugmentationArguments(background_dir="none"), InputError, "--background_dir must be a folder with"),
    ],
)
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
