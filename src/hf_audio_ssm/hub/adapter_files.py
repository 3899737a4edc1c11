# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The files of adapters: which base model they name and where it is, and a configuration that PEFT can act on safely."""

import os
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig
from transformers.utils import ADAPTER_CONFIG_NAME, CONFIG_NAME

from ..common.hub_access import Place, find_place
from ..common.printable import one_line
from ..models.heads.adapter_labels import CLASSIFIER_CONFIG
from .saved_files import FileContentError, check_num_labels, check_types, find_file, read_object


def read_adapter_fields(place: Place) -> dict[str, Any] | None:
    """
    Reads PEFT's configuration of adapters, as it is in the file.

    Returns:
        `dict[str, Any]`: `None` if there are no adapters.

    Raises:
        `OSError`: If that cannot be known.
        [`InputError`]: If it cannot be the configuration of adapters.
    """
    path = find_file(place, ADAPTER_CONFIG_NAME)
    if path is None:
        return None
    fields = read_object(path)
    check_types(
        fields,
        ADAPTER_CONFIG_NAME,
        base_model_name_or_path=str,
        revision=str,
        auto_mapping=dict,
        peft_type=str,
        task_type=str,
    )
    if not fields.get("base_model_name_or_path"):
        raise FileContentError(f"{ADAPTER_CONFIG_NAME} names no base model (`base_model_name_or_path`)")
    return fields


def find_base(fields: dict[str, Any], adapters: Place) -> Place:
    """
    Finds the base model of adapters: beside them, which may have been moved, or else where its name leads.

    Args:
        fields (`dict`): See [`read_adapter_fields`].
        adapters ([`Place`]): Where the adapters are.

    Raises:
        `OSError`: If it cannot be found.
    """
    name = fields["base_model_name_or_path"]
    folder = Path(adapters.name).resolve()
    if folder.is_dir():
        paths = [] if os.path.isabs(name) else [parent / name for parent in (folder, *folder.parents)]
        if not os.path.isdir(name):
            paths += [folder / Path(name).name, folder.parent / Path(name).name]
        for path in paths:
            if path != folder and (path / CONFIG_NAME).is_file():
                return Place(str(path))
    try:
        return find_place(name, fields.get("revision"), adapters.token, adapters.local_files_only)
    except OSError as error:
        raise OSError(one_line(f"the base model {name!r} of these adapters is not here: {error}")) from error


def read_classifier_config(
    model: str | os.PathLike,
    revision: str | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> PreTrainedConfig | None:
    """
    Reads the configuration of the classifier (labels, head) that was saved beside adapters.

    Args:
        model (`str` or `PathLike`): A folder, or a repository on the Hub.
        revision (`str`, *optional*): Branch, tag or commit of the repository.
        token (`str`, *optional*): The token of the Hub; defaults to the stored one.
        local_files_only (`bool`, *optional*, defaults to `False`): Whether only cached files can be used.

    Returns:
        `PreTrainedConfig | None`: `None` where there is none.

    Raises:
        `OSError`: If that cannot be known.
        [`InputError`]: If it cannot be such a configuration.
    """
    path = find_file(Place(os.fspath(model), revision, token, local_files_only), CLASSIFIER_CONFIG)
    if path is None:
        return None
    fields = read_object(path)
    check_types(fields, CLASSIFIER_CONFIG, model_type=str, id2label=dict, architectures=list)
    check_num_labels(fields, CLASSIFIER_CONFIG)
    if "model_type" not in fields:
        raise FileContentError(f"{CLASSIFIER_CONFIG} names no `model_type`")
    return type(AutoConfig.for_model(fields["model_type"])).from_dict(fields)
