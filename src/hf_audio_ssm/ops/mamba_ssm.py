# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
The compiled kernels of the packages mamba-ssm and causal-conv1d, where they are installed.

These run forward in time only, on channels first, one direction a call: sequences are transposed and flipped for them.
"""

from functools import cache
from importlib import import_module

import torch
import torch.nn.functional as F
from torch import Tensor

from .operators import (
    ConvolutionArguments,
    ScanTensors,
    convolve_layers,
    register_convolution,
    register_scan,
    unflatten,
)


_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_KERNEL_SIZES = (2, 3, 4)


@cache
def unavailable_because() -> str | None:
    """Why the kernels cannot run; None if they can. The package mamba_ssm can be imported without them, so that is no proof."""
    try:
        import_module("selective_scan_cuda")
    except Exception as error:  # A binary that does not fit torch raises what the loader finds.
        return f"selective_scan_cuda, the compiled part of mamba-ssm, cannot be imported: {error}"
    return None if _has_gpu() else "there is no GPU"


def _has_gpu() -> bool:
    return torch.cuda.is_available()


def supports(device_type: str | None, dtype: torch.dtype | None) -> bool:
    return device_type in (None, "cuda") and dtype in (None, *_DTYPES) and unavailable_because() is None


def _in_kernel_layout(sequence: Tensor, runs_backward: bool) -> Tensor:
    """(batch, length, features) to contiguous (batch, features, length) in scan order; its own inverse."""
    sequence = sequence.transpose(1, 2)
    return (sequence.flip(2) if runs_backward else sequence).contiguous()


def _to_time_order(sequence: Tensor, runs_backward: bool) -> Tensor:
    """The inverse of `_in_kernel_layout`."""
    return (sequence.flip(2) if runs_backward else sequence).transpose(1, 2)


def _project(dt: Tensor, weight: Tensor | None) -> Tensor:
    return dt if weight is None else F.linear(dt, weight.to(dt.dtype))


def _directions(tensors: ScanTensors, reverse: bool):
    """For each direction its operands as the kernel takes them, its tensors, and whether it runs backward."""
    for own, runs_backward in ((tensors.first, reverse), (tensors.second, not reverse)):
        if own is None:
            continue
        x, dt, weight, bias, A, B, C, D = own
        u, delta, B, C = (_in_kernel_layout(value, runs_backward) for value in (x, _project(dt, weight), B, C))
        # One group of channels that share B and C.
        operands = (u, delta, A.contiguous(), B.unsqueeze(1), C.unsqueeze(1), D.contiguous(), None, bias.contiguous())
        yield operands, own, runs_backward


def _ungated(tensors, reverse):
    """The sum over directions, float32, and each direction's intermediate results for the backward pass."""
    kernels = import_module("selective_scan_cuda")
    total, intermediates = 0, []
    for operands, _, runs_backward in _directions(tensors, reverse):
        output, intermediate, *_ = kernels.fwd(*operands, True)
        total = total + _to_time_order(output, runs_backward).float()
        intermediates.append(intermediate)
    return total, intermediates


def _scan_forward(*arguments):
    *flat, scale, reverse, _ = arguments
    tensors = unflatten(flat)
    x, gate = tensors.first.x, tensors.gate
    # CUDA launches no kernel without programs.
    if len(x) == 0:
        return x.new_empty(x.shape), x.new_empty(0, dtype=torch.float32)
    total = _ungated(tensors, reverse)[0] * scale
    if gate is not None:
        total = total * F.silu(gate.float())
    return total.to(x.dtype).contiguous(), total.new_empty(0)


