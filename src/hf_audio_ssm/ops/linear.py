# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Matrix products on a CPU."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .compat import has_onednn, is_eager, is_transformed, multiply_by_onednn
from .exact import LINEAR, Inspection


def multiply(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear` without autograd, on a CPU: by oneDNN for float32, where torch would take MKL.

    MKL reaches less than half of oneDNN's speed on AMD's processors; both round as float32 does.
    """
    if inputs.dtype == weight.dtype == torch.float32 and inputs.numel() and has_onednn() and not is_transformed():
        return multiply_by_onednn(inputs, weight, bias)
    return F.linear(inputs, weight, bias)


class _Multiplication(torch.autograd.Function):
    """`multiply` of matrices with first derivatives, which are such products too."""

    generate_vmap_rule = True

    @staticmethod
    def forward(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return multiply(inputs, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        inputs, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        return (
            multiply(grad, weight.t()) if wanted[0] else None,
            multiply(grad.t(), inputs.t()) if wanted[1] else None,
            grad.sum(dim=0) if wanted[2] else None,
        )


def call_linear(module: nn.Module, inputs: Tensor) -> Tensor:
    """Calls a linear module; by `multiply` where that computes the same and the module is exact."""
    if not is_eager(inputs) or not Inspection().is_exact(module, LINEAR, inputs):
        return module(inputs)
    weight, bias = module.weight, module.bias
    if not torch.is_grad_enabled():
        return multiply(inputs, weight, bias)
    if inputs.dtype != torch.float32 or not has_onednn():
        return module(inputs)
    return _Multiplication.apply(inputs.flatten(0, -2), weight, bias).unflatten(0, inputs.shape[:-1])


def is_eager_inference(inputs: Tensor) -> bool:
    """Whether no gradient is wanted, and `is_eager`."""
    return not torch.is_grad_enabled() and is_eager(inputs)
