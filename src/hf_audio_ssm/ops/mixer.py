# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The whole bidirectional mixer, projections included; without autograd, long audio runs in buffers shared by layers."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from .backends import InPlace, select_backend
from .linear import call_linear, is_eager_inference, is_plain, multiply
from .memory import block_rows, current_buffers, empty
from .mixing import bidirectional_mixing, bidirectional_mixing_pair, read_direction, split_clips
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

    Args:
        mixer: has the linear modules `in_proj` and `out_proj`, and `forward_ssm` and `backward_ssm` as in
            `bidirectional_mixing`.
        hidden_states: (batch, length, hidden size), the normalised tokens.
        reverse: as in `bidirectional_mixing`.
        clip_shapes: as in `bidirectional_mixing`.

    Returns:
        (batch, length, hidden size).

    Raises:
        ValueError: as `bidirectional_mixing`.
    """
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


def _in_place_kernels(mixer: nn.Module, hidden_states: Tensor) -> InPlace | None:
    """The backend's kernels that write into buffers; None: it has none, or the modules have to be called."""
    if not is_eager_inference(hidden_states):
        return None
    kernels = select_backend(hidden_states.device.type, hidden_states.dtype).in_place
    if kernels is None:
        return None
    modules = [(mixer.in_proj, nn.Linear), (mixer.out_proj, nn.Linear)]
    for ssm in (mixer.forward_ssm, mixer.backward_ssm):
        modules += [(ssm.conv1d, nn.Conv1d), (ssm.x_proj, nn.Linear), (ssm.dt_proj, nn.Linear)]
    return kernels if all(is_plain(module, kind) for module, kind in modules) else None


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
    directions = [read_direction(states, ssm) for states, ssm in zip(convolved, ssms, strict=True)]
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
