# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What names a model on the Hub, and what a folder; and the configuration beside adapters."""

import json
import os
import re
from pathlib import Path

from transformers import AutoConfig, PreTrainedConfig
from transformers.utils import cached_file


# Beside adapters: the configuration of what they adapt (labels, head), which PEFT does not keep.
CLASSIFIER_CONFIG = "classifier_config.json"


def model_on_hub(model: str) -> str | None:
    """
    The name of a model repository on the Hub.

    Args:
        model (`str`): What `from_pretrained` was given.

    Returns:
        `str`, or None for a folder here.
    """
    return model if re.fullmatch(r"[\w.-]+/[\w.-]+", model) and not Path(model).exists() else None


def is_missing_folder(model: str) -> bool:
    """Whether a checkpoint's name is a path, which no repository on the Hub can have, and leads to no folder."""
    is_path = model.startswith((".", "/", "~")) or model.count("/") > 1
    return is_path and not os.path.isdir(model)


def read_classifier_config(
    model: str | os.PathLike, revision: str | None = None, token: str | bool | None = None
) -> PreTrainedConfig | None:
    """
    Reads the configuration that [`save_adapted`] or [`push_adapted`] saved beside adapters.

    Args:
        model (`str` or `PathLike`): A folder, or a repository on the Hub.
        revision (`str`, *optional*): Branch, tag or commit of the repository.
        token (`str`, *optional*): Of the Hub; defaults to the stored one.

    Returns:
        `PreTrainedConfig | None`: `None` where there is none.
    """
    hub = {"revision": revision, "token": token, "_raise_exceptions_for_missing_entries": False}
    found = cached_file(model, CLASSIFIER_CONFIG, **hub)
    return None if found is None else AutoConfig.for_model(**json.loads(Path(found).read_text(encoding="utf-8")))
