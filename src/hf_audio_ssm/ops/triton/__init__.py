# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Triton kernels for GPUs as `torch.library` operators. Triton itself is imported with the first call that needs it."""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import cache
from importlib import import_module
from importlib.util import find_spec

import torch
from torch import Tensor

from ..operators import (
    ConvolutionArguments,
    Direction,
    ScanTensors,
    convolution_parameters,
    convolve_layers,
    flatten,
    register_convolution,
    register_scan,
)


_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def is_interpreted() -> bool:
    """Whether Triton runs kernels in Python on the CPU, for tests: decided by the environment when it is imported."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def supports(device_type: str | None, dtype: torch.dtype | None) -> bool:
    if dtype not in (None, *_DTYPES):
        return False
    if is_interpreted():
        return device_type in (None, "cpu") and find_spec("triton") is not None
    return device_type in (None, "cuda") and unavailable_because() is None and _has_dtype(dtype)


def unavailable_because() -> str | None:
    """Why the kernels cannot run on the current GPU; None if they can."""
    if find_spec("triton") is None:
        return "Triton is not installed"
    if is_interpreted():
        return None
    if not torch.cuda.is_available():
        return "there is no GPU"
    return _failure_on(torch.cuda.current_device())


def _has_dtype(dtype: torch.dtype | None) -> bool:
    return dtype != torch.bfloat16 or torch.version.hip is not None or torch.cuda.get_device_capability() >= (8, 0)


@cache
def _failure_on(device_index: int) -> str | None:
    """
    Why first small calls fail on a GPU; None if they work. Triton does not support every GPU, and needs a C compiler when it
    first runs.
    """
    # In another thread: a tracer or compiler that is active in this one would record the calls.
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(_try_kernels, torch.device("cuda", device_index)).result()


def _try_kernels(device: torch.device) -> str | None:
    try:
        x = torch.ones(1, 1, 1, device=device)
        matrix, row = x[0], x[0, 0]
        _convolution_forward(x, *convolution_parameters(matrix, row, matrix, row))
        direction = Direction(x, x, dt_weight=None, dt_bias=row, A=-matrix, B=x, C=x, D=row)
        _scan_forward(*flatten(ScanTensors(direction, None, None)), 1.0, False, False)
        torch.cuda.synchronize(device)
    except Exception as error:  # Whatever the compiler or the driver raise.
        return f"a first kernel failed with {type(error).__name__}: {error}"
    return None


def _on_device(tensor: Tensor):
    """Triton launches on the current GPU."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def _states_shape(*arguments):
    from .scan_forward import states_shape

    return states_shape(*arguments)


def _launcher(module: str, name: str):
    """A function of one of the modules here, which is imported with the first call, on the GPU of its first tensor."""

    def launch(*arguments):
        with _on_device(arguments[0]):
            return getattr(import_module(f".{module}", __name__), name)(*arguments)

    return launch


_scan_forward, _scan_backward = _launcher("scan_forward", "forward"), _launcher("scan_backward", "backward")
_convolution_forward, _convolution_backward = (_launcher("convolutions", name) for name in ("forward", "backward"))


def pairs_pay(batch_size: int, length: int, channels: int, state_size: int, device: torch.device) -> bool:
    """Whether one layer's programs leave a quarter of the GPU idle, or more: two layers at once take twice the memory."""
    from .scan_forward import count_programs, programs_wanted

    return 4 * count_programs(batch_size, length, channels, state_size, device) <= 3 * programs_wanted(device)


def convolution(*arguments):
    """Like `reference.convolution`."""
    return convolve_layers(_convolution, [ConvolutionArguments(*arguments)])[0]


def convolution_pair(*layers):
    """`convolution` of the arguments of both layers of a pair."""
    return convolve_layers(_convolution_pair, layers)


# Of all devices, for the interpreter's sake.
_KEY = "CompositeExplicitAutograd"
scan = register_scan("triton", _KEY, _scan_forward, _scan_backward, _states_shape)
scan_pair = register_scan("pair_triton", _KEY, _scan_forward, _scan_backward, _states_shape, num_layers=2)
_convolution = register_convolution("triton", _KEY, _convolution_forward, _convolution_backward)
_convolution_pair = register_convolution(
    "pair_triton", _KEY, _convolution_forward, _convolution_backward, num_layers=2
)
