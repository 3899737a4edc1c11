# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Adapters by PEFT. The package knows which modules to adapt, so that users need not."""

import copy
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peft
from huggingface_hub import ModelCard
from peft.utils import SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME, ModulesToSaveWrapper
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import ADAPTER_CONFIG_NAME

from ..common.errors import InputError
from ..common.hub_access import Place, find_place
from ..common.text_files import write_text
from ..models import ENCODERS
from ..models.heads.adapter_labels import CLASSIFIER_CONFIG
from ..models.records import EncoderRecord
from .adapter_configs import check_adapter_shapes, check_names, make_adapter_config
from .adapter_files import find_base, read_adapter_fields, read_classifier_config
from .names import model_on_hub
from .push import push_folder
from .saved_files import check_checkpoint, find_file, read_shapes, reading
from .weights import check_weights, find_model_class, task_of, without_reports


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
    # Otherwise PEFT asks the Hub for the base model.
    model.save_pretrained(save_directory, save_embedding_layers=False)
    save_classifier_config(model, save_directory)
    card_file = Path(save_directory) / "README.md"
    card = ModelCard.load(card_file, ignore_metadata_errors=True)
    # PEFT names the base model there even if it is a folder, which the Hub refuses and nobody else has.
    base = card.data.base_model
    if base and not model_on_hub(base):
        card.data.base_model = None
        card.data.tags = [tag for tag in card.data.tags or () if not tag.endswith(f":{base}")]
        write_text(card_file, str(card))


def save_classifier_config(model: peft.PeftModel, save_directory: str | os.PathLike) -> None:
    """Saves the part of [`save_adapted`] that PEFT does not keep."""
    base = model.get_base_model()
    config = copy.deepcopy(base.config)
    config.architectures = [type(base).__name__]
    write_text(Path(save_directory) / CLASSIFIER_CONFIG, config.to_json_string())


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
    called = called or f"`name_or_path` {os.fspath(name_or_path)!r}"
    with reading(called):
        return load_adapters(find_place(name_or_path, revision, token), called, is_trainable, new_head)


def load_adapters(place: Place, called: str, is_trainable: bool = False, new_head: bool = False) -> peft.PeftModel:
    """Loads the adapters of a place, see [`load_adapted`]."""
    fields = read_adapter_fields(place)
    if fields is None:
        raise OSError(f"it holds no adapters ({ADAPTER_CONFIG_NAME} is missing)")
    weights = find_file(place, SAFETENSORS_WEIGHTS_NAME)
    is_safe = weights is not None
    weights = weights or find_file(place, WEIGHTS_NAME)
    if weights is None:
        raise OSError(f"it has no weights of adapters ({SAFETENSORS_WEIGHTS_NAME} is missing)")
    folder = os.path.dirname(weights)
    state = {} if is_safe else peft.load_peft_weights(folder, "cpu")
    shapes = read_shapes(weights) if is_safe else {name: tuple(weight.shape) for name, weight in state.items()}
    config, base_place = read_classifier_config(place.name, **place.hub), find_base(fields, place)
    task = _find_task(fields, config)
    called = f"{called} (adapters of {base_place.name!r})"
    check_checkpoint(base_place)
    model_class = find_model_class(
        config or AutoConfig.from_pretrained(base_place.name, trust_remote_code=False, **base_place.hub), task, called
    )
    with without_reports():
        base, loading_info = model_class.from_pretrained(
            base_place.name,
            # Without one, the base model's own.
            config=config,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **base_place.hub,
        )
    replaced = fields.get("modules_to_save") or ()
    if config is None and "classifier" in replaced and task != "encoder":
        raise InputError(
            f"{called} hold a classifier, but not its labels: load them by `peft.PeftModel.from_pretrained(model, adapters)` "
            "on a model that was loaded with its labels (`id2label`)"
        )
    # What comes with the adapters may be missing in the base model, or be of another kind there.
    check_weights(loading_info, base, task, called, new_head, replaced=replaced)
    # The file has those of the base model, which may have had another head.
    base.config.architectures = [type(base).__name__]
    adapter_config = make_adapter_config(fields, [name for name, _ in base.named_modules()], shapes)
    check_adapter_shapes(adapter_config, base, shapes, called)
    model = peft.PeftModel.from_pretrained(base, folder, is_trainable=is_trainable, config=adapter_config)
    check_names(peft.get_peft_model_state_dict(model, save_embedding_layers=False), shapes, base, called)
    return model


def _find_task(fields: Mapping[str, Any], config: PreTrainedConfig | None) -> str:
    """The task of the model that adapters were saved of: the classifier's, or that of the class that PEFT keeps."""
    # PEFT keeps no class where its user named a task, and transformers keeps none.
    class_name = (fields.get("auto_mapping") or {}).get("base_model_class")
    class_names = [str(class_name)] if class_name else (config.architectures if config else None) or []
    tasks = [task for model_type in ENCODERS if (task := task_of(model_type, class_names))]
    if tasks:
        return tasks[0]
    return "encoder" if fields.get("task_type") == "FEATURE_EXTRACTION" else "audio-classification"


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
