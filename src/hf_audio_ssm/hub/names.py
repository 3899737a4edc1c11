# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What names a model on the Hub, and what a folder."""

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
