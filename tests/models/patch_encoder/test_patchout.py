# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Patchout: what is left out leaves the sequence, in training only, and every head copes with it."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError

from hf_audio_ssm import (
    SsambaConfig,
    SsambaForAudioClassification,
    SsambaForAudioFrameClassification,
    SsambaForPreTraining,
    SsambaModel,
    SsastConfig,
    SsastForAudioClassification,
    SsastForPreTraining,
    SsastModel,
)
from hf_audio_ssm.models.patch_encoder.packing import draw_patchout


ROWS, COLUMNS = 4, 10
FAMILIES = [(SsambaConfig, SsambaModel), (SsastConfig, SsastModel)]


def make_config(config_class=SsambaConfig, **fields):
    sizes = {"patch_size": 4, "frequency_stride": 4, "time_stride": 4, "num_mel_bins": 16, "max_length": 40}
    fields = {"hidden_size": 32, "num_hidden_layers": 2, "num_labels": 3, **sizes, **fields}
    if config_class is SsambaConfig:
        return config_class(drop_path_rate=0.0, **fields)
    no_dropout = {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}
    return config_class(num_attention_heads=4, intermediate_size=64, **no_dropout, **fields)


def test_whole_rows_and_columns_are_left_out():
    config = make_config(frequency_patchout=0.25, time_patchout=0.5)
    kept = draw_patchout(200, (ROWS, COLUMNS), config)
    assert kept.shape == (200, 3 * 5)
    assert (kept.diff(dim=1) > 0).all()
    masks = torch.zeros(200, ROWS * COLUMNS, dtype=torch.bool).scatter(1, kept, True).view(200, ROWS, COLUMNS)
    assert (masks.any(dim=2).sum(dim=1) == 3).all()
    assert (masks.any(dim=1).sum(dim=1) == 5).all()
    assert torch.equal(masks, masks.any(dim=2)[:, :, None] & masks.any(dim=1)[:, None])
    # Every row and column is kept as often as any other, and not the same ones for all clips.
    assert (masks.any(dim=2).float().mean(dim=0) - 0.75).abs().max() < 0.15
    assert (masks.any(dim=1).float().mean(dim=0) - 0.5).abs().max() < 0.18


def test_single_patches_are_left_out():
    kept = draw_patchout(300, (ROWS, COLUMNS), make_config(patchout=0.3))
    assert kept.shape == (300, 28)
    assert (kept.diff(dim=1) > 0).all()
    assert (torch.bincount(kept.flatten(), minlength=40) / 300 - 0.7).abs().max() < 0.14
    assert draw_patchout(2, (1, 1), make_config(patchout=0.9, time_patchout=0.9)).tolist() == [[0], [0]]


@pytest.mark.parametrize(("config_class", "model_class"), FAMILIES)
def test_the_encoder_reads_only_what_is_kept(config_class, model_class):
    torch.manual_seed(0)
    model = model_class(make_config(config_class, frequency_patchout=0.25, time_patchout=0.3, patchout=0.2)).train()
    sizes = []
    model.layers[0].register_forward_pre_hook(lambda module, inputs: sizes.append(tuple(inputs[0].shape[:2])))
    input_values = torch.randn(3, 40, 16)
    prefix = model.config.num_prefix_tokens
    outputs = model(input_values, output_hidden_states=True)
    assert sizes == [(3, prefix + 17)]
    mask = outputs.patch_attention_mask
    assert mask.sum(dim=1).tolist() == [17] * 3
    tokens = outputs.last_hidden_state
    assert tokens.shape == outputs.hidden_states[0].shape == (3, prefix + 40, 32)
    assert torch.equal(tokens[:, prefix:].any(dim=2), mask)
    pooled = tokens[:, prefix:].sum(dim=1) / 17
    torch.testing.assert_close(
        outputs.pooler_output, pooled if model.config.pooling == "mean" else tokens[:, :prefix].mean(1)
    )

    # The same as an encoder of exactly these tokens: the kept patches with their own positions, in order.
    for clip in range(3):
        kept = torch.cat((torch.arange(prefix), prefix + mask[clip].nonzero()[:, 0]))
        alone = model.encode(model.embeddings(input_values[clip, None])[:, kept], return_dict=True)
        torch.testing.assert_close(tokens[clip, kept], alone.last_hidden_state[0], rtol=1e-5, atol=1e-5)

    model.eval()
    assert model(input_values).patch_attention_mask is None
    assert sizes[-1] == (3, prefix + 40)


@pytest.mark.parametrize(("config_class", "model_class"), FAMILIES)
def test_clips_of_different_lengths(config_class, model_class):
    torch.manual_seed(0)
    model = model_class(make_config(config_class, time_patchout=0.5)).train()
    input_values, frames = torch.randn(3, 40, 16), torch.tensor([40, 16, 9])
    mask = torch.arange(40) < frames[:, None]
    outputs = model(input_values, mask)
    assert outputs.patch_attention_mask.sum(dim=1).tolist() == [4 * 5, 4 * 2, 4 * 1]
    assert not outputs.patch_attention_mask.view(3, ROWS, COLUMNS)[1, :, 4:].any()
    assert outputs.last_hidden_state.isfinite().all()


@pytest.mark.parametrize(
    ("config_class", "model_class"),
    [
        (SsambaConfig, SsambaForAudioClassification),
        (SsambaConfig, SsambaForAudioFrameClassification),
        (SsambaConfig, SsambaForPreTraining),
        (SsastConfig, SsastForAudioClassification),
        (SsastConfig, SsastForPreTraining),
    ],
)
def test_every_head_trains(config_class, model_class):
    torch.manual_seed(0)
    model = model_class(make_config(config_class, time_patchout=0.3, patchout=0.2, frames_per_label=4)).train()
    labels = {
        "SsambaForAudioFrameClassification": {"labels": torch.randint(0, 3, (2, 10))},
        "SsambaForAudioClassification": {"labels": torch.tensor([0, 2])},
        "SsastForAudioClassification": {"labels": torch.tensor([0, 2])},
    }.get(model_class.__name__, {})
    outputs = model(torch.randn(2, 40, 16), **labels)
    assert outputs.loss.isfinite()
    outputs.loss.backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())
    if "mask" in outputs:
        # Only masked patches that are read count.
        assert 0 < outputs.mask.sum() < 2 * 31


def test_shares_are_checked():
    for field in ("frequency_patchout", "time_patchout", "patchout"):
        with pytest.raises(StrictDataclassError, match=f"`{field}` must be at least 0 and below 1, got 1.0"):
            make_config(**{field: 1.0})
