# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Binding of the native CPU kernel."""

import torch


def is_available() -> bool:
    return False


def unavailable_because() -> str:
    return "the compiled library is missing"


def supports(device_type: str | None, dtype: torch.dtype | None) -> bool:
    return False


scan = convolution = None
