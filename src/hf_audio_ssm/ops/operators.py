# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The scans and convolutions as `torch.library` operators, with fake kernels and autograd, and what they take, by names."""

from collections.abc import Callable, Sequence
from functools import wraps
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from .compat import is_batched_by_autograd


NAMESPACE = "hf_audio_ssm"
library = torch.library.Library(NAMESPACE, "DEF")


class Direction(NamedTuple):
    """The tensors of a scan in one direction of time.

    Args:
        x: (batch, length, channels), the hidden states.
        dt: the time steps before the softplus and without bias, (batch, length, channels), or (batch, length, rank) where
            `dt_weight` projects them.
        dt_weight: (channels, rank), the time steps' projection; None: `dt` has all channels.
        dt_bias: (channels,).
        A: (channels, state).
        B, C: (batch, length, state).
        D: (channels,).
    """

    x: Tensor
    dt: Tensor
    dt_weight: Tensor | None
    dt_bias: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor


class ScanTensors(NamedTuple):
    """The tensors of a layer's scan.

    Args:
        first: the direction that runs forward in time, backward with `reverse`.
        second: the other direction; None: there is only one.
        gate: (batch, length, channels), before the SiLU; None: no gate.
    """

    first: Direction
    second: Direction | None
    gate: Tensor | None


class ConvolutionArguments(NamedTuple):
    """What `reference.convolution` takes, which describes it."""

    hidden_states: Tensor
    weight: Tensor
    bias: Tensor | None
    weight2: Tensor
    bias2: Tensor | None
    reverse: bool


TENSORS_PER_DIRECTION = len(Direction._fields)
_NO_DIRECTION = (None,) * TENSORS_PER_DIRECTION
# A layer's two directions and its gate.
NUM_SCAN_TENSORS = 2 * TENSORS_PER_DIRECTION + 1
# A layer's hidden states, and weight and bias of both directions.
NUM_CONVOLUTION_TENSORS = 5
# The fields of `Direction`.
_DIRECTION_SCHEMA = (
    "Tensor{q} x{i}, Tensor{q} dt{i}, Tensor? dt_weight{i}, Tensor{q} dt_bias{i}, "
    "Tensor{q} A{i}, Tensor{q} B{i}, Tensor{q} C{i}, Tensor{q} D{i}"
)
_SCAN_SETTINGS = "float scale, bool reverse"


def flatten(tensors: ScanTensors) -> tuple[Tensor | None, ...]:
    """The 17 tensors as an operator takes them."""
    first, second, gate = tensors
    return *first, *(_NO_DIRECTION if second is None else second), gate


def unflatten(tensors: Sequence[Tensor | None]) -> ScanTensors:
    """The inverse of `flatten`."""
    second = None
    if tensors[TENSORS_PER_DIRECTION] is not None:
        second = Direction._make(tensors[TENSORS_PER_DIRECTION:-1])
    return ScanTensors(Direction._make(tensors[:TENSORS_PER_DIRECTION]), second, tensors[-1])


def _number(index: int) -> str:
    """What follows a name: nothing, 2, 3, ..."""
    return str(index + 1) if index else ""


def without_autocast(implementation: Callable) -> Callable:
    """
    The implementation in the dtypes of its tensors: autocast acts inside operators too, and would round states and gradients.
    """

    @wraps(implementation)
    def run(*arguments):
        device_type = arguments[0].device.type
        if not torch.is_autocast_enabled(device_type):
            return implementation(*arguments)
        with torch.autocast(device_type, enabled=False):
            return implementation(*arguments)

    return run


