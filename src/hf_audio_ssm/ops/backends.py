# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Which implementation runs: one rule by device and dtype, with an override by argument or environment variable."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch

from . import cpu, reference


logger = logging.getLogger(__name__)

BACKEND_VARIABLE = "HF_AUDIO_SSM_BACKEND"


@dataclass(frozen=True)
class Backend:
    """One implementation of the operators.

    `scan` and `convolution` have the signatures of `reference.scan` and `reference.convolution`; `supports(device_type,
    dtype)` tells whether they run there, with None standing for any device or dtype.
    """

    name: str
    scan: Callable
    convolution: Callable
    supports: Callable[[str | None, torch.dtype | None], bool]


# In order of preference: the first one that supports a call's device and dtype runs it.
_BACKENDS = {
    backend.name: backend
    for backend in (
        Backend("cpu", cpu.scan, cpu.convolution, cpu.supports),
        Backend("reference", reference.scan, reference.convolution, reference.supports),
    )
}
_announced: set[tuple[str, str]] = set()
_warned_about_missing_extension = False


def available_backends(device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> tuple[str, ...]:
    """Names of the backends that work here, in order of preference.

    Args:
        device: only those that run on this device (`torch.device` or a string); None: on any device.
        dtype: only those that take hidden states of this dtype; None: any dtype.

    Returns:
        A tuple of names: "cpu" (native code) and "reference" (plain PyTorch, any device, also float64).
    """
    device_type = None if device is None else torch.device(device).type
    return tuple(name for name, backend in _BACKENDS.items() if backend.supports(device_type, dtype))


def select_backend(device_type: str, dtype: torch.dtype, name: str | None = None) -> Backend:
    """The backend that runs a call with hidden states of `dtype` on `device_type`.

    Args:
        device_type: such as "cpu" or "cuda".
        dtype: of the hidden states.
        name: the wanted backend; None: the environment variable HF_AUDIO_SSM_BACKEND, then the first available one.

    Raises:
        ValueError: the wanted backend is unknown or does not run there; the message names those that do.
    """
    return _BACKENDS[_select_name(device_type, dtype, name)]


def _select_name(device_type: str, dtype: torch.dtype, name: str | None) -> str:
    source = "backend"
    if name is None:
        name = os.environ.get(BACKEND_VARIABLE) or None
        source = BACKEND_VARIABLE
    available = available_backends(device_type, dtype)
    if name is None:
        _warn_about_missing_extension(device_type)
        name = available[0]
    elif name not in available:
        raise ValueError(
            f"{source}={name!r} is not available for {dtype} on {device_type}: "
            f"expected one of {', '.join(map(repr, available))}."
        )
    if (name, device_type) not in _announced:
        _announced.add((name, device_type))
        logger.info("Selective scans on %s use the %s backend.", device_type, name)
    return name


# What torch.compiler.assume_constant_result does, which would import the whole compiler here.
_select_name._dynamo_marked_constant = True


def _warn_about_missing_extension(device_type: str) -> None:
    global _warned_about_missing_extension
    if device_type == "cpu" and not cpu.is_available() and not _warned_about_missing_extension:
        _warned_about_missing_extension = True
        logger.warning(
            "The native CPU kernel of hf_audio_ssm is not available (%s): selective scans fall back to plain PyTorch, "
            "which is many times slower. Install a C++ compiler (GCC or Clang) and reinstall hf_audio_ssm to get it.",
            cpu.unavailable_because(),
        )
