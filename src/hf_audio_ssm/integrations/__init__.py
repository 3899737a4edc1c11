# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
The embeddings as evaluation suites ask for them: HEAR, X-ARES, MTEB and SUPERB (s3prl), one module each.

Suites that name no checkpoint take that of the environment variable HF_AUDIO_SSM_MODEL: a folder, or a Hub repository.
"""

import os

from ..common.errors import InputError


MODEL_VARIABLE = "HF_AUDIO_SSM_MODEL"


def chosen_model(model: str | None = None) -> str:
    """
    The checkpoint that a suite is to evaluate: as given, or the environment's.

    Raises:
        [`InputError`]: If there is neither.
    """
    model = model or os.environ.get(MODEL_VARIABLE)
    if not model:
        raise InputError(f"no model was given; set {MODEL_VARIABLE} to a folder or a Hub repository")
    return model
