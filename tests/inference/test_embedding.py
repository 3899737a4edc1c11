# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Embeddings of clips and frames: values, time axis, layers, batches, lengths, and what is refused."""

import numpy as np
import pytest
import soxr
import torch

from hf_audio_ssm import (
    SsambaConfig,
    SsambaFeatureExtractor,
    SsambaForAudioClassification,
    SsambaForAudioFrameClassification,
    SsambaForPreTraining,
    SsambaModel,
    embed,
)
from hf_audio_ssm.common.errors import InputError


RATE = 16_000
EXTRACTOR = SsambaFeatureExtractor(max_length=64)


def make_model(cls=SsambaModel, **kwargs):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 4, "max_length": 64}
    return cls(SsambaConfig(**{**sizes, **kwargs})).eval()


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=0.1, size=int(seconds * RATE)).astype(np.float32)


def encode(model, waveform, **kwargs):
    inputs = EXTRACTOR(waveform, sampling_rate=RATE, padding="longest", truncation=False, return_tensors="pt")
    with torch.no_grad():
        return model(**inputs, **kwargs)


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=2e-6)


def test_values_are_the_models_own():
    model, waveform = make_model(), noise(1.5)
    embedding, outputs = embed(waveform, RATE, model, EXTRACTOR), encode(model, waveform)
    close(embedding.clip, outputs.pooler_output[0])
    # Patches lie frequency-major: eight rows of nine columns.
    close(embedding.frames, outputs.last_hidden_state[0, 1:].reshape(8, 9, 16).mean(dim=0))
    assert embedding.timestamps.shape == (9,)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_pooling(pooling):
    model, waveform = make_model(pooling=pooling), noise(1)
    other = {"mean": "cls", "cls": "mean"}[pooling]
    tokens = encode(model, waveform).last_hidden_state[0]
    expected = {"mean": tokens[1:].mean(dim=0), "cls": tokens[0]}
    close(embed(waveform, RATE, model, EXTRACTOR).clip, expected[pooling])
    close(embed(waveform, RATE, model, EXTRACTOR, pooling=other).clip, expected[other])


def test_layers():
    model, waveform = make_model(), noise(1)
    embedding = embed(waveform, RATE, model, EXTRACTOR, layers=(-1, 0, 2))
    states = encode(model, waveform, output_hidden_states=True).hidden_states
    assert embedding.clip.shape == (3, 16)
    assert embedding.frames.shape == (3, 6, 16)
    for row, layer in enumerate((4, 0, 2)):
        close(embedding.clip[row], states[layer][0, 1:].mean(dim=0))
    unpaired = make_model(paired_layers=False)
    assert embed(waveform, RATE, unpaired, EXTRACTOR, layers=[1]).clip.shape == (1, 16)


@pytest.mark.parametrize("time_stride", [4, 16])
def test_timestamps_point_to_the_sound(time_stride):
    """Of two clips that differ in a click, the embeddings of the patches (before any layer) differ around it."""
    model = make_model(time_stride=time_stride)
    silent, clicked = np.zeros(2 * RATE, dtype=np.float32), np.zeros(2 * RATE, dtype=np.float32)
    seconds = 1.23
    clicked[int(seconds * RATE)] = 1
    difference, timestamps = 0, None
    for clip, sign in ((silent, 1), (clicked, -1)):
        embedding = embed(clip, RATE, model, EXTRACTOR, layers=[0])
        difference, timestamps = difference + sign * embedding.frames[0], embedding.timestamps
    assert timestamps.dtype == torch.float64
    steps = torch.diff(timestamps)
    torch.testing.assert_close(steps, torch.full_like(steps, 0.01 * time_stride))
    # A patch spans 15 frame steps and one frame of 25 ms.
    changes = difference.abs().sum(dim=1)
    is_near = (timestamps - seconds).abs() < 0.0875
    # Silence without the click is the same up to its mean, which the feature extractor takes off.
    assert changes[is_near].min() > 20 * changes[~is_near].max()


