# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Adapters by PEFT. The package knows which modules to adapt, so that users need not."""

import os
import tempfile
from pathlib import Path
from typing import Any

import peft
import transformers
from huggingface_hub import ModelCard
from peft.utils import ModulesToSaveWrapper
from transformers import PreTrainedModel

from ..common.errors import InputError
from ..common.text_files import write_text
from ..models import ENCODERS
from ..models.records import EncoderRecord
from .names import CLASSIFIER_CONFIG, model_on_hub, read_classifier_config
from .push import push_folder
from .weights import TASKS, check_weights, list_names, task_of, without_reports


ADAPTER_METHODS = ("lora", "dora", "rslora", "ia3")


def adapter_config(model: PreTrainedModel, method: str = "lora", **kwargs) -> peft.PeftConfig:
    """
    Makes the PEFT configuration that adapts a model's projections, and trains its classification head if it has one.

    Args:
        model (`PreTrainedModel`): The base model.
        method (`str`, *optional*, defaults to `"lora"`):
            "lora" (arXiv 2106.09685), "dora" (arXiv 2402.09353), "rslora" (arXiv 2312.03732) or "ia3" (arXiv 2205.05638).
        kwargs: Fields of `peft.LoraConfig` (`r`, `lora_alpha`, `target_modules`, ...) or `peft.IA3Config`.

    Raises:
        `ValueError`: If the method is unknown, or no targets are given for a model without default targets.
    """
    if method not in ADAPTER_METHODS:
        raise ValueError(f"`method` must be one of {', '.join(ADAPTER_METHODS)}, got {method!r}.")
    model_type = model.config.model_type
    record = ENCODERS.get(model_type, EncoderRecord({}))
    if "target_modules" not in kwargs and not record.lora_target_modules:
        raise ValueError(
            f"`target_modules` must be given for a model of type {model_type!r}: defaults exist for "
            f"{', '.join(name for name, known in ENCODERS.items() if known.lora_target_modules)}."
        )
    kwargs = {
        "target_modules": list(record.lora_target_modules),
        "modules_to_save": ["classifier"] if hasattr(model, "classifier") else None,
        **kwargs,
    }
    if method == "ia3":
        feedforward = [name for name in record.ia3_feedforward_modules if name in kwargs["target_modules"]]
        return peft.IA3Config(**{"feedforward_modules": feedforward, **kwargs})
    return peft.LoraConfig(use_dora=method == "dora", use_rslora=method == "rslora", **kwargs)


def save_adapted(model: peft.PeftModel, save_directory: str | os.PathLike) -> None:
    """
    Saves adapters, the trained head, and the classifier's configuration (labels, head), which PEFT does not keep.

    Args:
        model (`peft.PeftModel`): The adapted classifier (or encoder).
        save_directory (`str`): The folder.
    """
    model.save_pretrained(save_directory)
    save_classifier_config(model, save_directory)
    card_file = Path(save_directory) / "README.md"
    card = ModelCard.load(card_file, ignore_metadata_errors=True)
    # PEFT names the base model there even if it is a folder, which the Hub refuses.
    if card.data.base_model and not model_on_hub(card.data.base_model):
        card.data.base_model = None
        write_text(card_file, str(card))


def save_classifier_config(model: peft.PeftModel, save_directory: str | os.PathLike) -> None:
    """Saves the part of [`save_adapted`] that PEFT does not keep."""
    # Not as config.json: transformers would look for the base's weights beside it.
    write_text(Path(save_directory) / CLASSIFIER_CONFIG, model.get_base_model().config.to_json_string())


def push_adapted(
    model: peft.PeftModel,
    repo_id: str,
    private: bool | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
) -> str:
    """
    Uploads what [`save_adapted`] saves to a model repository on the Hub. A card that the repository has is kept.

    Args:
        model (`peft.PeftModel`): The adapted classifier (or encoder).
        repo_id (`str`): The repository, created if there is none.
        private (`bool`, *optional*): Whether it is to be private; defaults to the owner's setting.
        revision (`str`, *optional*): The branch, created if there is none; defaults to `main`.
        token (`str`, *optional*): Of the Hub; defaults to the stored one.

    Returns:
        `str`: The repository's address.

    Raises:
        [`InputError`]: If the Hub refuses, fails or cannot be reached, or if the repository exists and is public, but should
            be private.
    """
    with tempfile.TemporaryDirectory() as folder:
        save_adapted(model, folder)
        return push_folder(folder, repo_id, "Upload adapters", "the model", private, revision, token, keep_card=True)


