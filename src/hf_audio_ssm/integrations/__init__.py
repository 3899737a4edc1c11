# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
The interfaces of the evaluation suites HEAR, X-ARES, MTEB and SUPERB (s3prl), one module each.

If a suite names no checkpoint, the environment variable HF_AUDIO_SSM_MODEL does: a folder, or a Hub repository.
"""

import os

from ..common.errors import InputError


MODEL_VARIABLE = "HF_AUDIO_SSM_MODEL"


def chosen_model(model: str | None = None) -> str:
    """
    Finds the checkpoint that a suite is to evaluate: the given one, or the environment's.

    Raises:
        [`InputError`]: If there is none.
    """
    model = model or os.environ.get(MODEL_VARIABLE)
    if not model:
        raise InputError(f"no model was given; set {MODEL_VARIABLE} to a folder or a Hub repository")
    return model
