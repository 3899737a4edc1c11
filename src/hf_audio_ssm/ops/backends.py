# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Which implementation runs: one rule by device, dtype and state size, with an override by argument or environment variable."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..common.errors import InputError
from . import cpu, mamba_ssm, reference, triton
from .compat import assume_constant_result, is_transformed
from .operators import ConvolutionArguments, ScanTensors


logger = logging.getLogger(__name__)

BACKEND_VARIABLE = "HF_AUDIO_SSM_BACKEND"
# The limit of the GPU kernels, those of this package and of mamba-ssm.
_MAX_STATE_SIZE = 256


@dataclass(frozen=True)
class Pairs:
    """Kernels for two layers at once.

    `scan` takes the tensors of both layers, then what `Backend.scan` takes besides, and returns both outputs and the states;
    `convolution` takes the arguments of `Backend.convolution` of both, and returns both results; `pay(batch_size, length,
    channels, state_size, device)` tells whether two layers take less time at once than one after the other.
    """

    scan: Callable[..., tuple[Tensor, Tensor, Tensor | None]]
    convolution: Callable[[ConvolutionArguments, ConvolutionArguments], list[tuple[Tensor, Tensor]]]
    pay: Callable[[int, int, int, int, torch.device], bool]


@dataclass(frozen=True)
class InPlace:
    """Kernels without autograd that write into given memory.

    `scan` takes the output, which may be the gate, then the first three arguments of `Backend.scan`; `convolution` takes both
    outputs, then the arguments of `Backend.convolution`.
    """

    scan: Callable[[Tensor, ScanTensors, float, bool], None]
    convolution: Callable[[Sequence[Tensor], ConvolutionArguments], None]


@dataclass(frozen=True)
class Layers:
    """Kernels for whole layers in inference, in float32.

    `layer` makes a layer, `cpu.Layer`, whose `call` prepares a call for `run`; `pay()` tells whether that takes less time than
    to call the layer's modules.
    """

    layer: Callable[..., cpu.Layer]
    run: Callable[[bytes], None]
    pay: Callable[[], bool]


@dataclass(frozen=True)
class Backend:
    """One implementation of the operators, and what else it can do.

    `scan` and `convolution` have the signatures of `reference.scan` and `reference.convolution`; `supports(device_type,
    dtype)` tells whether they run there, with None standing for any device or dtype; `unavailable_because()` says why they
    run nowhere here, None if they do; `takes_large_states` tells whether a state may be larger than 256. The other entries
    are optional: None where the backend has no such kernels.
    """

    name: str
    scan: Callable[[ScanTensors, float, bool, bool], tuple[Tensor, Tensor | None]]
    convolution: Callable[..., tuple[Tensor, Tensor]]
    supports: Callable[[str | None, torch.dtype | None], bool]
    unavailable_because: Callable[[], str | None] = lambda: None
    takes_large_states: bool = True
    pairs: Pairs | None = None
    in_place: InPlace | None = None
    layers: Layers | None = None


# In order of preference: the first one that supports a call runs it.
_BACKENDS = {
    backend.name: backend
    for backend in (
        Backend(
            "cpu",
            cpu.scan,
            cpu.convolution,
            cpu.supports,
            lambda: cpu.unavailable_because() or None,
            in_place=InPlace(cpu.scan_into, cpu.convolution_into),
            layers=Layers(cpu.Layer, cpu.run_layer, cpu.has_layer),
        ),
        Backend(
            "triton",
            triton.scan,
            triton.convolution,
            triton.supports,
            triton.unavailable_because,
            takes_large_states=False,
            pairs=Pairs(triton.scan_pair, triton.convolution_pair, triton.pairs_pay),
        ),
        Backend(
            "mamba_ssm",
            mamba_ssm.scan,
            mamba_ssm.convolution,
            mamba_ssm.supports,
            mamba_ssm.unavailable_because,
            takes_large_states=False,
        ),
        Backend("reference", reference.scan, reference.convolution, reference.supports),
    )
}
_announced: set[tuple[str, str]] = set()
_warned_about: set[str] = set()


