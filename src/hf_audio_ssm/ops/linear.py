# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Matrix products on a CPU, and when a module's parameters may be read without calling it."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.function import once_differentiable
from torch.nn.modules import module as nn_module


def multiply(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear` without autograd, on a CPU: by oneDNN for float32, where torch would take MKL.

    MKL reaches less than half of oneDNN's speed on AMD's processors; both round as float32 does.
    """
    if inputs.dtype == weight.dtype == torch.float32 and inputs.numel() and _has_onednn():
        return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
    return F.linear(inputs, weight, bias)


def _has_onednn() -> bool:
    return (
        torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


class _Multiplication(torch.autograd.Function):
    """`multiply` of matrices with first derivatives, which are such products too."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return multiply(inputs, weight, bias)

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
    """Calls a linear module; by `multiply` where that computes the same and nothing hooks into the module."""
    if not is_eager(inputs) or not is_plain(module, nn.Linear):
        return module(inputs)
    weight, bias = module.weight, module.bias
    if not torch.is_grad_enabled():
        return multiply(inputs, weight, bias)
    if inputs.dtype != torch.float32 or weight.dtype != torch.float32 or not _has_onednn():
        return module(inputs)
    return _Multiplication.apply(inputs.flatten(0, -2), weight, bias).unflatten(0, inputs.shape[:-1])


def is_eager_inference(inputs: Tensor) -> bool:
    """Whether no gradient is wanted, and `is_eager`."""
    return not torch.is_grad_enabled() and is_eager(inputs)


def is_eager(inputs: Tensor) -> bool:
    """Whether nothing but autograd watches these inputs on a CPU: no autocast, compiler, tracer or transform."""
    return (
        not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and type(inputs) is Tensor
        and inputs.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._functorch.peek_interpreter_stack() is None
    )


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether calling the module does nothing but what its class does with its weight and bias."""
    if type(module) is not kind or not is_untouched(module):
        return False
    # Quantizers keep the class and replace the weight; torch.export puts a fake tensor in a plain weight's place.
    weight = module.weight
    return type(weight) in (nn.Parameter, Tensor, FakeTensor) and weight.is_floating_point()


def read_plain(module: nn.Module, kind: type[nn.Module]) -> tuple[Tensor, Tensor | None] | None:
    """The weight and bias of a module that `is_plain`; else None."""
    return (module.weight, module.bias) if is_plain(module, kind) else None


def is_untouched(module: nn.Module, idle_hooks: str | None = None) -> bool:
    """
    Whether calling the module runs its class's `forward` and nothing else: accelerate replaces it on the instance. Forward
    hooks that the Python module `idle_hooks` defines count for nothing.
    """
    hooks = module._forward_hooks
    if hooks and idle_hooks is not None:
        hooks = [hook for hook in hooks.values() if hook.__module__ != idle_hooks]
    return "forward" not in module.__dict__ and not (
        hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or nn_module._global_forward_hooks
        or nn_module._global_forward_pre_hooks
        or nn_module._global_backward_hooks
        or nn_module._global_backward_pre_hooks
    )
