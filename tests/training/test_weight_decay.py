# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Which parameters decay, in pretraining as in fine-tuning."""

import peft
import pytest
import torch
from torch import nn

from hf_audio_ssm import (
    SsambaConfig,
    SsambaFeatureExtractor,
    SsambaForAudioClassification,
    SsambaForPreTraining,
    SsastConfig,
    SsastForPreTraining,
)
from hf_audio_ssm.objectives.masked_patches import MaskedPatches
from hf_audio_ssm.training.pretraining.arguments import PretrainingArguments
from hf_audio_ssm.training.pretraining.schedule import make_optimizer
from hf_audio_ssm.training.weight_decay import is_decayed, no_decay_names


SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "max_length": 48}


@pytest.mark.parametrize("model_type", ["ssamba", "ssast"])
def test_pretraining_decays_matrices_alone(model_type):
    if model_type == "ssamba":
        model = SsambaForPreTraining(SsambaConfig(**SMALL))
        expected = {"A_log", "cls_token", "position_embeddings"}
    else:
        model = SsastForPreTraining(SsastConfig(**SMALL, num_attention_heads=2, intermediate_size=32))
        expected = {"cls_token", "position_embeddings"}
    objective = MaskedPatches(model, SsambaFeatureExtractor(max_length=48))
    decayed, others = make_optimizer(objective, PretrainingArguments(weight_decay=0.5)).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.5, 0.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    excluded = [names[id(parameter)] for parameter in others["params"]]
    assert {name.rpartition(".")[2] for name in excluded if model.get_parameter(name).ndim > 1} >= expected
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert not any(names[id(parameter)].split(".")[-1] in expected for parameter in decayed["params"])
    assert len(decayed["params"]) + len(others["params"]) == len(list(model.parameters()))


def test_parameters_without_gradients_are_left_out():
    model = SsambaForPreTraining(SsambaConfig(**SMALL))
    model.generative_head.requires_grad_(False)
    groups = make_optimizer(model, PretrainingArguments()).param_groups
    trained = {id(parameter) for group in groups for parameter in group["params"]}
    assert trained == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}


def test_names_of_plain_and_wrapped_models():
    model = SsambaForAudioClassification(SsambaConfig(**SMALL, num_labels=3))
    names = no_decay_names(model)
    assert names >= {"A_log", "cls_token", "position_embeddings"}
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=["in_proj"], modules_to_save=["classifier"]))
    assert no_decay_names(adapted) == names
    assert no_decay_names(nn.Sequential(model)) == names


def test_classes_name_their_own_exceptions():
    class Head(nn.Module):
        no_weight_decay = ("prototypes",)

        def __init__(self):
            super().__init__()
            self.prototypes = nn.Parameter(torch.zeros(2, 3))
            self.linear = nn.Linear(3, 2)

    model = nn.Sequential(Head(), nn.Linear(2, 2))
    names = no_decay_names(model)
    assert names == {"prototypes"}
    decayed = [name for name, parameter in model.named_parameters() if is_decayed(name, parameter, names)]
    assert decayed == ["0.linear.weight", "1.weight"]
