# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The head on statistics over time, against NumPy."""

import numpy as np
import pytest
import torch

from hf_audio_ssm import SsambaConfig, SsambaForAudioClassification
from hf_audio_ssm.models.heads.statistics_head import StatisticsHead, describe


def make_model(**fields) -> SsambaForAudioClassification:
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "max_length": 64, "num_mel_bins": 32, "num_labels": 3}
    config = SsambaConfig(
        **{**sizes, "classifier_type": "statistics", "problem_type": "single_label_classification", **fields}
    )
    return SsambaForAudioClassification(config).eval()


def statistics_by_numpy(values: np.ndarray) -> np.ndarray:
    """Of values `(time, channels)`."""
    return np.concatenate((values.mean(axis=0), values.std(axis=0), values.max(axis=0)))


@pytest.mark.parametrize("of_filter_bank", [False, True])
def test_logits_by_numpy(of_filter_bank):
    model = make_model(statistics_of_filter_bank=of_filter_bank)
    head = model.classifier
    head.standardization.running_mean.normal_()
    head.standardization.running_var.uniform_(0.5, 2)
    input_values = torch.randn(2, 100, 32)
    with torch.no_grad():
        outputs = model(input_values)
        tokens = model.ssamba(input_values).last_hidden_state[:, 1:].double().numpy()
    rows, columns = model.config.patch_grid(100)
    weights = {name: value.double().numpy() for name, value in head.state_dict().items()}
    for clip in range(2):
        grid = tokens[clip].reshape(rows, columns, 8)
        features = np.concatenate([statistics_by_numpy(row) for row in grid])
        if of_filter_bank:
            features = np.concatenate((features, statistics_by_numpy(input_values[clip].double().numpy())))
        mean, variance = weights["standardization.running_mean"], weights["standardization.running_var"]
        features = (features - mean) / np.sqrt(variance + 1e-5)
        expected = weights["statistics_dense.weight"] @ features + weights["statistics_dense.bias"]
        np.testing.assert_allclose(outputs.logits[clip], expected, rtol=1e-4, atol=1e-5)


def test_training_standardizes_by_the_batch_and_follows_it():
    head = make_model(classifier_dropout=0.0).classifier.train()
    features = 5 + 2 * torch.randn(200, head.num_features + 96)
    own = features[:, : head.num_features]
    expected = (own - own.mean(dim=0)) / (own.var(dim=0, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(head(features), head.statistics_dense(expected), rtol=1e-4, atol=1e-5)
    for _ in range(100):
        head(features)
    torch.testing.assert_close(head.standardization.running_mean, own.mean(dim=0), rtol=1e-3, atol=1e-3)


def test_a_batch_of_one_clip_trains():
    model = make_model(classifier_dropout=0.0, drop_path_rate=0.0)
    input_values = torch.randn(1, 64, 32)
    expected = model(input_values).logits
    outputs = model.train()(input_values, labels=torch.tensor([1]))
    torch.testing.assert_close(outputs.logits, expected)
    outputs.loss.backward()
    assert model.classifier.statistics_dense.weight.grad.any()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_dropout():
    assert make_model().classifier.dropout.p == 0.2
    assert make_model(classifier_dropout=0.5).classifier.dropout.p == 0.5


@pytest.mark.parametrize("shape", [(2, 1, 4), (2, 5, 4)])
def test_gradients_of_constant_inputs_are_finite(shape):
    values = torch.full(shape, 0.3, requires_grad=True)
    statistics = describe(values)
    torch.testing.assert_close(statistics[:, 4:8], torch.zeros(2, 4), atol=1e-6, rtol=0)
    statistics.square().sum().backward()
    assert values.grad.isfinite().all()
    values = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    if shape[1] > 1:
        assert torch.autograd.gradcheck(describe, values)


def test_masked_times_do_not_count():
    values, mask = torch.randn(3, 6, 4), torch.arange(6) < torch.tensor([6, 2, 0])[:, None]
    values = values.where(mask[..., None], torch.nan)
    statistics = describe(values, mask)
    for clip, times in enumerate((6, 2)):
        np.testing.assert_allclose(
            statistics[clip], statistics_by_numpy(values[clip, :times].numpy()), rtol=1e-5, atol=1e-6
        )
    # A row that patchout left out.
    assert not statistics[2].any()


def test_both_options_read_the_same_features():
    """Probes with and without the filter bank share the cache."""
    model = make_model()
    input_values = torch.randn(2, 64, 32)
    features = StatisticsHead.read(model.ssamba(input_values), model.config, input_values)
    assert features.shape == (2, 3 * 2 * 8 + 3 * 32)
    torch.testing.assert_close(model(encoder_features=features).logits, model(input_values).logits)


def test_padded_clips_are_read_as_if_alone():
    model = make_model(statistics_of_filter_bank=True)
    frames = torch.tensor([64, 16, 39])
    input_values = torch.randn(3, 64, 32)
    attention_mask = torch.arange(64) < frames[:, None]
    together = model(input_values, attention_mask=attention_mask).logits
    for clip, length in enumerate(frames.tolist()):
        alone = model(input_values[clip : clip + 1, :length]).logits
        torch.testing.assert_close(together[clip : clip + 1], alone, rtol=1e-4, atol=1e-5)