def register_scan(
    suffix: str, dispatch_key: str, forward: Callable, backward: Callable, states_shape: Callable, num_layers: int = 1
) -> Callable:
    """Registers `scan_{suffix}` and `scan_{suffix}_backward` and returns a function that calls the former.

    The operator takes, for each layer, the 17 tensors of `flatten`, then `scale`, `reverse` and `save_states`; it returns each
    layer's output (batch, length, channels) in the dtype of x, and the states that the backward pass starts from (empty
    unless `save_states`). The function returned takes `ScanTensors` in the place of each 17 tensors.

    Args:
        suffix: the operators' name in the namespace.
        dispatch_key: which device's tensors the implementation takes.
        forward: `forward(*tensors, scale, reverse, save_states)`, returns the outputs and the states.
        backward: `backward(*grads, states, *tensors, scale, reverse)`, returns the list of the gradients of those tensors
            that are not None, in order.
        states_shape: `states_shape(x, A, num_directions)`, the shape of the saved float32 states of all directions.
        num_layers: layers of a call, which have the same shapes and dtypes.
    """
    name = f"scan_{suffix}"
    layers = [
        f"{_DIRECTION_SCHEMA.format(q='', i=_number(2 * layer))}, "
        f"{_DIRECTION_SCHEMA.format(q='?', i=_number(2 * layer + 1))}, Tensor? gate{_number(layer)}"
        for layer in range(num_layers)
    ]
    inputs = f"{', '.join(layers)}, {_SCAN_SETTINGS}"
    grads = ", ".join(f"Tensor grad{_number(layer)}" for layer in range(num_layers))
    library.define(f"{name}({inputs}, bool save_states) -> ({'Tensor, ' * num_layers}Tensor)")
    library.define(f"{name}_backward({grads}, Tensor states, {inputs}) -> Tensor[]")
    library.impl(name, without_autocast(forward), dispatch_key)
    library.impl(f"{name}_backward", without_autocast(backward), dispatch_key)
    operator = getattr(getattr(torch.ops, NAMESPACE), name).default
    backward_operator = getattr(getattr(torch.ops, NAMESPACE), f"{name}_backward").default

    def call(*arguments):
        if num_layers == 1:  # Spares the usual call the time that iterators take.
            tensors, scale, reverse, save_states = arguments
            return operator(*flatten(tensors), scale, reverse, save_states)
        return operator(*chain.from_iterable(map(flatten, arguments[:num_layers])), *arguments[num_layers:])

    def fake(*arguments):
        *tensors, _, _, save_states = arguments
        layers = [
            unflatten(tensors[start : start + NUM_SCAN_TENSORS]) for start in range(0, len(tensors), NUM_SCAN_TENSORS)
        ]
        num_directions = sum(1 if layer.second is None else 2 for layer in layers)
        x, A = layers[0].first.x, layers[0].first.A
        shape = states_shape(x, A, num_directions) if save_states else (0,)
        states_dtype = torch.promote_types(x.dtype, torch.float32)
        return *(x.new_empty(x.shape) for _ in range(num_layers)), x.new_empty(shape, dtype=states_dtype)

    def fake_backward(*arguments):
        tensors = arguments[num_layers + 1 : -2]
        return [tensor.new_empty(tensor.shape) for tensor in tensors if tensor is not None]

    def setup_context(ctx, inputs, output):
        *tensors, ctx.scale, ctx.reverse, ctx.saved_states = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(output[-1], *tensors)

    def backward_formula(ctx, *grads):
        *grads, _ = grads
        if all(grad is None for grad in grads):
            return (None,) * (num_layers * NUM_SCAN_TENSORS + 3)
        states, *tensors = ctx.saved_tensors
        if any(grad is not None and is_batched_by_autograd(grad) for grad in grads):
            raise NotImplementedError(
                "The scans take no gradients in batches (`is_grads_batched=True`, `vectorize=True`): use `torch.func.jacrev` or "
                "`torch.func.vmap`."
            )
        # An output that is not used has no gradient.
        grads = [torch.zeros_like(tensors[0]) if grad is None else grad for grad in grads]
        if not ctx.saved_states:
            states = operator(*tensors, ctx.scale, ctx.reverse, True)[-1]
        gradients = iter(backward_operator(*grads, states, *tensors, ctx.scale, ctx.reverse))
        return (*(None if tensor is None else next(gradients) for tensor in tensors), None, None, None)

    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=library)
    torch.library.register_fake(f"{NAMESPACE}::{name}_backward", fake_backward, lib=library)
    torch.library.register_autograd(f"{NAMESPACE}::{name}", backward_formula, setup_context=setup_context, lib=library)
    torch.library.register_vmap(f"{NAMESPACE}::{name}_backward", run_one_by_one(backward_operator), lib=library)
    forbid_double_backward(f"{name}_backward")
    return call


