# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The whole bidirectional mixer, projections included; without autograd, long audio runs in buffers shared by layers."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .backends import InPlace, select_backend
from .exact import LINEAR, Inspection
from .linear import call_linear, is_eager_inference, multiply
from .memory import block_rows, current_buffers, empty
from .mixing import (
    bidirectional_mixing,
    bidirectional_mixing_pair,
    may_read_convolutions,
    read_directions,
    split_clips,
)
from .operators import ConvolutionArguments
from .scan import scan_tensors


# If the input projection's result has this size or more, layers share buffers: fresh memory costs a fault for each page, and
# shared memory may still be in the processor's cache.
LARGE_BYTES = 1 << 20
# Clips are processed in groups whose input projections have about this size.
CLIPS_BYTES = 2 << 20


def bidirectional_mixer(
    mixer: nn.Module,
    hidden_states: Tensor,
    reverse: bool = False,
    clip_shapes: Sequence[tuple[int, int]] | None = None,
) -> Tensor:
    """The input projection, `bidirectional_mixing` and the output projection.

    Where `forward_ssm`, `backward_ssm` or `act` are not exactly what `bidirectional_mixing` computes, they are called.

    Args:
        mixer: has the linear modules `in_proj` and `out_proj`, the activation `act` of the gate, and `forward_ssm` and
            `backward_ssm` as in `bidirectional_mixing`.
        hidden_states: (batch, length, hidden size), the normalised tokens.
        reverse: as in `bidirectional_mixing`.
        clip_shapes: as in `bidirectional_mixing`.

    Returns:
        (batch, length, hidden size).

    Raises:
        ValueError: as `bidirectional_mixing`.
    """
    if not Inspection().has_exact_directions(mixer):
        return _call_directions(mixer, hidden_states, reverse, clip_shapes)
    token_size = 2 * mixer.forward_ssm.A_log.shape[0] * hidden_states.element_size()
    # In this order: in an exporter, comparing sizes would become a condition on the batch.
    kernels = _in_place_kernels(mixer, hidden_states)
    if kernels is not None and math.prod(hidden_states.shape[:2]) * token_size >= LARGE_BYTES:
        outputs = empty(hidden_states.shape, hidden_states.dtype)
        groups = (split_clips(tensor, clip_shapes) for tensor in (hidden_states, outputs))
        for group, group_outputs in zip(*groups, strict=True):
            clips = max(1, CLIPS_BYTES // (group.shape[1] * token_size))
            for chunk, output in zip(group.split(clips), group_outputs.split(clips), strict=True):
                _mix_in_buffers(kernels, mixer, chunk, reverse, output)
        return outputs
    projected = call_linear(mixer.in_proj, hidden_states)
    mixed = bidirectional_mixing(projected, mixer.forward_ssm, mixer.backward_ssm, reverse, clip_shapes=clip_shapes)
    return call_linear(mixer.out_proj, mixed)


def bidirectional_mixer_pair(
    mixers: Sequence[nn.Module],
    hidden_states: Sequence[Tensor],
    clip_shapes: Sequence[tuple[int, int]] | None = None,
) -> list[Tensor]:
    """`bidirectional_mixer` of two layers, the second one with `reverse`, by `bidirectional_mixing_pair`.

    Args:
        mixers: as in `bidirectional_mixer`.
        hidden_states: of each layer, as in `bidirectional_mixer`.
        clip_shapes: as in `bidirectional_mixing`.

    Returns:
        Each layer's result, (batch, length, hidden size).

    Raises:
        ValueError: as `bidirectional_mixing`.
    """
    projected = [call_linear(mixer.in_proj, states) for mixer, states in zip(mixers, hidden_states, strict=True)]
    ssms = [(mixer.forward_ssm, mixer.backward_ssm) for mixer in mixers]
    mixed = bidirectional_mixing_pair(projected, ssms, clip_shapes=clip_shapes)
    return [call_linear(mixer.out_proj, states) for mixer, states in zip(mixers, mixed, strict=True)]


def _call_directions(
    mixer: nn.Module, hidden_states: Tensor, reverse: bool, clip_shapes: Sequence[tuple[int, int]] | None
) -> Tensor:
    """What a mixer defines, by its modules."""
    states, gate = mixer.in_proj(hidden_states).chunk(2, dim=-1)
    mixed = []
    for group in split_clips(states, clip_shapes):
        mixed.append(mixer.forward_ssm(group, reverse=reverse) + mixer.backward_ssm(group, reverse=not reverse))
    if clip_shapes is None:
        (states,) = mixed
    else:
        states = torch.cat([group.flatten(0, 1) for group in mixed]).unsqueeze(0)
    return mixer.out_proj(states * mixer.act(gate) / 2)


def _in_place_kernels(mixer: nn.Module, hidden_states: Tensor) -> InPlace | None:
    """The backend's kernels that write into buffers; None: it has none, or the modules have to be called."""
    if not is_eager_inference(hidden_states):
        return None
    kernels = select_backend(hidden_states.device.type, hidden_states.dtype).in_place
    if kernels is None:
        return None
    linears, ssms = (mixer.in_proj, mixer.out_proj), (mixer.forward_ssm, mixer.backward_ssm)
    inspection = Inspection()
    # Nor may a module be given a buffer that a hook might keep.
    called = [*linears, *(module for ssm in ssms for module in (ssm.x_proj, ssm.dt_proj))]
    if not all(inspection.is_exact(linear, LINEAR, hidden_states) for linear in called):
        return None
    channels, hidden_size = ssms[0].A_log.shape[0], hidden_states.shape[-1]
    if [tuple(linear.weight.shape) for linear in linears] != [(2 * channels, hidden_size), (hidden_size, channels)]:
        return None
    states = hidden_states.new_empty(0, channels)
    return kernels if may_read_convolutions(ssms, states) else None


def _mix_in_buffers(kernels: InPlace, mixer: nn.Module, hidden_states: Tensor, reverse: bool, output: Tensor) -> None:
    """Mixes a few clips, contiguous (batch, length, hidden size). A buffer is reused once its content is not needed any more."""
    buffers = current_buffers()
    ssms = (mixer.forward_ssm, mixer.backward_ssm)
    channels = ssms[0].A_log.shape[0]
    shape, dtype = (*hidden_states.shape[:2], channels), hidden_states.dtype
    weights, bias = mixer.in_proj.weight.split(channels), mixer.in_proj.bias
    biases = (None, None) if bias is None else bias.split(channels)

    states = buffers.take("projected", shape, dtype)
    _multiply_into(states, hidden_states, weights[0], biases[0])
    convolved = [buffers.take(name, shape, dtype) for name in ("forward", "backward")]
    parameters = [value for ssm in ssms for value in (ssm.conv1d.weight.squeeze(1), ssm.conv1d.bias)]
    kernels.convolution(convolved, ConvolutionArguments(states, *parameters, reverse))
    directions = read_directions(convolved, ssms)
    # The gate takes the place of the convolutions' input, and the scans' result that of the gate.
    gate = buffers.take("projected", shape, dtype)
    _multiply_into(gate, hidden_states, weights[1], biases[1])
    kernels.scan(gate, scan_tensors(directions, gate), 0.5, reverse)
    _multiply_into(output, gate, mixer.out_proj.weight, mixer.out_proj.bias)


def _multiply_into(output: Tensor, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    output, inputs = output.flatten(0, 1), inputs.flatten(0, 1)
    step = block_rows(output.shape[1], output.dtype)
    for start in range(0, inputs.shape[0], step):
        output[start : start + step] = multiply(inputs[start : start + step], weight, bias)
