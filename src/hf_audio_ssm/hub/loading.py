# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
The one loader of checkpoints, probes and adapters, from a folder or the Hub.

It loads an encoder, or a model of a task, whatever task the checkpoint was saved for, and refuses what would not compute what
was trained:

- The encoder's weights must all be there, in the shapes of the configuration.
- A head must be there and trained where the task needs one, unless the caller is about to train it anew (`new_head`): then its
  weights may be missing, or have other shapes.
- Heads of other tasks, and the mask token of pretraining, are left out.
- Any other weights are refused.

Adapters are loaded on their base model, with the labels and the head that were saved with them, and merged into it.
"""

import importlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoFeatureExtractor, PreTrainedConfig, PreTrainedModel, SequenceFeatureExtractor
from transformers.utils import FEATURE_EXTRACTOR_NAME, cached_file, find_adapter_config_file

from ..common.errors import InputError
from ..models import ENCODERS
from .names import is_missing_folder, read_classifier_config
from .weights import TASKS, check_weights, model_class_name, without_reports


def load_checkpoint(
    name: str | os.PathLike,
    task: str = "encoder",
    revision: str | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    token: str | bool | None = None,
    called: str | None = None,
) -> tuple[PreTrainedModel, SequenceFeatureExtractor]:
    """
    Loads a model, with its adapters if it has any, in evaluation mode, and its feature extractor.

    Args:
        name (`str` or `PathLike`): A folder, or a repository on the Hub.
        task (`str`, *optional*, defaults to `"encoder"`):
            "encoder", "pretraining", "audio-classification" or "audio-frame-classification".
        revision (`str`, *optional*): Branch, tag or commit of the repository.
        device (`str` or `torch.device`, *optional*): Where the model is to run; defaults to the CPU.
        dtype (`torch.dtype`, *optional*): Of the weights; defaults to the checkpoint's.
        token (`str`, *optional*): Of the Hub; defaults to the stored one.
        called (`str`, *optional*): What messages call the checkpoint; defaults to "`model` " and its name.

    Returns:
        `tuple[PreTrainedModel, SequenceFeatureExtractor]`

    Raises:
        [`InputError`]: If something cannot be loaded, or the weights do not fit, see above.
    """
    name = os.fspath(name)
    called = called or f"`model` {name!r}"
    model = load_model(name, task, revision, device, dtype, token, called)
    try:
        return model, load_feature_extractor(name, revision, token)
    except (OSError, ValueError) as error:
        raise InputError(f"{called} cannot be loaded: {error}") from error


def load_encoder(
    model: str | os.PathLike, revision: str | None = None, device: str | torch.device | None = None
) -> tuple[PreTrainedModel, SequenceFeatureExtractor]:
    """
    Loads the encoder of a checkpoint, whatever its heads, and its feature extractor.

    Args:
        model (`str` or `PathLike`): A folder, or a repository on the Hub.
        revision (`str`, *optional*): Branch, tag or commit of the repository.
        device (`str` or `torch.device`, *optional*): Where the model is to run; defaults to the CPU.

    Raises:
        [`InputError`]: As [`load_checkpoint`].
    """
    return load_checkpoint(model, "encoder", revision, device)


def load_model(
    name: str | os.PathLike,
    task: str = "encoder",
    revision: str | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    token: str | bool | None = None,
    called: str | None = None,
    config: PreTrainedConfig | None = None,
    new_head: bool = False,
    **kwargs: Any,
) -> PreTrainedModel:
    """
    Loads a model without its feature extractor.

    Args:
        name, task, revision, device, dtype, token, called: As in [`load_checkpoint`].
        config (`PreTrainedConfig`, *optional*): What the model is to be; defaults to the checkpoint's configuration.
        new_head (`bool`, *optional*, defaults to `False`): Whether the caller is about to train the head anew.
        kwargs: More arguments of `from_pretrained`, such as `quantization_config`.

    Returns:
        `PreTrainedModel`, in evaluation mode.

    Raises:
        [`InputError`]: As [`load_checkpoint`]; the [`EncoderWeightsError`], if it is the encoder's weights that do not fit.
    """
    name = os.fspath(name)
    called = called or f"`model` {name!r}"
    if task not in TASKS:
        raise InputError(f"`task` must be one of {', '.join(TASKS)}, got {task!r}")
    if is_missing_folder(name):
        raise InputError(f"{called} cannot be loaded: there is no such folder")
    hub = {"revision": revision, "token": token}
    try:
        merged = load_merged(name, revision, token, called, new_head=new_head or task == "encoder")
        weights: dict[str, Any] = {"state_dict": merged.state_dict()} if merged else hub
        if config is None:
            config = merged.config if merged else AutoConfig.from_pretrained(name, **hub)
        with without_reports():
            model, loading_info = find_model_class(config, task, called).from_pretrained(
                None if merged else name,
                config=config,
                dtype=dtype,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **weights,
                **kwargs,
            )
    except InputError:
        raise
    except (ImportError, OSError, RuntimeError, StrictDataclassError, TypeError, ValueError) as error:
        raise InputError(f"{called} cannot be loaded: {error}") from error
    check_weights(loading_info, model, task, called, new_head)
    model.eval()
    return model if device is None else model.to(device)


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


def load_feature_extractor(
    model: str | os.PathLike, revision: str | None = None, token: str | bool | None = None
) -> SequenceFeatureExtractor:
    """
    Loads the feature extractor of a checkpoint, or of adapters: where none was saved beside these, that of their base model.

    Args:
        model (`str` or `PathLike`): A folder, or a repository on the Hub.
        revision (`str`, *optional*): Branch, tag or commit of the repository.
        token (`str`, *optional*): Of the Hub; defaults to the stored one.

    Raises:
        `OSError`, `ValueError`: If there is none.
    """
    hub = {"revision": revision, "token": token}
    found = cached_file(model, FEATURE_EXTRACTOR_NAME, _raise_exceptions_for_missing_entries=False, **hub)
    if found is None and (adapters := find_adapter_config_file(model, **hub)) is not None:
        fields = json.loads(Path(adapters).read_text(encoding="utf-8"))
        model, revision = fields["base_model_name_or_path"], fields.get("revision")
    return AutoFeatureExtractor.from_pretrained(model, revision=revision or "main", token=token)


def load_config(
    name: str | os.PathLike, revision: str | None = None, token: str | bool | None = None
) -> PreTrainedConfig:
    """
    Loads the configuration of a checkpoint, or of what adapters adapt.

    Args:
        name (`str` or `PathLike`): A folder, or a repository on the Hub.
        revision (`str`, *optional*): Branch, tag or commit of the repository.
        token (`str`, *optional*): Of the Hub; defaults to the stored one.

    Raises:
        `OSError`, `ValueError`: If there is none.
    """
    hub: dict[str, Any] = {"revision": revision, "token": token}
    adapters = find_adapter_config_file(name, **hub)
    if adapters is None:
        return AutoConfig.from_pretrained(name, **hub)
    fields = json.loads(Path(adapters).read_text(encoding="utf-8"))
    base = {"revision": fields.get("revision") or "main", "token": token}
    return read_classifier_config(name, **hub) or AutoConfig.from_pretrained(fields["base_model_name_or_path"], **base)


def load_merged(
    model: str | os.PathLike,
    revision: str | None = None,
    token: str | bool | None = None,
    called: str | None = None,
    new_head: bool = False,
) -> PreTrainedModel | None:
    """
    Loads the model that adapters were saved of, and merges them into it.

    Args:
        model, revision, token, called: As in [`load_checkpoint`].
        new_head (`bool`, *optional*, defaults to `False`): Whether the model may have a head that nobody trained.

    Returns:
        `PreTrainedModel | None`: `None` where there are no adapters.

    Raises:
        `OSError`: If something of it cannot be found.
        `ImportError`: If PEFT is not installed.
        [`InputError`]: If the weights do not fit.
    """
    if find_adapter_config_file(model, revision=revision, token=token) is None:
        return None
    try:
        from .adapters import load_adapted, merge_adapted
    except ImportError as error:
        raise ImportError("it holds adapters, which need peft (pip install peft)") from error
    adapted = load_adapted(model, revision=revision, token=token, new_head=new_head, called=called)
    return merge_adapted(adapted)