def register_convolution(
    suffix: str, dispatch_key: str, forward: Callable, backward: Callable, num_layers: int = 1
) -> Callable:
    """Registers `convolution_{suffix}` and `convolution_{suffix}_backward` and returns the former.

    The operator takes, for each layer, hidden states (batch, length, channels) and `convolution_parameters`, of the causal
    direction first, and returns both directions' results.

    Args:
        suffix, dispatch_key: as in `register_scan`.
        forward: `forward(*tensors)`, returns all results.
        backward: `backward(*grads, *tensors)`, returns the gradients of the tensors.
        num_layers: as in `register_scan`.
    """
    name = f"convolution_{suffix}"
    layers = [
        f"Tensor x{_number(layer)}, Tensor weight{first}, Tensor bias{first}, Tensor weight{second}, Tensor bias{second}"
        for layer in range(num_layers)
        for first, second in [(_number(2 * layer), _number(2 * layer + 1))]
    ]
    inputs = ", ".join(layers)
    grads = ", ".join(f"Tensor grad{_number(direction)}" for direction in range(2 * num_layers))
    library.define(f"{name}({inputs}) -> ({', '.join(['Tensor'] * (2 * num_layers))})")
    library.define(
        f"{name}_backward({grads}, {inputs}) -> ({', '.join(['Tensor'] * (NUM_CONVOLUTION_TENSORS * num_layers))})"
    )
    library.impl(name, without_autocast(forward), dispatch_key)
    library.impl(f"{name}_backward", without_autocast(backward), dispatch_key)
    operators = getattr(torch.ops, NAMESPACE)
    operator = getattr(operators, name).default
    backward_operator = getattr(operators, f"{name}_backward").default

    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    def backward_formula(ctx, *grads):
        return backward_operator(*grads, *ctx.saved_tensors)

    def fake(x, *rest):
        return tuple(x.new_empty(x.shape) for _ in range(2 * num_layers))

    def fake_backward(*arguments):
        return tuple(tensor.new_empty(tensor.shape) for tensor in arguments[2 * num_layers :])

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


def convolve_layers(operator: Callable, layers: Sequence[ConvolutionArguments]) -> list[tuple[Tensor, Tensor]]:
    """What `reference.convolution` gives for the arguments of each layer, by an operator of `register_convolution`."""
    tensors = []
    for layer in layers:
        parameters = convolution_parameters(layer.weight, layer.bias, layer.weight2, layer.bias2)
        tensors += [layer.hidden_states, *(parameters[2:] + parameters[:2] if layer.reverse else parameters)]
    outputs = operator(*tensors)
    pairs = zip(outputs[::2], outputs[1::2], layers, strict=True)
    return [(second, first) if layer.reverse else (first, second) for first, second, layer in pairs]


def run_one_by_one(operator: Callable) -> Callable:
    """A rule of vmap for an operator that returns a list of tensors, for which torch has none: of gradients in batches."""

    def run(info, in_dims, *arguments):
        results = [
            operator(
                *(
                    value if dim is None else value.select(dim, index)
                    for value, dim in zip(arguments, in_dims, strict=True)
                )
            )
            for index in range(info.batch_size)
        ]
        stacked = [torch.stack(values) for values in zip(*results, strict=True)]
        return stacked, [0] * len(stacked)

    return run


def forbid_double_backward(name: str) -> None:
    """Makes it an error to differentiate the backward operator `name`: the graph would end there without a word."""

    def refuse(ctx, *grads):
        raise NotImplementedError(f"{NAMESPACE}::{name} has no derivative: the scans support first derivatives only.")

    torch.library.register_autograd(f"{NAMESPACE}::{name}", refuse, lib=library)