def available_backends(device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> tuple[str, ...]:
    """Names of the backends that work here, in order of preference.

    Args:
        device: only those that run on this device (`torch.device` or a string); None: on any device.
        dtype: only those that take hidden states of this dtype; None: any dtype.

    Returns:
        A tuple of names: "cpu" (native code), "triton" (GPUs), "mamba_ssm" (that package's compiled kernels) and
        "reference" (plain PyTorch, any device, also float64).
    """
    device_type = None if device is None else torch.device(device).type
    return tuple(name for name, backend in _BACKENDS.items() if backend.supports(device_type, dtype))


def explain_backends(device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> dict[str, str]:
    """Which backend is used, and why others are not, in order of preference.

    Args:
        device: of the hidden states, `torch.device` or a string.
        dtype: of the hidden states.

    Returns:
        A text for each backend's name: "used", "available", or "not available: " and why.

    Raises:
        InputError: the environment variable HF_AUDIO_SSM_BACKEND asks for a backend that is unknown or does not run there.
    """
    device_type = torch.device(device).type
    used = select_backend(device_type, dtype)
    explanations = {}
    for name, backend in _BACKENDS.items():
        if backend.supports(device_type, dtype):
            explanations[name] = "used" if backend is used else "available"
        else:
            reason = backend.unavailable_because() or f"it does not run {dtype} on {device_type}"
            explanations[name] = f"not available: {reason}"
    return explanations


def select_backend(
    device_type: str, dtype: torch.dtype, name: str | None = None, state_size: int | None = None
) -> Backend:
    """The backend that runs a call with hidden states of `dtype` on `device_type`.

    Args:
        device_type: such as "cpu" or "cuda".
        dtype: of the hidden states.
        name: the wanted backend; None: the environment variable HF_AUDIO_SSM_BACKEND, then the first available one.
        state_size: of the states; None: of a usual size.

    Raises:
        InputError: the wanted backend is unknown or does not run there; the message names those that do.
    """
    # Not an expression: its value would be unknown to a compiler that traces this.
    has_large_states = False
    if state_size is not None and state_size > _MAX_STATE_SIZE:
        has_large_states = True
    name = _select_name(device_type, dtype, name, has_large_states)
    # The transforms of torch know the rules of its own operators.
    return _BACKENDS["reference" if is_transformed() else name]


@assume_constant_result
def _select_name(device_type: str, dtype: torch.dtype, name: str | None, has_large_states: bool) -> str:
    source = "backend"
    if name is None:
        name = os.environ.get(BACKEND_VARIABLE) or None
        source = BACKEND_VARIABLE
    available = available_backends(device_type, dtype)
    if has_large_states:
        available = tuple(one for one in available if _BACKENDS[one].takes_large_states)
    if name is None:
        name = available[0]
        _warn_about_missing_kernels(device_type, name)
    elif name not in available:
        states = f" with states larger than {_MAX_STATE_SIZE}" if has_large_states else ""
        raise InputError(
            f"{source}={name!r} is not available for {dtype} on {device_type}{states}: "
            f"expected one of {', '.join(map(repr, available))}."
        )
    if (name, device_type) not in _announced:
        _announced.add((name, device_type))
        logger.info("Selective scans on %s use the %s backend.", device_type, name)
    return name


def _warn_about_missing_kernels(device_type: str, name: str) -> None:
    """Warns once for each kind of device that its own kernels are missing, and says how to get them."""
    if device_type in _warned_about:
        return
    if device_type == "cpu" and not cpu.is_available():
        _warned_about.add(device_type)
        logger.warning(
            "The native CPU kernel of hf_audio_ssm is not available (%s): selective scans fall back to plain PyTorch, "
            "which is many times slower. Install a C++ compiler (GCC or Clang) and reinstall hf_audio_ssm to get it.",
            cpu.unavailable_because(),
        )
    if device_type == "cuda" and (reason := triton.unavailable_because()) is not None:
        _warned_about.add(device_type)
        logger.warning(
            "The Triton kernels of hf_audio_ssm are not available (%s): selective scans use the %s backend, which is "
            "slower. Triton comes with torch for Linux, and needs a C compiler (GCC or Clang) and Python's headers "
            "(python3-dev on Debian) when it first runs.",
            reason,
            name,
        )
