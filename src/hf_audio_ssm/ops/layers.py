# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Whole layers, from the norm to the residual stream, each by one call of the native kernel."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from .backends import Layers, select_backend
from .cpu import Layer
from .exact import CONVOLUTION, LAYER, LINEAR, NORM, Inspection, Kind
from .linear import is_eager_inference
from .memory import Buffers, current_buffers, empty
from .mixing import split_clips


# Clips are processed in groups whose convolved states have about this size: each kernel finds in the cache what the last wrote.
CLIPS_BYTES = 2 << 20


def bidirectional_layer(
    layer: nn.Module,
    hidden_states: Tensor,
    residual: Tensor,
    clip_shapes: Sequence[tuple[int, int]] | None = None,
) -> Tensor | None:
    """`residual + output_scale * mixer(norm(hidden_states))` by the native kernel, matrix products included.

    Args:
        layer: has `norm` (with the weight, bias and eps of a layer norm), `mixer` (as in `bidirectional_mixer`, which is what
            calling it does), `output_scale` and `reverse` (as in `bidirectional_mixing`).
        hidden_states: (batch, length, hidden size), length at least 1.
        residual: as hidden_states.
        clip_shapes: as in `bidirectional_mixing`.

    Returns:
        (batch, length, hidden size), or None where the modules have to be called: a gradient is wanted, a module is not
        exactly what the kernel computes, not everything is float32, or the processor has no fast kernel.

    Raises:
        ValueError: a shape of hidden_states or residual that does not fit, or clip_shapes that do not.
    """
    return _run_layers([layer], hidden_states, residual, False, clip_shapes)


def bidirectional_layers(
    layers: Iterable[nn.Module],
    hidden_states: Tensor,
    paired: bool,
    clip_shapes: Sequence[tuple[int, int]] | None = None,
    idle_hooks: str | None = None,
) -> Tensor | None:
    """`bidirectional_layer` one after the other.

    Args:
        layers: as in `bidirectional_layer`.
        hidden_states: (batch, length, hidden size), length at least 1.
        paired: the layers are an even number, and the second one of each pair reads what the first one reads, and adds to
            what the first one returns.
        clip_shapes: as in `bidirectional_mixing`.
        idle_hooks: ignored. Code saved with checkpoints of version 0.1 passes it; hooks that do nothing now are found here.

    Returns:
        As `bidirectional_layer`; None also where a layer itself has hooks or a replaced `forward`.

    Raises:
        ValueError: as `bidirectional_layer`.
    """
    inspection = Inspection()
    if not all(inspection.is_exact(layer, LAYER) for layer in layers):
        return None
    return _run_layers(layers, hidden_states, hidden_states, paired, clip_shapes)


