# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What names a model or a data set on the Hub, and what a folder or a file here."""

import re
from pathlib import Path


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


def data_on_hub(source: str) -> tuple[str, str | None, str | None] | None:
    """
    The parts of the name of a data set on the Hub.

    Args:
        source (`str`): `name`, `name:configuration`, `name@split` or `name:configuration@split`.

    Returns:
        Name, configuration and split, or None for a folder or a file here.
    """
    parts = re.fullmatch(r"([\w.-]+(?:/[\w.-]+)?)(?::([^@]+))?(?:@(.+))?", source)
    if parts is None or Path(source).exists() or source.startswith((".", "/")) or source.endswith(".parquet"):
        return None
    name, configuration, split = parts.groups()
    return name, configuration, split
