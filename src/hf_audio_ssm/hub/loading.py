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

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoConfig, AutoFeatureExtractor, PreTrainedConfig, PreTrainedModel, SequenceFeatureExtractor
from transformers.utils import FEATURE_EXTRACTOR_NAME

from ..common.errors import InputError
from ..common.hub_access import Place, find_place
from .adapter_files import find_base, read_adapter_fields, read_classifier_config
from .names import is_missing_folder
from .saved_files import check_checkpoint, check_sizes, find_file, read_object, reading
from .weights import TASKS, check_task, check_weights, find_model_class, without_reports


__all__ = [
    "find_model_class",
    "is_missing_folder",
    "load_checkpoint",
    "load_config",
    "load_encoder",
    "load_feature_extractor",
    "load_merged",
    "load_model",
    "read_classifier_config",
]


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
    with _explaining(called):
        place = find_place(name, revision, token)
        model = _load_model(place, task, called, device=device, dtype=dtype)
        return model, _load_feature_extractor(place)


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
    with _explaining(called):
        place = find_place(name, revision, token)
        return _load_model(place, task, called, device, dtype, config, new_head, **kwargs)


@contextmanager
def _explaining(called: str) -> Iterator[None]:
    """Raises an [`InputError`] for whatever cannot be found or used."""
    try:
        with reading(called):
            yield
    except OSError as error:
        raise InputError(str(error)) from error


def _load_model(
    place: Place,
    task: str,
    called: str,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    config: PreTrainedConfig | None = None,
    new_head: bool = False,
    **kwargs: Any,
) -> PreTrainedModel:
    if task not in TASKS:
        raise InputError(f"`task` must be one of {', '.join(TASKS)}, got {task!r}")
    merged = _load_merged(place, called, new_head=new_head or task == "encoder")
    weights: dict[str, Any] = {"state_dict": merged.state_dict()} if merged else place.hub
    if merged is None:
        check_checkpoint(place)
    saved = merged.config if merged else AutoConfig.from_pretrained(place.name, trust_remote_code=False, **place.hub)
    model_class = find_model_class(saved, task, called)
    check_task(saved, task, called, new_head)
    if merged is None:
        check_sizes(saved if config is None else config, model_class, place)
    with without_reports():
        model, loading_info = model_class.from_pretrained(
            None if merged else place.name,
            config=saved if config is None else config,
            dtype=dtype,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **weights,
            **kwargs,
        )
    check_weights(loading_info, model, task, called, new_head)
    model.eval()
    return model if device is None else model.to(device)


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
    with reading(f"`model` {os.fspath(model)!r}"):
        return _load_feature_extractor(find_place(model, revision, token))


def _load_feature_extractor(place: Place) -> SequenceFeatureExtractor:
    found = find_file(place, FEATURE_EXTRACTOR_NAME)
    if found is None and (fields := read_adapter_fields(place)) is not None:
        place = find_base(fields, place)
        found = find_file(place, FEATURE_EXTRACTOR_NAME)
    if found is not None:
        read_object(found)
    return AutoFeatureExtractor.from_pretrained(place.name, trust_remote_code=False, **place.hub)


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
    with reading(f"`name` {os.fspath(name)!r}"):
        place = find_place(name, revision, token)
        if (fields := read_adapter_fields(place)) is not None:
            if (config := read_classifier_config(place.name, **place.hub)) is not None:
                return config
            place = find_base(fields, place)
        check_checkpoint(place)
        return AutoConfig.from_pretrained(place.name, trust_remote_code=False, **place.hub)


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
        [`InputError`]: If PEFT is not installed, or the weights do not fit.
    """
    called = called or f"`model` {os.fspath(model)!r}"
    with reading(called):
        return _load_merged(find_place(model, revision, token), called, new_head)


def _load_merged(place: Place, called: str, new_head: bool) -> PreTrainedModel | None:
    """The model that adapters were saved of, with them merged into it; `None` where there are no adapters."""
    if read_adapter_fields(place) is None:
        return None
    try:
        from .adapters import load_adapters, merge_adapted
    except ImportError as error:
        raise ImportError("it holds adapters, which need peft (pip install peft)") from error
    return merge_adapted(load_adapters(place, called, new_head=new_head))
