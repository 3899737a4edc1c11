# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
The labels and the head of adapters by PEFT, which PEFT itself does not keep: they are saved beside the adapters whoever saves
these, and found whoever loads them.
"""

import copy
import json
import logging
import os
import shutil
import uuid
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers.configuration_utils import PreTrainedConfig
from transformers.utils import FEATURE_EXTRACTOR_NAME, cached_file

from .configuration_heads import HeadConfig


logger = logging.getLogger(__name__)
# The configuration of the classifier. Not config.json: transformers would look for the base's weights beside it.
CLASSIFIER_CONFIG = "classifier_config.json"
# Where PEFT's own loaders find the labels: in `auto_mapping` of adapter_config.json.
LABELS = "id2label"
_QUIET = {
    "_raise_exceptions_for_gated_repo": False,
    "_raise_exceptions_for_missing_entries": False,
    "_raise_exceptions_for_connection_errors": False,
}
HEAD_FIELDS = (*HeadConfig.__annotations__, "id2label", "problem_type")


def save_adapter_config(
    peft_config: Any,
    config: PreTrainedConfig,
    class_name: str,
    save_directory: str | os.PathLike,
    auto_mapping_dict: dict | None = None,
    **kwargs: Any,
) -> None:
    """
    Saves PEFT's configuration of adapters as PEFT does, and beside it the configuration of the classifier, and the feature
    extractor of the base model if there is none yet: `pipeline` needs one there.

    Args:
        peft_config (`PeftConfig`): The configuration of the adapters.
        config (`PreTrainedConfig`): The configuration of the classifier.
        class_name (`str`): The name of the classifier's class.
        save_directory (`str` or `PathLike`): The folder.
        auto_mapping_dict (`dict`, *optional*): What PEFT writes as `auto_mapping`.
        kwargs: More arguments of `PeftConfig.save_pretrained`.
    """
    base = peft_config.base_model_name_or_path
    if base and not os.path.isabs(base) and base[0] != "." and os.path.isdir(base):
        # A folder that later is missing must not look like a name on the Hub.
        peft_config.base_model_name_or_path = os.path.join(".", base)
    if auto_mapping_dict is not None:
        auto_mapping_dict = {**auto_mapping_dict, LABELS: config.id2label}
    type(peft_config).save_pretrained(peft_config, save_directory, auto_mapping_dict=auto_mapping_dict, **kwargs)
    saved = copy.deepcopy(config)
    saved.architectures = [class_name]
    path = os.path.join(save_directory, CLASSIFIER_CONFIG)
    partial_path = f"{path}.{uuid.uuid4().hex}"
    with open(partial_path, "w", encoding="utf-8") as file:
        file.write(saved.to_json_string())
    os.replace(partial_path, path)
    beside = os.path.join(save_directory, FEATURE_EXTRACTOR_NAME)
    if base and not os.path.exists(beside):
        found = cached_file(base, FEATURE_EXTRACTOR_NAME, local_files_only=True, **_QUIET)
        if found is not None:
            shutil.copyfile(found, beside)


class AdapterLabels:
    """A classifier that takes the labels of adapters over, to be mixed in before [`PreTrainedModel`]."""

    config: Any
    classifier: nn.Module

    # PEFT sets it once the adapters are in place, whatever made or loaded them.
    @property
    def peft_config(self) -> dict[str, Any]:
        """PEFT's configurations by the adapters' names."""
        if "_peft_config" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has no adapters")
        return self.__dict__["_peft_config"]

    @peft_config.setter
    def peft_config(self, configs: dict[str, Any]) -> None:
        for config in configs.values():
            self._check_labels((getattr(config, "auto_mapping", None) or {}).get(LABELS), config.inference_mode)
            config.save_pretrained = partial(save_adapter_config, config, self.config, type(self).__name__)
        self.__dict__["_peft_config"] = configs

    @peft_config.deleter
    def peft_config(self) -> None:
        self.__dict__.pop("_peft_config", None)

    def _check_labels(self, labels: Any, inference_mode: bool) -> None:
        """Takes the labels of loaded adapters over; refuses those that cannot be the model's."""
        if labels is None:
            return
        labels = read_labels(labels)
        if labels == self.config.id2label:
            return
        if len(labels) != self.config.num_labels:
            raise ValueError(
                f"The adapters are those of a classifier of {len(labels)} labels, but the model has {self.config.num_labels}: "
                "load them by `hf_audio_ssm.hub.adapters.load_adapted` or `AutoModelForAudioClassification.from_pretrained`."
            )
        if not inference_mode:
            raise ValueError(
                "The adapters to be trained are those of a classifier of other labels than the model's: give the model their "
                "labels (`id2label`), or set `auto_mapping` of their configuration to None."
            )
        self._set_labels(labels)

    def _set_labels(self, labels: dict[int, str]) -> None:
        self.config.id2label = labels
        self.config.label2id = {name: index for index, name in labels.items()}

    def load_adapter(
        self,
        peft_model_id: str | None = None,
        *args: Any,
        load_config: Any = None,
        adapter_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """
        Loads adapters, as the method of transformers does, with the labels and the head that they were saved with. The
        Auto classes and `pipeline` call it where a name is that of adapters.

        Raises:
            `ValueError`: If the adapters are those of a model of another task, or their labels are not known.
        """
        if peft_model_id is not None:
            places = {**getattr(load_config, "download_kwargs", {}), **(adapter_kwargs or {})}
            # It may be resolved already: for the base model.
            places["revision"] = getattr(places.get("revision"), "initial", places.get("revision"))
            self._take_head(os.fspath(peft_model_id), load_config is not None, places)
        return super().load_adapter(  # type: ignore[misc]
            peft_model_id, *args, load_config=load_config, adapter_kwargs=adapter_kwargs, **kwargs
        )

    def _take_head(self, adapters: str, is_new: bool, places: dict[str, Any]) -> None:
        """Makes the head that adapters were saved with, and takes their labels over."""
        config_file = cached_file(adapters, "adapter_config.json", **_QUIET, **places)
        adapter_fields = read_json(config_file) if config_file else {}
        found = cached_file(adapters, CLASSIFIER_CONFIG, **_QUIET, **places)
        saved = read_json(found) if found else {}
        mapping = adapter_fields.get("auto_mapping") or {}
        saved_class = mapping.get("base_model_class") or (saved.get("architectures") or [None])[0]
        if saved_class not in (None, type(self).__name__):
            raise ValueError(
                f"The adapters {adapters!r} are those of a {saved_class}, not of a {type(self).__name__}."
            )
        if found is None:
            # Without a head of their own, they have the labels of the base model.
            if is_new and "classifier" in (adapter_fields.get("modules_to_save") or ()):
                raise ValueError(
                    f"The adapters {adapters!r} hold a classifier, but not its labels. Load them by "
                    "`peft.PeftModel.from_pretrained(model, adapters)` on a model that was loaded with its labels (`id2label`)."
                )
            return
        if is_new:
            self._compare_feature_extractors(adapters, places)
        fields = {name: saved[name] for name in HEAD_FIELDS if name in saved}
        labels = read_labels(fields.pop("id2label", self.config.id2label))
        is_other = len(labels) != self.config.num_labels or any(
            getattr(self.config, name) != value for name, value in fields.items() if name != "problem_type"
        )
        for name, value in fields.items():
            setattr(self.config, name, value)
        self._set_labels(labels)
        if is_other:
            self.config.validate()
            weight = next(self.classifier.parameters())
            self.num_labels = len(labels)
            with torch.device(weight.device):
                self.classifier = self.make_head(self.config).to(weight.dtype)  # type: ignore[attr-defined]

    def _compare_feature_extractors(self, adapters: str, places: dict[str, Any]) -> None:
        own = cached_file(adapters, FEATURE_EXTRACTOR_NAME, **_QUIET, **places)
        base = cached_file(self.config._name_or_path, FEATURE_EXTRACTOR_NAME, local_files_only=True, **_QUIET)
        if own is not None and base is not None:
            fields = [read_json(file) for file in (own, base)]
            if any(
                fields[0].get(name) != fields[1].get(name) for name in ("max_length", "mean", "std", "num_mel_bins")
            ):
                logger.warning(
                    "The adapters %r have a feature extractor that differs from the base model's. `pipeline` takes the base "
                    "model's unless it is given `feature_extractor=%r`.",
                    adapters,
                    adapters,
                )


def read_json(path: str) -> dict[str, Any]:
    """
    Reads a JSON object.

    Raises:
        `ValueError`: If the file holds something else.
    """
    with open(path, encoding="utf-8") as file:
        try:
            content = json.load(file)
        except (RecursionError, ValueError) as error:
            raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, got a {type(content).__name__}")
    return content


def read_labels(labels: Any) -> dict[int, str]:
    """
    Reads labels by class from JSON, where the classes are strings.

    Raises:
        `ValueError`: If they are not strings by numbers from zero.
    """
    try:
        read = {int(index): name for index, name in labels.items()}
    except (AttributeError, TypeError, ValueError):
        read = {}
    if sorted(read) != list(range(len(read))) or not read or not all(isinstance(name, str) for name in read.values()):
        raise ValueError(f"`{LABELS}` must map numbers from zero to labels, got {str(labels)[:100]}")
    return read
