# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What names a model on the Hub, and what a folder."""

import os

from ..common.hub_access import is_hub_name


def model_on_hub(model: str) -> str | None:
    """
    The name of a model repository on the Hub.

    Args:
        model (`str`): What `from_pretrained` was given.

    Returns:
        `str`, or None for a folder here.
    """
    return model if is_hub_name(model) and not os.path.exists(model) else None


def is_missing_folder(model: str) -> bool:
    """Whether a checkpoint's name is a path, which no repository on the Hub can have, and leads to no folder."""
    return not os.path.isdir(model) and not is_hub_name(model)
