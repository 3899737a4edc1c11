# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Registers implementations as `torch.library` operators with fake kernels and autograd."""

from collections.abc import Callable

import torch
from torch import Tensor


NAMESPACE = "hf_audio_ssm"
library = torch.library.Library(NAMESPACE, "DEF")

# One direction: hidden states and time steps, the fused time step projection, then the state space's own tensors.
_DIRECTION = (
    "Tensor{q} x{i}, Tensor{q} dt{i}, Tensor? dt_weight{i}, Tensor{q} dt_bias{i}, "
    "Tensor{q} A{i}, Tensor{q} B{i}, Tensor{q} C{i}, Tensor{q} D{i}"
)
_SCAN_TENSORS = f"{_DIRECTION.format(q='', i='')}, {_DIRECTION.format(q='?', i='2')}, Tensor? gate"
_SCAN_SETTINGS = "float scale, bool reverse"
TENSORS_PER_DIRECTION = 8
NUM_SCAN_TENSORS = 2 * TENSORS_PER_DIRECTION + 1


def register_scan(
    suffix: str, dispatch_key: str, forward: Callable, backward: Callable, states_shape: Callable
) -> Callable:
    """Registers `scan_{suffix}` and `scan_{suffix}_backward` and returns the former.

    The operator takes the 17 tensors of one or two directions and the gate, `scale`, `reverse` and `save_states`; it
    returns the output (batch, length, channels) in the dtype of x, and the states that the backward pass starts from
    (empty unless `save_states`).

    Args:
        suffix: the operators' name in the namespace.
        dispatch_key: which device's tensors the implementation takes.
        forward: `forward(*tensors, scale, reverse, save_states)`, returns the output and the states.
        backward: `backward(grad, states, *tensors, scale, reverse)`, returns the list of the gradients of those tensors
            that are not None, in order.
        states_shape: `states_shape(x, A, num_directions)`, the shape of the saved float32 states.
    """
    name = f"scan_{suffix}"
    library.define(f"{name}({_SCAN_TENSORS}, {_SCAN_SETTINGS}, bool save_states) -> (Tensor, Tensor)")
    library.define(f"{name}_backward(Tensor grad, Tensor states, {_SCAN_TENSORS}, {_SCAN_SETTINGS}) -> Tensor[]")
    library.impl(name, forward, dispatch_key)
    library.impl(f"{name}_backward", backward, dispatch_key)
    operator = getattr(getattr(torch.ops, NAMESPACE), name).default
    backward_operator = getattr(getattr(torch.ops, NAMESPACE), f"{name}_backward").default

    def fake(*arguments):
        x, A, x2 = arguments[0], arguments[4], arguments[TENSORS_PER_DIRECTION]
        save_states = arguments[-1]
        shape = states_shape(x, A, 1 if x2 is None else 2) if save_states else (0,)
        states_dtype = torch.promote_types(x.dtype, torch.float32)
        return x.new_empty(x.shape), x.new_empty(shape, dtype=states_dtype)

    def fake_backward(grad, states, *arguments):
        return [tensor.new_empty(tensor.shape) for tensor in arguments[:NUM_SCAN_TENSORS] if tensor is not None]

    def setup_context(ctx, inputs, output):
        *tensors, ctx.scale, ctx.reverse, ctx.saved_states = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(output[1], *tensors)

    def backward_formula(ctx, grad, _):
        if grad is None:
            return (None,) * (NUM_SCAN_TENSORS + 3)
        states, *tensors = ctx.saved_tensors
        if not ctx.saved_states:
            states = operator(*tensors, ctx.scale, ctx.reverse, True)[1]
        gradients = iter(backward_operator(grad, states, *tensors, ctx.scale, ctx.reverse))
        return (*(None if tensor is None else next(gradients) for tensor in tensors), None, None, None)

    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=library)
    torch.library.register_fake(f"{NAMESPACE}::{name}_backward", fake_backward, lib=library)
    torch.library.register_autograd(f"{NAMESPACE}::{name}", backward_formula, setup_context=setup_context, lib=library)
    forbid_double_backward(f"{name}_backward")
    return operator


def register_convolution(suffix: str, dispatch_key: str, forward: Callable, backward: Callable) -> Callable:
    """Registers `convolution_{suffix}` and `convolution_{suffix}_backward` and returns the former.

    The operator takes hidden states (batch, length, channels) and `convolution_parameters`, of the causal direction first,
    and returns both directions' results.

    Args:
        suffix, dispatch_key: as in `register_scan`.
        forward: `forward(x, *parameters)`, returns both results.
        backward: `backward(grad, grad2, x, *parameters)`, returns the gradients of x and the parameters.
    """
    name = f"convolution_{suffix}"
    inputs = "Tensor x, Tensor weight, Tensor bias, Tensor weight2, Tensor bias2"
    library.define(f"{name}({inputs}) -> (Tensor, Tensor)")
    library.define(f"{name}_backward(Tensor grad, Tensor grad2, {inputs}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)")
    library.impl(name, forward, dispatch_key)
    library.impl(f"{name}_backward", backward, dispatch_key)
    operators = getattr(torch.ops, NAMESPACE)
    operator = getattr(operators, name).default
    backward_operator = getattr(operators, f"{name}_backward").default

    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    def backward_formula(ctx, grad, grad2):
        return backward_operator(grad, grad2, *ctx.saved_tensors)

    def fake(x, *parameters):
        return x.new_empty(x.shape), x.new_empty(x.shape)

    def fake_backward(grad, grad2, *tensors):
        return tuple(tensor.new_empty(tensor.shape) for tensor in tensors)

    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=library)
    torch.library.register_fake(f"{NAMESPACE}::{name}_backward", fake_backward, lib=library)
    torch.library.register_autograd(f"{NAMESPACE}::{name}", backward_formula, setup_context=setup_context, lib=library)
    forbid_double_backward(f"{name}_backward")
    return operator


def convolution_parameters(weight: Tensor, bias: Tensor | None, weight2: Tensor, bias2: Tensor | None) -> list[Tensor]:
    """Both directions' weights (channels, kernel) and biases (channels,) as the operators take them: float32, no None."""
    parameters = []
    for value, own_bias in ((weight, bias), (weight2, bias2)):
        value = value.to(torch.float32)
        parameters += [value, value.new_zeros(value.shape[0]) if own_bias is None else own_bias.to(torch.float32)]
    return parameters


def forbid_double_backward(name: str) -> None:
    """Makes differentiating the backward operator `name` an error instead of silently cutting the graph."""

    def refuse(ctx, *grads):
        raise NotImplementedError(f"{NAMESPACE}::{name} has no derivative: the scans support first derivatives only.")

    torch.library.register_autograd(f"{NAMESPACE}::{name}", refuse, lib=library)