def _run_layers(
    layers: Sequence[nn.Module],
    hidden_states: Tensor,
    residual: Tensor,
    paired: bool,
    clip_shapes: Sequence[tuple[int, int]] | None,
) -> Tensor | None:
    if not is_eager_inference(hidden_states) or not hidden_states.dtype == residual.dtype == torch.float32:
        return None
    kernels = select_backend(hidden_states.device.type, torch.float32).layers
    if kernels is None or not kernels.pay():
        return None
    # Prepare all calls before the first one runs: a call evicts the interpreter from the processor's cache.
    parameters, inspection = [], Inspection()
    for layer in layers:
        read = _read_layer(layer, kernels, inspection)
        if read is None:
            return None
        parameters.append(read)
    if not parameters:
        return None
    hidden_size = len(parameters[0].norm[0])
    if hidden_states.dim() != 3 or hidden_states.shape[1] == 0 or hidden_states.shape[2] != hidden_size:
        raise ValueError(
            f"hidden_states has shape {tuple(hidden_states.shape)}: expected (batch, length, {hidden_size}), length at "
            "least 1."
        )
    if residual.shape != hidden_states.shape:
        raise ValueError(
            f"residual has shape {tuple(residual.shape)}: expected {tuple(hidden_states.shape)}, as hidden_states."
        )
    hidden_states, residual = hidden_states.contiguous(), residual.contiguous()
    output, buffers = empty(hidden_states.shape, torch.float32), current_buffers()
    for group in zip(*(split_clips(tensor, clip_shapes) for tensor in (hidden_states, residual, output)), strict=True):
        clips = max(1, CLIPS_BYTES // (4 * group[0].shape[1] * parameters[0].channels))
        for chunk in zip(*(tensor.split(clips) for tensor in group), strict=True):
            for call in _make_calls(parameters, *chunk, paired, buffers):
                kernels.run(call)
    return output


def _make_calls(
    layers: list[Layer],
    hidden_states: Tensor,
    residual: Tensor,
    output: Tensor,
    paired: bool,
    buffers: Buffers,
) -> list[bytes]:
    """The calls of all layers for a few clips, contiguous (batch, length, hidden size)."""
    shape = hidden_states.shape
    streams = [buffers.take(f"stream {index}", shape, torch.float32) for index in range(2)]
    calls = []
    for index, layer in enumerate(layers):
        # A sum may overwrite a stream that is not read any more.
        target = streams[index // 2 % 2 if paired else 0] if index < len(layers) - 1 else output
        memory = [
            [
                buffers.take(f"{name} {direction}", (*shape[:2], features), torch.float32)
                for name, features in (("convolved", layer.channels), ("x_proj", width))
            ]
            for direction, width in enumerate(layer.widths)
        ]
        calls.append(layer.call(target, hidden_states, residual, memory))
        residual = target
        if not paired or index % 2 == 1:
            hidden_states = target
    return calls


def _read_layer(layer: nn.Module, kernels: Layers, inspection: Inspection) -> Layer | None:
    """What the kernel needs of a layer; None: its modules have to be called."""
    norm = layer._modules.get("norm")
    if not inspection.has_exact_mixer(layer) or type(norm).__module__ != type(layer).__module__:
        return None

    def read(module: nn.Module | None, kind: Kind = LINEAR) -> tuple[Tensor, Tensor | None] | None:
        if not inspection.is_exact(module, kind):
            return None
        return module._parameters["weight"], module._parameters["bias"]

    mixer = layer._modules["mixer"]._modules
    ssms = [mixer["forward_ssm"], mixer["backward_ssm"]]
    parts = [ssm._modules for ssm in ssms]
    x_projs = [read(own.get("x_proj")) for own in parts]
    linears = [read(mixer.get("in_proj")), *x_projs, read(mixer.get("out_proj"))]
    convolutions = [read(own.get("conv1d"), CONVOLUTION) for own in parts]
    time_steps = [read(own.get("dt_proj")) for own in parts]
    modules = [read(norm, NORM), *linears, *convolutions, *time_steps]
    if None in modules or any(bias is None for _, bias in time_steps):
        return None
    modules += [(ssm._parameters["A_log"], ssm._parameters["D"]) for ssm in ssms]
    tensors = [tensor for module in modules for tensor in module if tensor is not None]
    if not all(tensor.is_cpu and tensor.dtype == torch.float32 for tensor in tensors) or not _fit(modules):
        return None
    if norm.normalized_shape != modules[0][0].shape:
        return None
    states = [(-torch.exp(A_log), D) for A_log, D in modules[-2:]]
    return kernels.layer(
        modules[0], norm.eps, linears, convolutions, time_steps, states, layer.output_scale, layer.reverse
    )


def _fit(modules: list[tuple[Tensor, Tensor | None]]) -> bool:
    """Whether the shapes are those of one layer: the kernel reads memory by them without checks."""
    weights = [tuple(weight.shape) for weight, _ in modules]
    (hidden_size,), (channels, state_size), rank, kernel = weights[0], weights[-1], weights[-3][1], weights[5][-1]
    x_proj, convolution, time_step = (rank + 2 * state_size, channels), (channels, 1, kernel), (channels, rank)
    linears = [(2 * channels, hidden_size), x_proj, x_proj, (hidden_size, channels)]
    directions = [convolution, convolution, time_step, time_step, (channels, state_size), (channels, state_size)]
    return weights == [(hidden_size,), *linears, *directions] and all(
        other is None or other.shape == weight.shape[:1] for weight, other in modules
    )
