# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""A checkpoint whose configuration asks for tuples: what the package computes with it stays the same."""

import numpy as np
import pytest
import torch

from hf_audio_ssm import (
    SsambaConfig,
    SsambaFeatureExtractor,
    SsambaForAudioFrameClassification,
    SsambaForPreTraining,
    annotate,
    embed,
)
from hf_audio_ssm.objectives.masked_patches import MaskedPatches


SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "max_length": 64, "num_mel_bins": 32, "num_labels": 3}


def make(model_class, return_dict):
    torch.manual_seed(0)
    return model_class(SsambaConfig(**SIZES, return_dict=return_dict, frames_per_label=32)).eval()


def test_embeddings_and_annotations():
    extractor = SsambaFeatureExtractor(max_length=64, num_mel_bins=32)
    clip = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) * 0.1
    models = [make(SsambaForAudioFrameClassification, return_dict) for return_dict in (True, False)]
    for layers in (None, [0, 2]):
        one, other = (embed(clip, 16_000, model, extractor, layers=layers) for model in models)
        torch.testing.assert_close(one.frames, other.frames)
    recording = [{"array": clip, "sampling_rate": 16_000}]
    one, other = (annotate(recording, model, extractor) for model in models)
    np.testing.assert_array_equal(one.scores, other.scores)


@pytest.mark.parametrize("masks", [1, 2])
def test_objectives(masks):
    given = [torch.zeros(2, 8, dtype=torch.bool) for _ in range(masks)]
    for index, mask in enumerate(given):
        mask[:, index::3] = True
    values = torch.randn(2, 64, 32)
    losses = []
    for return_dict in (True, False):
        extractor = SsambaFeatureExtractor(max_length=64, num_mel_bins=32)
        objective = MaskedPatches(make(SsambaForPreTraining, return_dict), extractor, two_masks=masks == 2)
        losses.append(objective(values, *given).loss)
    torch.testing.assert_close(*losses)