def load_adapted(
    name_or_path: str | os.PathLike,
    is_trainable: bool = False,
    revision: str | None = None,
    token: str | bool | None = None,
    new_head: bool = False,
    called: str | None = None,
) -> peft.PeftModel:
    """
    Loads what [`save_adapted`], [`push_adapted`] or PEFT alone saved: the base model by the name that was saved with the
    adapters, as a model of the task that they were trained for, and the adapters on it.

    Args:
        name_or_path (`str`): A folder or a Hub name.
        is_trainable (`bool`, *optional*, defaults to `False`): Whether training goes on.
        revision (`str`, *optional*): Branch, tag or commit of the adapters.
        token (`str`, *optional*): Of the Hub; defaults to the stored one.
        new_head (`bool`, *optional*, defaults to `False`): Whether the model may have a head that nobody trained.
        called (`str`, *optional*): What messages call the adapters; defaults to "`name_or_path` " and their name.

    Raises:
        `OSError`: If the adapters, their configuration or the base model cannot be found.
        [`InputError`]: If neither the adapters nor the base model hold some of the weights, such as the head, or the
            adapters do not belong to the model.
    """
    hub: dict[str, Any] = {"revision": revision, "token": token}
    adapter_config = peft.PeftConfig.from_pretrained(name_or_path, **hub)
    task, base_name = _find_task(adapter_config), adapter_config.base_model_name_or_path
    called = f"{called or f'`name_or_path` {str(name_or_path)!r}'} (adapters of {base_name!r})"
    with without_reports():
        base, loading_info = getattr(transformers, TASKS[task].auto_class).from_pretrained(
            base_name,
            # Without one, the base model's own.
            config=read_classifier_config(name_or_path, **hub),
            ignore_mismatched_sizes=True,
            revision=adapter_config.revision or "main",
            token=token,
            output_loading_info=True,
        )
    # What comes with the adapters may be missing in the base model, or be of another kind there.
    check_weights(loading_info, base, task, called, new_head, replaced=adapter_config.modules_to_save or ())
    # The file has those of the base model, which may have had another head.
    base.config.architectures = [type(base).__name__]
    model = peft.PeftModel.from_pretrained(base, name_or_path, is_trainable=is_trainable, **hub)
    # PEFT leaves adapters as they were made where the file has none by their names.
    absent = (
        peft.get_peft_model_state_dict(model).keys() - peft.load_peft_weights(str(name_or_path), "cpu", **hub).keys()
    )
    if absent:
        raise InputError(f"{called} does not belong to a {type(base).__name__}: it lacks {list_names(absent)}")
    return model


def _find_task(adapter_config: peft.PeftConfig) -> str:
    """The task of the model that adapters were saved of."""
    if adapter_config.auto_mapping:
        class_name = adapter_config.auto_mapping["base_model_class"]
        tasks = [task for model_type in ENCODERS if (task := task_of(model_type, [class_name]))]
        if tasks:
            return tasks[0]
    # PEFT keeps no class where its user named a task.
    return "encoder" if adapter_config.task_type == "FEATURE_EXTRACTION" else "audio-classification"


def merge_adapted(model: peft.PeftModel) -> PreTrainedModel:
    """
    Merges adapters into the base model's weights, which makes an ordinary classifier (or encoder).

    Args:
        model (`peft.PeftModel`): The adapted classifier (or encoder); it cannot be used afterwards.
    """
    base = model.get_base_model()
    if isinstance(getattr(base, "classifier", None), ModulesToSaveWrapper):
        # PEFT's IA3 can only take heads off that have one weight.
        base.classifier = base.classifier.modules_to_save[model.active_adapter]
    return model.merge_and_unload()
