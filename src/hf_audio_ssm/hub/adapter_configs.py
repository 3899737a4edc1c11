# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
PEFT's configurations of adapters, made from files that anybody may have written: values of the right types, patterns that are
matched within a limit of time, no names of code, and no sizes that the weights do not explain.
"""

import copy
import dataclasses
import re
import time
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import peft
import regex
import torch
from huggingface_hub.dataclasses import type_validator
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.tuners.lora.config import LoraRuntimeConfig
from transformers import PreTrainedModel
from transformers.utils import ADAPTER_CONFIG_NAME

from ..common.errors import InputError
from .saved_files import FileContentError
from .weights import list_names


# They load other adapters by name, or import a module that the file names.
REFUSED_TYPES = ("XLORA",)
REFUSED_FIELDS = {
    "megatron_config": "names code to be imported, which is not done",
    "trainable_token_indices": "needs a model of text",
}
# What PEFT raises, beside errors of values, for configurations that it does not foresee.
UNFORESEEN = (AssertionError, AttributeError, IndexError, KeyError)
# Numbers that are no sizes.
SEEDS = ("seed", "prng_key")
SMALL = 65_536
# For all patterns of a file.
MATCHING_SECONDS = 2.0
Shapes = Mapping[str, Sequence[int]]


def make_adapter_config(fields: Mapping[str, Any], module_names: Sequence[str], shapes: Shapes) -> peft.PeftConfig:
    """
    Makes the configuration that a file describes.

    Args:
        fields (mapping): What the file holds.
        module_names (`Sequence[str]`): The names of the base model's modules.
        shapes (mapping): The shapes of the adapters' weights, by name.

    Raises:
        [`InputError`]: If the file cannot be used.
    """
    kind = fields.get("peft_type")
    config_class = PEFT_TYPE_TO_CONFIG_MAPPING.get(kind)
    if config_class is None or issubclass(config_class, peft.PromptLearningConfig) or kind in REFUSED_TYPES:
        known = [str(name.value) for name in PEFT_TYPE_TO_CONFIG_MAPPING]
        raise FileContentError(
            f"{ADAPTER_CONFIG_NAME}: `peft_type` must be one of PEFT's adapters of modules, such as LORA or IA3, got {kind!r}"
            + (", which needs a model of text or more files" if kind in known else "")
        )
    for name, reason in REFUSED_FIELDS.items():
        if fields.get(name) is not None:
            raise FileContentError(f"{ADAPTER_CONFIG_NAME}: `{name}` {reason}")
    hints = typing.get_type_hints(config_class, localns={"LoraRuntimeConfig": LoraRuntimeConfig})
    largest = max([SMALL, sum(torch.Size(shape).numel() for shape in shapes.values())])
    for name in sorted(fields.keys() & {field.name for field in dataclasses.fields(config_class)}):
        _check_value(name, fields[name], hints[name], largest)
    # It holds only during a run.
    kept = {name: value for name, value in fields.items() if name != "runtime_config"}
    try:
        config = config_class.from_peft_type(**config_class.check_kwargs(**kept))
    except UNFORESEEN as error:
        raise FileContentError(f"{ADAPTER_CONFIG_NAME} cannot be used: {error!r}") from error
    _resolve_patterns(config, module_names)
    return config


def _check_value(name: str, value: Any, hint: Any, largest: int) -> None:
    called = f"{ADAPTER_CONFIG_NAME}: `{name}`"
    try:
        type_validator(name, value, hint)
    except TypeError as error:
        # PEFT takes numbers of both kinds, and its hints name classes for what is an object in the file.
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        parts = _parts(hint)
        takes_numbers = any(part in (int, float) for part in parts)
        takes_objects = any(typing.get_origin(part) is dict or dataclasses.is_dataclass(part) for part in parts)
        if not (is_number and takes_numbers) and not (isinstance(value, dict) and takes_objects):
            raise FileContentError(f"{called} must not be {value!r:.100}") from error
    if name.endswith("_pattern") and isinstance(value, dict):
        for number in value.values():
            if not isinstance(number, int | float):
                raise FileContentError(f"{called} must map modules to numbers, got {number!r:.100}")
    if not name.endswith(SEEDS):
        for number in _numbers(value):
            if number > largest:
                raise FileContentError(f"{called} must be explained by the size of the weights, got {number}")


def _parts(hint: Any) -> list[Any]:
    return [hint, *(found for part in typing.get_args(hint) for found in _parts(part))]


def _numbers(value: Any) -> list[int]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for item in value for number in _numbers(item)]
    return [value] if isinstance(value, int) else []


def _resolve_patterns(config: Any, module_names: Sequence[str]) -> None:
    """Replaces expressions by the names that they match: PEFT would match them without a limit of time."""
    deadline = time.monotonic() + MATCHING_SECONDS

    def matching(field: str, pattern: str) -> list[str]:
        try:
            compiled = regex.compile(pattern)
            return [
                name
                for name in module_names
                if compiled.fullmatch(name, timeout=max(deadline - time.monotonic(), 1e-3)) is not None
            ]
        except TimeoutError as error:
            raise FileContentError(
                f"{ADAPTER_CONFIG_NAME}: `{field}` takes too long to match: {pattern:.100}"
            ) from error
        # Patterns may call themselves without end.
        except (MemoryError, RecursionError) as error:
            raise FileContentError(
                f"{ADAPTER_CONFIG_NAME}: `{field}` takes too much memory to match: {pattern:.100}"
            ) from error
        except regex.error as error:
            raise FileContentError(
                f"{ADAPTER_CONFIG_NAME}: `{field}` is no regular expression ({error}): {pattern:.100}"
            ) from error

    for field in ("target_modules", "exclude_modules", "feedforward_modules"):
        pattern = getattr(config, field, None)
        if isinstance(pattern, str) and pattern != "all-linear":
            names = set(matching(field, pattern))
            if field == "target_modules" and not names:
                raise FileContentError(f"{ADAPTER_CONFIG_NAME}: `{field}` matches no module: {pattern:.100}")
            setattr(config, field, names)
    for field in ("rank_pattern", "alpha_pattern"):
        resolved: dict[str, Any] = {}
        for pattern, value in (getattr(config, field, None) or {}).items():
            if re.fullmatch(r"[\w.]*", pattern):
                resolved.setdefault(pattern, value)
                continue
            for name in matching(field, rf"(?:.*\.)?(?:{pattern})"):
                resolved.setdefault(re.escape(name), value)
        if hasattr(config, field):
            setattr(config, field, resolved)
    # PEFT puts these names into expressions of its own.
    for field, form in (("layers_pattern", r"\w*"), ("modules_to_save", r"[\w.-]*")):
        found = getattr(config, field, None) or []
        for name in [found] if isinstance(found, str) else found:
            if not re.fullmatch(form, name):
                raise FileContentError(
                    f"{ADAPTER_CONFIG_NAME}: `{field}` must be the name of a module, got {name!r:.100}"
                )


def check_adapter_shapes(config: peft.PeftConfig, base: PreTrainedModel, shapes: Shapes, called: str) -> None:
    """
    Checks that the weights of adapters are those of the configuration, before memory is taken for them.

    Args:
        config (`PeftConfig`): The configuration.
        base (`PreTrainedModel`): The base model.
        shapes (mapping): The shapes of the adapters' weights, by name.
        called (`str`): How messages call the adapters.

    Raises:
        [`InputError`]: If weights are missing, or have other shapes.
    """
    # Others compute on the weights while they are put in place.
    if not isinstance(config, peft.LoraConfig | peft.IA3Config):
        return
    config = copy.deepcopy(config)
    if isinstance(config, peft.LoraConfig):
        config.init_lora_weights = False
    try:
        with torch.device("meta"):
            skeleton = peft.inject_adapter_in_model(config, type(base)(base.config))
    except UNFORESEEN as error:
        raise FileContentError(f"{ADAPTER_CONFIG_NAME} does not fit the model: {error!r}") from error
    weights = peft.get_peft_model_state_dict(skeleton, save_embedding_layers=False)
    expected = {f"base_model.model.{name}": tuple(weight.shape) for name, weight in weights.items()}
    check_names(expected, shapes, base, called)
    for name, shape in expected.items():
        if tuple(shapes[name]) != shape:
            raise InputError(
                f"{called} does not belong to a {type(base).__name__}: {name} has the shape {tuple(shapes[name])}, expected {shape}"
            )


def check_names(expected: Iterable[str], saved: Iterable[str], base: PreTrainedModel, called: str) -> None:
    """
    Checks that all weights of adapters are there: PEFT leaves others as they were made.

    Raises:
        [`InputError`]: If some are missing.
    """
    if absent := set(expected) - set(saved):
        raise InputError(f"{called} does not belong to a {type(base).__name__}: it lacks {list_names(absent)}")
