# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The configuration: defaults, sizes, derived values, refusals, and what is saved."""

import pytest
from huggingface_hub.errors import StrictDataclassError

from hf_audio_ssm import SsambaConfig, SsambaForAudioClassification, SsambaForPreTraining


@pytest.mark.parametrize(
    ("size", "hidden_size", "encoder", "published"),
    [("tiny", 192, 6.92e6, 7.29e6), ("small", 384, 25.35e6, 26.22e6), ("base", 768, 96.70e6, 99.04e6)],
)
def test_published_sizes(size, hidden_size, encoder, published):
    config = getattr(SsambaConfig, size)()
    assert (config.hidden_size, config.num_hidden_layers) == (hidden_size, 24)
    import torch

    with torch.device("meta"):
        model = SsambaForPreTraining(config)
    count = sum(parameter.numel() for parameter in model.parameters())
    # The published files hold an unused head of 1000 classes and two integers too.
    assert count + 1000 * (hidden_size + 1) + 2 == pytest.approx(published, rel=1e-3)
    encoder_count = sum(parameter.numel() for parameter in model.ssamba.parameters()) - hidden_size
    assert encoder_count == pytest.approx(encoder, rel=1e-3)


def test_sizes_take_overrides():
    config = SsambaConfig.small(num_hidden_layers=2, hidden_size=64)
    assert (config.hidden_size, config.num_hidden_layers) == (64, 2)


def test_derived_values():
    config = SsambaConfig(hidden_size=100, patch_size=(128, 2), frequency_stride=128, time_stride=2)
    assert config.time_step_rank == 7
    assert config.intermediate_size == 200
    assert config.patch_shape == (128, 2)
    assert config.patch_grid() == (1, 512)
    assert config.patch_grid(100) == (1, 50)
    assert list(config.position_grid) == [1, 512]


def test_stored_grid_survives_a_change_of_stride(tmp_path):
    SsambaConfig().save_pretrained(tmp_path)
    config = SsambaConfig.from_pretrained(tmp_path, frequency_stride=10, time_stride=10)
    assert list(config.position_grid) == [8, 64]
    assert config.patch_grid() == (12, 101)


def test_saved_and_reloaded_configurations_agree(tmp_path):
    config = SsambaConfig(patch_size=(8, 4), mask_cluster_sizes=(2, 3), num_masked_patches=17)
    config.save_pretrained(tmp_path)
    assert SsambaConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_hidden_layers": 3}, r"`num_hidden_layers` must be even where `paired_layers` is true, got 3"),
        ({"num_hidden_layers": 0}, r"`num_hidden_layers` must be a positive integer, got 0"),
        ({"patch_size": 256}, r"`patch_size` must be at most the spectrogram.*128 x 1024, got 256"),
        ({"patch_size": (16, 2000)}, r"`patch_size` must be at most the spectrogram.*got \[16, 2000\]"),
        ({"patch_size": 0}, r"`patch_size` must be positive, got 0"),
        ({"patch_size": [16, 16, 1]}, r"`patch_size` must be a pair"),
        ({"pooling": "max"}, r"`pooling` must be one of \"mean\", \"cls\", got 'max'"),
        ({"frequency_stride": 0}, r"`frequency_stride` must be a positive integer, got 0"),
        ({"position_grid": (0, 3)}, r"`position_grid` must be a pair of positive integers.*got \[0, 3\]"),
        ({"time_step_rank": "most"}, r"`time_step_rank` must be \"auto\" or a positive integer, got 'most'"),
        ({"time_step_min": 0.2}, r"`time_step_min` must be at most `time_step_max` \(0.1\), got 0.2"),
        ({"hidden_act": "sillu"}, r"`hidden_act` must be one of .*silu.*got 'sillu'"),
        ({"drop_path_rate": 1.0}, r"`drop_path_rate` must be at least 0 and below 1, got 1.0"),
        ({"mask_cluster_sizes": ()}, r"`mask_cluster_sizes` must be positive"),
        ({"num_masked_patches": 0}, r"`num_masked_patches` must be a positive integer, got 0"),
        ({"hidden_size": "192"}, r"hidden_size.*expected int, got str"),
        ({"layer_norm_eps": float("nan")}, r"`layer_norm_eps` must be a positive number, got nan"),
    ],
)
def test_invalid_values_are_refused(arguments, message):
    with pytest.raises(StrictDataclassError, match=message):
        SsambaConfig(**arguments)


def test_odd_number_of_layers_without_pairs():
    model = SsambaForAudioClassification(
        SsambaConfig(hidden_size=32, num_hidden_layers=3, max_length=32, paired_layers=False)
    )
    assert len(model.ssamba.layers) == 3
