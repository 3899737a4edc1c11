# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Which parameters decay: one rule for pretraining and fine-tuning."""

from collections.abc import Set

from torch import nn
from transformers import PreTrainedModel

from ..models import ENCODERS


def no_decay_names(model: nn.Module) -> set[str]:
    """
    The names of parameters that weight decay leaves alone, beside vectors: those in the records of the model's encoders, and
    those in the attribute `no_weight_decay` of its modules' classes, such as a head's prototypes.

    Args:
        model (`nn.Module`): A model, plain, wrapped by PEFT, or inside another module.

    Returns:
        `set[str]`: Names of parameters, without the modules they lie in. Empty for an encoder that has no record.
    """
    names: set[str] = set()
    for module in model.modules():
        names.update(getattr(type(module), "no_weight_decay", ()))
        if isinstance(module, PreTrainedModel) and module.config.model_type in ENCODERS:
            names.update(ENCODERS[module.config.model_type].no_weight_decay)
    return names


def is_decayed(name: str, parameter: nn.Parameter, no_decay: Set[str]) -> bool:
    """
    Whether a parameter decays: matrices do, unless a part of their name is in `no_decay`.

    Args:
        name (`str`): The parameter's name, with those of the modules it lies in.
        parameter (`nn.Parameter`): The parameter.
        no_decay (`Set[str]`): What [`no_decay_names`] gives for the model.
    """
    return parameter.ndim > 1 and no_decay.isdisjoint(name.split("."))
