# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Clips shorter than one frame (25 ms) are padded with zeros to one frame, wherever clips are read."""

import numpy as np
import pytest
import torch
from transformers import pipeline

from hf_audio_ssm import SsambaConfig, SsambaFeatureExtractor, SsambaForAudioClassification, embed
from hf_audio_ssm.integrations import hear, xares


RATE = 16000
LENGTHS = [1, 2, 37, 352, 399]


def noise(num_samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(num_samples) + 0.05).astype(np.float32)


def padded(clip: np.ndarray, frame: int = 400) -> np.ndarray:
    return np.pad(clip, (0, max(0, frame - len(clip))))


def extract(clips, extractor=None, **options):
    extractor = extractor or SsambaFeatureExtractor(max_length=8, num_mel_bins=16)
    options = {"sampling_rate": RATE, "return_tensors": "np", "return_attention_mask": True, **options}
    return extractor(clips, **options)


@pytest.mark.parametrize("num_samples", LENGTHS)
@pytest.mark.parametrize("form", [np.asarray, torch.from_numpy, np.ndarray.tolist])
def test_padded_with_zeros_to_one_frame(num_samples, form):
    clip = noise(num_samples)
    features, expected = extract(form(clip)), extract(padded(clip))
    assert features.attention_mask.tolist() == [[1] + [0] * 7]
    np.testing.assert_array_equal(features.input_values, expected.input_values)
    assert np.isfinite(features.input_values).all()


@pytest.mark.parametrize("padding", ["max_length", "longest", False])
def test_batches_of_short_and_long_clips(padding):
    clips = [noise(length, seed) for seed, length in enumerate([*LENGTHS, 400, 401, 1000])]
    features = extract(clips, padding=padding, return_tensors=None)
    assert [int(mask.sum()) for mask in features.attention_mask] == [1] * 7 + [4]
    for clip, values, mask in zip(clips, features.input_values, features.attention_mask, strict=True):
        alone = extract(padded(clip), padding=False).input_values[0]
        np.testing.assert_array_equal(values[mask == 1], alone)


def test_forms_of_a_batch_agree():
    batch = np.stack([noise(200, seed) for seed in range(3)])
    expected = extract(padded(batch[0])).input_values[0]
    for form in (batch, list(batch), batch.tolist(), torch.from_numpy(batch), [clip[None] for clip in batch]):
        features = extract(form).input_values
        assert features.shape == (3, 8, 16)
        np.testing.assert_array_equal(features[0], expected)


def test_stereo_and_integers_and_other_rates():
    clip = (noise(300) * 10000).astype(np.int16)
    expected = extract(padded(clip)).input_values
    np.testing.assert_array_equal(extract([np.stack([clip, clip])]).input_values, expected)
    np.testing.assert_array_equal(extract([np.stack([clip, clip], axis=1)]).input_values, expected)
    assert extract(noise(1, 1), sampling_rate=48000, resample=True).attention_mask.sum() == 1
    assert extract(noise(1000), sampling_rate=48000, resample=True).attention_mask.sum() == 1
    slow = SsambaFeatureExtractor(max_length=8, num_mel_bins=16, sampling_rate=8000)
    features = [extract(each, slow, sampling_rate=8000).input_values for each in (noise(150), padded(noise(150), 200))]
    np.testing.assert_array_equal(*features)


def test_no_samples_are_refused_in_one_line():
    for clip in (np.zeros(0), torch.zeros(0), [noise(400), np.zeros(0)], [np.zeros((2, 0))], np.zeros((3, 0))):
        with pytest.raises(ValueError, match=r"^`raw_speech.*` is empty .*expected audio samples\.$") as error:
            extract(clip)
        assert "\n" not in str(error.value)


def test_statistics_and_streams_read_them():
    extractor = SsambaFeatureExtractor(max_length=8, num_mel_bins=16)
    clip = noise(300)
    statistics = [extractor.compute_mean_std([each], sampling_rate=RATE) for each in (clip, padded(clip))]
    assert statistics[0] == statistics[1]
    frames = torch.cat(list(extractor.stream([clip[:100], clip[100:]])))
    np.testing.assert_allclose(frames.numpy(), extract(clip, extractor, padding=False).input_values[0], atol=1e-5)
    assert list(extractor.stream([])) == list(extractor.stream([clip[:0]])) == []
    # The rest of a longer recording is left out, as a call does.
    assert len(torch.cat(list(extractor.stream([noise(400), clip[:100]])))) == 1


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    config = SsambaConfig(hidden_size=16, num_hidden_layers=2, max_length=64, num_mel_bins=32, num_labels=3)
    extractor = SsambaFeatureExtractor(max_length=64, num_mel_bins=32, return_attention_mask=True)
    return SsambaForAudioClassification(config).eval(), extractor


def test_pipeline(classifier):
    model, extractor = classifier
    classify = pipeline("audio-classification", model=model, feature_extractor=extractor)
    for num_samples in LENGTHS:
        clip = noise(num_samples)
        assert classify(clip) == classify(padded(clip))


def test_embedding_and_evaluation_suites(classifier, tmp_path):
    model, extractor = classifier
    one, other = (embed(clip, RATE, model.base_model, extractor) for clip in (noise(99), padded(noise(99))))
    torch.testing.assert_close(one.clip, other.clip)
    model.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    short = torch.from_numpy(noise(99))[None].repeat(2, 1)
    longer = torch.nn.functional.pad(short, (0, 301))
    loaded = hear.load_model(str(tmp_path))
    torch.testing.assert_close(*(hear.get_scene_embeddings(audio, loaded) for audio in (short, longer)))
    encoder = xares.PatchEncoder(str(tmp_path))
    torch.testing.assert_close(encoder(short), encoder(longer))
