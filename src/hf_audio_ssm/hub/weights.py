# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The tasks that a checkpoint can be loaded for, and the check of its weights by the rule that `hub.loading` states."""

import importlib
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from transformers import PreTrainedConfig, PreTrainedModel

from ..common.console import filtered_log
from ..common.errors import InputError
from ..models import ENCODERS


class Task(NamedTuple):
    """
    A task.

    Args:
        auto_class (`str`): The Auto class of transformers that loads its models.
        head (`str`): What messages call its trained head.
        hint (`str`): What to do where it is missing.
    """

    auto_class: str
    head: str
    hint: str


TASKS = {
    "encoder": Task("AutoModel", "", ""),
    "pretraining": Task("AutoModelForPreTraining", "pretraining heads", "use a checkpoint of pretraining"),
    "audio-classification": Task("AutoModelForAudioClassification", "classifier", "fine-tune it first"),
    "audio-frame-classification": Task(
        "AutoModelForAudioFrameClassification",
        "head for labels along time",
        "train one by examples/run_scene_labelling.py, or a linear classifier of clips",
    ),
}
CLASSIFIER = "classifier."
HEADS = (CLASSIFIER, "generative_head.", "discriminative_head.")
MASK_TOKEN = "embeddings.mask_token"
MAX_NAMES = 4


class EncoderWeightsError(InputError):
    """A checkpoint lacks weights of the encoder."""


def model_class_name(model_type: str, task: str) -> str:
    """The model class of an encoder for a task, as `folder.module.Class` below the models; "" if there is none."""
    return ENCODERS[model_type].auto_classes.get(TASKS[task].auto_class, "")


def task_of(model_type: str, class_names: Iterable[str]) -> str | None:
    """
    The task of a model class.

    Args:
        model_type (`str`): The model type of its configuration.
        class_names (iterable of `str`): The class's name, and those of its bases, or `config.architectures`.

    Returns:
        `str`: One of `TASKS`; None where the encoder's record names no such class.
    """
    if model_type not in ENCODERS:
        return None
    tasks = {model_class_name(model_type, task).rpartition(".")[2]: task for task in TASKS}
    return next((tasks[name] for name in class_names if name in tasks), None)


def find_model_class(config: PreTrainedConfig, task: str, called: str) -> type[PreTrainedModel]:
    """
    Finds the model class of a configuration for a task.

    Raises:
        [`InputError`]: If the configuration is not of the package's encoders, or the encoder has no such model.
    """
    model_type = config.model_type
    if model_type not in ENCODERS:
        raise InputError(f"{called} is a model of type {model_type!r}, expected {' or '.join(ENCODERS)}")
    module, _, name = model_class_name(model_type, task).rpartition(".")
    if not name:
        raise InputError(f"{called} is a model of type {model_type!r}, which has no model for {task}")
    return getattr(importlib.import_module(f"..models.{module}", __package__), name)


def check_task(config: PreTrainedConfig, task: str, called: str, new_head: bool) -> None:
    """
    Refuses a checkpoint whose head was trained for another task, though its weights would fit.

    Args:
        config (`PreTrainedConfig`): The checkpoint's configuration.
        task (`str`): One of `TASKS`.
        called (`str`): What messages call the checkpoint.
        new_head (`bool`): Whether the head is to be trained anew.

    Raises:
        [`InputError`]: If a classifier of frames is to classify clips.
    """
    saved = task_of(config.model_type, config.architectures or [])
    # A linear classifier of clips can label frames, as scores of shorter clips; not the other way round.
    if task == "audio-classification" and saved == "audio-frame-classification" and not new_head:
        raise InputError(
            f"{called} has no trained {TASKS[task].head}: it labels frames, for `annotate` or "
            f"`{TASKS[saved].auto_class}.from_pretrained`; {TASKS[task].hint}"
        )


def list_names(names: Iterable[str]) -> str:
    """The first names, by the alphabet, and how many there are beside them."""
    ordered = sorted(names)
    rest = len(ordered) - MAX_NAMES
    return ", ".join(ordered[:MAX_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def without_reports() -> AbstractContextManager[None]:
    """Hides transformers' tables of missing and unexpected weights, which [`check_weights`] judges."""
    return filtered_log("transformers.modeling_utils", lambda record: "LOAD REPORT" not in record.getMessage())


def check_weights(
    loading_info: Mapping[str, Any],
    model: PreTrainedModel,
    task: str,
    called: str,
    new_head: bool = False,
    replaced: Iterable[str] = (),
) -> None:
    """
    Refuses a model whose weights are not those of its checkpoint, by the rule of `hub.loading`.

    Args:
        loading_info (mapping): What `from_pretrained` returned with `output_loading_info=True`.
        model (`PreTrainedModel`): The model.
        task (`str`): One of `TASKS`.
        called (`str`): What messages call the checkpoint.
        new_head (`bool`, *optional*, defaults to `False`): Whether the head is to be trained anew.
        replaced (iterable of `str`, *optional*): Modules whose weights are not judged, as they come from elsewhere.

    Raises:
        [`EncoderWeightsError`]: If weights of the encoder are missing, or have other shapes.
        [`InputError`]: If the head is not trained, or there are unknown weights.
    """

    def judged(names: Iterable[str]) -> set[str]:
        return {name for name in names if not any(f".{module}." in f".{name}." for module in replaced)}

    shapes = {name: shapes for name, *shapes in loading_info["mismatched_keys"]}
    absent = judged([*loading_info["missing_keys"], *shapes])
    unexpected = judged(loading_info["unexpected_keys"])
    encoder = f"{model.base_model_prefix}." if model.base_model is not model else ""
    if in_encoder := {name for name in absent if name.startswith(encoder) and not name.endswith(MASK_TOKEN)}:
        raise EncoderWeightsError(f"{called} lacks fitting weights of the encoder: {_describe(in_encoder, shapes)}")
    # Weights of a classifier that the model's own has not: it is one of another kind.
    other = {name for name in unexpected if name.startswith(CLASSIFIER) and hasattr(model, "classifier")}
    if (absent or other) and not new_head:
        raise InputError(
            f"{called} has no trained {TASKS[task].head}: {_describe(absent | other, shapes)} do not fit; "
            f"{TASKS[task].hint}"
        )
    # Models that are not the package's have heads by other names.
    if model.config.model_type in ENCODERS:
        unknown = {name for name in unexpected if not name.startswith(HEADS) and not name.endswith(MASK_TOKEN)}
        if unknown:
            raise InputError(
                f"{called} holds weights that {type(model).__name__} does not have: {list_names(unknown)}"
            )


def _describe(names: Iterable[str], shapes: Mapping[str, Any]) -> str:
    """Names of absent weights, those of other shapes with these."""

    def describe(name: str) -> str:
        if name not in shapes:
            return name
        saved, expected = (" x ".join(map(str, shape)) for shape in shapes[name])
        return f"{name} ({saved}, expected {expected})"

    return list_names(map(describe, names))