def test_timestamps_are_those_of_frame_labels():
    """One clock: a column of 16 frames has its centre at 87.5 ms, and labels the step in which that lies."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "max_length": 64, "frames_per_label": 1, "num_labels": 3}
    model = SsambaForAudioFrameClassification(SsambaConfig(**sizes)).eval()
    timestamps = embed(noise(1), RATE, model, EXTRACTOR).timestamps
    assert timestamps.tolist() == pytest.approx([0.0875 + 0.16 * column for column in range(6)])
    steps = encode(model, noise(1)).timestamps
    # As far as the last column's centre.
    assert steps[-1, 0] <= timestamps[-1] < steps[-1, 1] + 1e-6


def test_clips_of_a_batch_are_embedded_as_if_alone():
    model = make_model()
    clips = [noise(seconds, seed) for seed, seconds in enumerate((0.5, 2.0, 0.05, 1.1, 0.5))]
    embeddings = embed(clips, RATE, model, EXTRACTOR, batch_size=3)
    assert [len(embedding.timestamps) for embedding in embeddings] == [3, 12, 1, 6, 3]
    for clip, embedding in zip(clips, embeddings, strict=True):
        alone = embed(clip, RATE, model, EXTRACTOR)
        close(embedding.clip, alone.clip)
        close(embedding.frames, alone.frames)
        assert torch.equal(embedding.timestamps, alone.timestamps)


def test_any_length():
    model = make_model()
    # One frame of the filter bank is filled up to a patch; a minute is encoded whole.
    assert embed(noise(0.025), RATE, model, EXTRACTOR).frames.shape == (1, 16)
    assert embed(noise(60), RATE, model, EXTRACTOR).frames.shape == (374, 16)


def test_rates_and_channels():
    model, waveform = make_model(), noise(1)
    other = soxr.resample(waveform, RATE, 44_100)
    back = soxr.resample(other, 44_100, RATE).astype(np.float32)
    close(embed(other, 44_100, model, EXTRACTOR).clip, embed(back, RATE, model, EXTRACTOR).clip)
    (stereo,) = embed([np.stack([waveform, waveform])], RATE, model, EXTRACTOR)
    close(stereo.clip, embed(waveform, RATE, model, EXTRACTOR).clip)
    close(embed(torch.from_numpy(waveform), RATE, model, EXTRACTOR).clip, stereo.clip)
    assert len(embed(np.stack([waveform, waveform]), RATE, model, EXTRACTOR)) == 2
    assert embed(waveform.tolist(), RATE, model, EXTRACTOR).clip.shape == (16,)


@pytest.mark.parametrize("cls", [SsambaForAudioClassification, SsambaForPreTraining])
def test_heads_change_nothing(cls, tmp_path):
    model, waveform = make_model(cls), noise(1)
    model.save_pretrained(tmp_path)
    EXTRACTOR.save_pretrained(tmp_path)
    expected = embed(waveform, RATE, SsambaModel.from_pretrained(tmp_path), EXTRACTOR).clip
    close(embed(waveform, RATE, model, EXTRACTOR).clip, expected)
    close(embed(waveform, RATE, str(tmp_path)).clip, expected)
    close(embed(waveform, RATE, tmp_path).clip, expected)


def test_drop_path_is_off_and_modes_are_kept():
    model, waveform = make_model(drop_path_rate=0.9), noise(1)
    expected = embed(waveform, RATE, model, EXTRACTOR).clip
    model.train()
    model.layers[0].eval()
    close(embed(waveform, RATE, model, EXTRACTOR).clip, expected)
    assert model.training
    assert not model.layers[0].training
    assert model.layers[1].training


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pooling": "max"}, "`pooling` must be one of mean, cls, or None"),
        ({"layers": [1]}, r"`layers` must be some of 0, 2, 4 .*got \[1\]"),
        ({"layers": [6]}, "`layers`"),
        ({"layers": [-6]}, "`layers`"),
        ({"layers": []}, "`layers`"),
        ({"batch_size": 0}, "`batch_size` must be at least 1"),
        ({"feature_extractor": None}, "`feature_extractor` must be given"),
        ({"model": torch.nn.Linear(2, 2)}, "`model` must be an encoder of patches of this package, got Linear"),
        ({"model": "no/such/folder"}, "`model` 'no/such/folder' cannot be loaded"),
    ],
)
def test_refused_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        embed(
            **{"waveform": noise(1), "sampling_rate": RATE, "model": make_model(), "feature_extractor": EXTRACTOR}
            | arguments
        )


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.zeros(0, dtype=np.float32), "`raw_speech"),
        (np.full(RATE, np.nan, dtype=np.float32), "NaN"),
        ([noise(1), np.zeros(0, dtype=np.float32)], r"`raw_speech\[1\]`"),
    ],
)
def test_refused_clips(waveform, message):
    with pytest.raises(ValueError, match=message):
        embed(waveform, RATE, make_model(), EXTRACTOR)
