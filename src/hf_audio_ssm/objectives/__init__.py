# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
What is learned without labels, or with few: one file an objective. To add an objective: its file, and its line here. See
[`Objective`] for what it holds.
"""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel
from transformers.feature_extraction_utils import FeatureExtractionMixin

from ..common.errors import InputError
from .objective import Description, Objective, ObjectiveOutput, Reconstruction


# By the name that `--objective` takes; imported when used. A module without a leading dot lies outside this package.
OBJECTIVES = {
    "masked_patches": ".masked_patches.MaskedPatches",
}

__all__ = [
    "OBJECTIVES",
    "Description",
    "Objective",
    "ObjectiveOutput",
    "Reconstruction",
    "make_objective",
    "objective_class",
]


def objective_class(name: str) -> type[Objective]:
    """
    The class of an objective.

    Raises:
        [`InputError`]: If there is no objective of that name.
    """
    if name not in OBJECTIVES:
        raise InputError(f"--objective must be one of {', '.join(sorted(OBJECTIVES))}, got {name!r}")
    module, _, class_name = OBJECTIVES[name].rpartition(".")
    return getattr(importlib.import_module(module, __package__), class_name)


def make_objective(
    name: str,
    model: PreTrainedModel,
    feature_extractor: FeatureExtractionMixin,
    options: Mapping[str, Any] | None = None,
) -> Objective:
    """
    Makes an objective.

    Args:
        name (`str`): Its name in `OBJECTIVES`.
        model (`PreTrainedModel`): The model to train.
        feature_extractor (`FeatureExtractionMixin`): The model's feature extractor.
        options (mapping, *optional*): Arguments of the objective's own.

    Raises:
        [`InputError`]: If there is no objective of that name, or it cannot take the options.
    """
    kind, options = objective_class(name), options or {}
    try:
        inspect.signature(kind).bind(model, feature_extractor, **options)
    except TypeError as error:
        raise InputError(f"--objective_options: {name} cannot take {dict(options)!r} ({error})") from error
    return kind(model, feature_extractor, **options)
