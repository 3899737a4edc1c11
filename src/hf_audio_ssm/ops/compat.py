# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
What the kernels use of torch and transformers beyond their public interfaces, and what happens where that may be missing.

Tested with torch 2.13 and 2.14. A newer torch may change what is not public. With it, `is_eager` and `is_untouched` return False: modules
are called, and the kernels run as operators, which gives the same results and takes longer.
"""

import logging
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn


logger = logging.getLogger(__name__)

NEWEST_TESTED_TORCH = (2, 14)
IS_TESTED = tuple(int(part) for part in torch.__version__.split(".")[:2]) <= NEWEST_TESTED_TORCH
if IS_TESTED:
    from torch._C import _get_tracing_state as _tracing_state
    from torch._C import _len_torch_dispatch_stack as _count_dispatch_modes
    from torch._C import _len_torch_function_stack as _count_function_modes
    from torch._C._functorch import is_legacy_batchedtensor as _is_batched_by_autograd
    from torch._C._functorch import peek_interpreter_stack as _transform
    from torch._subclasses.fake_tensor import FakeTensor
    from torch.autograd import forward_ad
    from torch.nn.modules import module as nn_module
else:
    logger.warning(
        "torch %s is newer than torch %d.%d, the newest version that the kernels of hf_audio_ssm were tested with: their "
        "fastest paths are off. A newer hf_audio_ssm may know this torch.",
        torch.__version__,
        *NEWEST_TESTED_TORCH,
    )

_ORDINARY = frozenset((Tensor, nn.Parameter))
_Function = TypeVar("_Function", bound=Callable[..., Any])


def assume_constant_result(function: _Function) -> _Function:
    """`torch.compiler.assume_constant_result`, which would import the whole compiler here."""
    if not IS_TESTED:
        return torch.compiler.assume_constant_result(function)
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def is_exporting() -> bool:
    """Whether `torch.export` or `torch.jit.trace` writes down what runs, for ONNX or itself."""
    # New in torch 2.7. Before that, `torch.compile` counts as well.
    is_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
    return bool(is_exporting() or torch.jit.is_tracing())


def is_fixed(size: int) -> bool:
    """Whether a graph may depend on this size of a tensor: it is no number that a compiler, exporter or tracer keeps open."""
    return type(size) is int and not torch.compiler.is_dynamo_compiling() and not torch.jit.is_tracing()


def is_eager(inputs: Tensor) -> bool:
    """Whether only autograd sees what is done with these inputs, on a CPU: no autocast, compiler, tracer, transform or mode."""
    return (
        IS_TESTED
        and not torch.compiler.is_compiling()
        and type(inputs) is Tensor
        and inputs.is_cpu
        and _tracing_state() is None
        and not torch.is_autocast_enabled("cpu")
        and _count_dispatch_modes() == 0
        and _count_function_modes() == 0
        and _transform() is None
        and forward_ad._current_level < 0
    )


def is_transformed() -> bool:
    """Whether a transform of `torch.func` runs, or forward-mode differentiation: operators without rules for these cannot."""
    return (
        IS_TESTED
        and not torch.compiler.is_compiling()
        and (_transform() is not None or forward_ad._current_level >= 0)
    )


def is_batched_by_autograd(grad: Tensor) -> bool:
    """Whether a gradient is a batch of `torch.autograd.grad(is_grads_batched=True)`, an older way than `torch.func.vmap`."""
    return IS_TESTED and not torch.compiler.is_compiling() and _is_batched_by_autograd(grad)


def has_onednn() -> bool:
    """Whether `multiply_by_onednn` can be called."""
    return bool(
        IS_TESTED
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def multiply_by_onednn(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`torch.nn.functional.linear` without autograd, of float32 that is not empty, by oneDNN."""
    return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")


def is_plain_weight(weight: Any) -> bool:
    """Whether a module's weight is an ordinary tensor of floating point numbers, whose memory holds their values.

    Quantizers keep a module's class and replace its weight; torch.export puts a fake tensor in an ordinary one's place.
    """
    return (
        type(weight) in (nn.Parameter, Tensor, FakeTensor)
        and weight.is_floating_point()
        and weight.layout is torch.strided
        # Compilers cannot ask, and read no memory themselves.
        and (torch.compiler.is_compiling() or not weight.is_neg())
    )


def are_plain(tensors: Iterable[Tensor | None]) -> bool:
    """Whether all tensors are ordinary ones whose memory holds their values. None counts for nothing."""
    present = [tensor for tensor in tensors if tensor is not None]
    return _ORDINARY.issuperset(map(type, present)) and not any(map(Tensor.is_neg, present))


def is_untouched(module: nn.Module) -> bool:
    """Whether calling the module runs its class's `forward` and nothing else: it has no hooks and no replaced `forward`.

    Accelerate replaces `forward` on the instance. Hooks of transformers that capture nothing now do not count.
    """
    if not IS_TESTED:
        return False
    hooks = module._forward_hooks
    return (
        "forward" not in module.__dict__
        and module._compiled_call_impl is None
        and not (
            (hooks and not all(map(_is_idle, hooks.values())))
            or module._forward_pre_hooks
            or module._backward_hooks
            or module._backward_pre_hooks
            or nn_module._global_forward_hooks
            or nn_module._global_forward_pre_hooks
            or nn_module._global_backward_hooks
            or nn_module._global_backward_pre_hooks
        )
    )


def _is_idle(hook: Callable[..., Any]) -> bool:
    """Whether a forward hook of transformers' `capture_outputs` does nothing now.

    A model's layers keep these hooks once hidden states were asked for. A compiler cannot read what they read.
    """
    capturing = sys.modules.get("transformers.utils.output_capturing")
    if capturing is None or getattr(hook, "__module__", None) != capturing.__name__ or torch.compiler.is_compiling():
        return False
    collector = getattr(capturing, "_active_collector", None)
    return collector is not None and not collector.get()