def _scan_backward(grad, states, *arguments):
    *flat, scale, reverse = arguments
    if len(grad) == 0:
        return [torch.zeros_like(tensor) for tensor in flat if tensor is not None]
    tensors = unflatten(flat)
    gate = tensors.gate
    kernels = import_module("selective_scan_cuda")
    total, intermediates = _ungated(tensors, reverse)
    grad_total = grad.float() * scale
    grad_gate = None
    if gate is not None:
        sigmoid = torch.sigmoid(gate.float())
        slope = sigmoid * (1 + gate.float() * (1 - sigmoid))
        grad_gate = (total * grad_total * slope).to(gate.dtype)
        grad_total = grad_total * gate.float() * sigmoid
    gradients = []
    directions = _directions(tensors, reverse)
    for (operands, own, runs_backward), intermediate in zip(directions, intermediates, strict=True):
        grad_output = _in_kernel_layout(grad_total.to(own.x.dtype), runs_backward)
        # No gated result, no room for a gate's gradient; softplus, and no gated result to be recomputed.
        found = kernels.bwd(*operands, grad_output, intermediate, None, None, True, False)
        grad_x, grad_dt, grad_A, grad_B, grad_C, grad_D, grad_bias = found[:7]
        grad_x, grad_dt, grad_B, grad_C = (
            _to_time_order(value, runs_backward) for value in (grad_x, grad_dt, grad_B.squeeze(1), grad_C.squeeze(1))
        )
        grad_weight = None
        if own.dt_weight is not None:
            grad_weight = grad_dt.flatten(0, 1).t() @ own.dt.flatten(0, 1)
            grad_dt = grad_dt @ own.dt_weight.to(own.dt.dtype)
        values = (grad_x, grad_dt, grad_weight, grad_bias, grad_A, grad_B, grad_C, grad_D)
        gradients += [
            value.to(tensor.dtype).contiguous()
            for value, tensor in zip(values, own, strict=True)
            if tensor is not None
        ]
    return gradients if grad_gate is None else [*gradients, grad_gate.contiguous()]


def _states_shape(x: Tensor, A: Tensor, num_directions: int) -> tuple[int, ...]:
    """The backward pass starts from nothing that is saved."""
    return (0,)


def _before_silu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The causal convolution of (batch, channels, length), float32."""
    padded = F.pad(x.float(), (weight.shape[1] - 1, 0))
    return F.conv1d(padded, weight.unsqueeze(1), bias, groups=weight.shape[0])


def _convolution_forward(x, *parameters):
    outputs = []
    for runs_backward, (weight, bias) in ((False, parameters[:2]), (True, parameters[2:])):
        sequence = _in_kernel_layout(x, runs_backward)
        if len(x) and weight.shape[1] in _KERNEL_SIZES and _has_causal_conv1d():
            convolve = import_module("causal_conv1d").causal_conv1d_fn
            result = convolve(sequence, weight.contiguous(), bias.contiguous(), activation="silu")
        else:
            result = F.silu(_before_silu(sequence, weight, bias)).to(x.dtype)
        outputs.append(_to_time_order(result, runs_backward).contiguous())
    return tuple(outputs)


@cache
def _has_causal_conv1d() -> bool:
    try:
        import_module("causal_conv1d_cuda")
        import_module("causal_conv1d")
    except Exception:  # As in `unavailable_because`.
        return False
    return True


def _convolution_backward(grad, grad2, x, *parameters):
    grad_x, gradients = 0, []
    for runs_backward, grad_output, (weight, bias) in (
        (False, grad, parameters[:2]),
        (True, grad2, parameters[2:]),
    ):
        sequence = _in_kernel_layout(x, runs_backward).float()
        sigmoid = torch.sigmoid(before := _before_silu(sequence, weight, bias))
        grad_before = _in_kernel_layout(grad_output, runs_backward).float() * sigmoid * (1 + before * (1 - sigmoid))
        reach = weight.shape[1] - 1
        grad_padded, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
            grad_before,
            F.pad(sequence, (reach, 0)),
            weight.unsqueeze(1),
            [weight.shape[0]],
            [1],
            [0],
            [1],
            False,
            [0],
            weight.shape[0],
            [True, True, True],
        )
        grad_x = grad_x + _to_time_order(grad_padded[..., reach:], runs_backward)
        gradients += [grad_weight.squeeze(1).contiguous(), grad_bias]
    return grad_x.to(x.dtype).contiguous(), *gradients


def convolution(*arguments):
    """Like `reference.convolution`; by causal-conv1d where it is installed and has the kernel's size."""
    return convolve_layers(_convolution, [ConvolutionArguments(*arguments)])[0]


# Of all devices: the kernels themselves refuse what they cannot run.
scan = register_scan("mamba_ssm", "CompositeExplicitAutograd", _scan_forward, _scan_backward, _states_shape)
_convolution = register_convolution(
    "mamba_ssm", "CompositeExplicitAutograd", _convolution_forward, _convolution_backward
)
