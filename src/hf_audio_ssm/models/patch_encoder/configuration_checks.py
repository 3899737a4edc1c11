# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
What configurations check beside the types and ranges of their own fields. Their values may be anybody's: they come from the
config.json of a checkpoint.
"""

import functools
import reprlib
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers.configuration_utils import PreTrainedConfig


T = TypeVar("T", bound=type)

# A model of these sizes would take all memory long before its first result.
MAX_LABELS = 1_000_000
MAX_PARAMETERS = 10_000_000_000

PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")
# Fields of which transformers makes more than an attribute.
OF_OTHER_MODELS = (
    "per_layer_config",
    "layer_types",
    "mlp_layer_types",
    "mtp_layer_types",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
)
# Attributes of the class that a configuration may set.
SETTABLE = ("model_type",)


def _in_one_line(function: Callable) -> Callable:
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except StrictDataclassError as error:
            error.args = (" ".join(line.strip() for line in str(error).splitlines()),)
            raise

    return wrapper


def one_line_errors(cls: T) -> T:
    """For classes that `strict` decorates: their errors say all in one line."""
    for name in ("__init__", "__setattr__", "validate"):
        setattr(cls, name, _in_one_line(getattr(cls, name)))
    return cls


def check_extra_fields(config: PreTrainedConfig, fields: dict[str, Any]) -> None:
    """
    Checks the fields that are not declared, which transformers makes attributes.

    Args:
        config (`PreTrainedConfig`): The configuration that is made.
        fields (`dict[str, Any]`): The fields' values by name.

    Raises:
        `ValueError`: If a field has the name of a method, property or constant.
    """
    for name in fields:
        if not isinstance(name, str):
            raise ValueError(f"A field's name must be a string, got {reprlib.repr(name)}.")
        found = getattr(type(config), name, None)
        is_settable = isinstance(found, property) and found.fset is not None
        if hasattr(type(config), name) and not is_settable and name not in SETTABLE:
            raise ValueError(f"`{name}` is a name of the configuration's code, not one of its fields.")
    for name in OF_OTHER_MODELS:
        if fields.get(name) is not None:
            raise ValueError(f"`{name}` must be None: an encoder of patches has no such layers.")
    quantization = fields.get("quantization_config")
    if quantization is not None and not isinstance(quantization, dict) and not hasattr(quantization, "to_dict"):
        raise ValueError(f"`quantization_config` must be a mapping, got {reprlib.repr(quantization)}.")


def check_common_fields(config: PreTrainedConfig, fields: dict[str, Any]) -> None:
    """
    Checks the fields that all configurations of transformers have.

    Args:
        config (`PreTrainedConfig`): The configuration that is made, with what was given for its declared fields.
        fields (`dict[str, Any]`): The values of other fields.

    Raises:
        `ValueError`: naming the field, its value and what is allowed.
    """

    def refuse(field: str, value: Any, allowed: str) -> None:
        raise ValueError(f"`{field}` must be {allowed}, got {reprlib.repr(value)}.")

    for field in ("return_dict", "output_hidden_states", "output_attentions"):
        value = fields.get(field, False) if field == "output_attentions" else getattr(config, field)
        if value is not None and not isinstance(value, bool):
            refuse(field, value, "a bool")
    for field in ("attn_implementation", "experts_implementation"):
        if not isinstance(fields.get(field), (str, dict, type(None))):
            refuse(field, fields[field], "a name")
    architectures = config.architectures
    if architectures is not None and not (
        isinstance(architectures, (list, tuple)) and all(isinstance(name, str) for name in architectures)
    ):
        refuse("architectures", architectures, "a list of names")
    dtype = fields.get("torch_dtype") if config.dtype is None else config.dtype
    if isinstance(dtype, str):
        dtype = getattr(torch, dtype, dtype)
    if dtype is not None and not isinstance(dtype, torch.dtype):
        refuse("dtype", dtype, "the name of a type of torch's numbers")
    if config.problem_type is not None and config.problem_type not in PROBLEM_TYPES:
        refuse("problem_type", config.problem_type, "one of " + ", ".join(PROBLEM_TYPES))
    num_labels = fields.get("num_labels")
    is_count = isinstance(num_labels, int) and not isinstance(num_labels, bool)
    if num_labels is not None and not (is_count and 0 <= num_labels <= MAX_LABELS):
        refuse("num_labels", num_labels, f"an integer from 0 to {MAX_LABELS}")
    _check_labels(config, refuse)


def is_inverse(indices: Any, labels: Any) -> bool:
    """Whether `label2id` says the same of its names as `id2label`. True if one is no mapping."""
    if not isinstance(indices, dict) or not isinstance(labels, dict):
        return True
    named = {str(index): name for index, name in labels.items()}
    return all(named.get(str(index)) == name for name, index in indices.items())


def _check_labels(config: PreTrainedConfig, refuse: Callable[[str, Any, str], None]) -> None:
    """Checks `id2label` and `label2id`; makes the second of the first where it is missing."""
    labels, indices = config.id2label, config.label2id
    for field, value in (("id2label", labels), ("label2id", indices)):
        if value is not None and (not isinstance(value, dict) or len(value) > MAX_LABELS):
            refuse(field, value, f"a mapping of at most {MAX_LABELS} classes")
    if labels is None:
        return
    try:
        names = {int(index): name for index, name in labels.items() if isinstance(index, (int, str))}
    except ValueError:
        names = {}
    if set(names) != set(range(len(labels))):
        refuse("id2label", labels, f"a mapping from the class indices 0 to {len(labels) - 1}")
    if not all(isinstance(name, str) for name in names.values()):
        refuse("id2label", labels, "a mapping to names")
    if indices is None:
        config.label2id = {name: index for index, name in names.items()}
    elif not is_inverse(indices, names):
        refuse("label2id", indices, "the inverse of `id2label`")


__all__ = [
    "MAX_LABELS",
    "MAX_PARAMETERS",
    "check_common_fields",
    "check_extra_fields",
    "is_inverse",
    "one_line_errors",
]
