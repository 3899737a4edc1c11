# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The time-mixing part of the bidirectional Mamba block of Vision Mamba (arXiv 2401.09417), both directions at once."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .backends import Backend, select_backend
from .exact import CONVOLUTION, LINEAR, Inspection
from .linear import call_linear
from .operators import ConvolutionArguments, Direction
from .pairs import run_convolutions, run_scans
from .scan import LayerScan


def bidirectional_mixing(
    projected_states: Tensor,
    forward_ssm: nn.Module,
    backward_ssm: nn.Module,
    reverse: bool = False,
    backend: str | None = None,
    clip_shapes: Sequence[tuple[int, int]] | None = None,
) -> Tensor:
    """Convolutions and scans of both directions, between the block's input and output projections.

    With x, z = the two halves of projected_states, each direction computes u = silu(conv1d(x)), dt, B, C =
    split(x_proj(u)) and the selective scan of u with softplus(dt_proj(dt)), A = -exp(A_log), B, C and D; the result is
    (y_forward + y_backward) * silu(z) / 2. The forward direction is causal in time, the backward direction anti-causal:
    what flipping its input and output would give. Nothing is flipped.

    x_proj is always called. conv1d and dt_proj are fused if they are exactly `nn.Conv1d` and `nn.Linear` with ordinary
    parameters, without hooks, adapters or replaced methods. Otherwise they are called, so that adapters act and get their
    gradients.

    Args:
        projected_states: (batch, length, 2 * channels), the input projection's output.
        forward_ssm, backward_ssm: modules with `conv1d` (depthwise, weight (channels, 1, kernel)), `x_proj` (channels to
            time step rank + 2 * state), `dt_proj` (time step rank to channels), `A_log` (channels, state), `D` (channels,).
        reverse: swap the time directions of both modules: forward_ssm runs from the last token to the first.
        backend: as in `selective_scan`.
        clip_shapes: clips, and tokens of each, of groups of clips that lie one after the other in projected_states,
            which then has batch 1; no clip sees another. None: every clip has the whole length.

    Returns:
        (batch, length, channels) in the dtype of projected_states.

    Raises:
        ValueError: a shape of projected_states that does not fit the modules or clip_shapes, or a backend that is not
            available.
    """
    layer = _Layer((forward_ssm, backward_ssm), reverse)
    return _mix_clips([projected_states], [layer], backend, clip_shapes)[0]


def bidirectional_mixing_pair(
    projected_states: Sequence[Tensor],
    ssms: Sequence[tuple[nn.Module, nn.Module]],
    backend: str | None = None,
    clip_shapes: Sequence[tuple[int, int]] | None = None,
) -> list[Tensor]:
    """`bidirectional_mixing` of two layers, the second one with `reverse`; each kernel runs once for both where it can.

    Args:
        projected_states: of each layer, as in `bidirectional_mixing`.
        ssms: forward_ssm and backward_ssm of each layer.
        backend: as in `selective_scan`.
        clip_shapes: as in `bidirectional_mixing`.

    Returns:
        Each layer's result.

    Raises:
        ValueError: as `bidirectional_mixing`.
    """
    layers = [_Layer(own, reverse) for own, reverse in zip(ssms, (False, True), strict=True)]
    return _mix_clips(projected_states, layers, backend, clip_shapes)


class _Layer(NamedTuple):
    """The modules of both directions, and whether their time directions are swapped."""

    ssms: tuple[nn.Module, nn.Module]
    reverse: bool


def _mix_clips(
    projected_states: Sequence[Tensor],
    layers: Sequence[_Layer],
    backend: str | None,
    clip_shapes: Sequence[tuple[int, int]] | None,
) -> list[Tensor]:
    for states, layer in zip(projected_states, layers, strict=True):
        channels, state_size = layer.ssms[0].A_log.shape
        if states.dim() != 3 or states.shape[1] == 0 or states.shape[2] != 2 * channels:
            raise ValueError(
                f"projected_states has shape {tuple(states.shape)}: expected (batch, length, {2 * channels}), "
                "length at least 1."
            )
    chosen = select_backend(states.device.type, states.dtype, backend, state_size)
    groups = zip(*(split_clips(states, clip_shapes) for states in projected_states), strict=True)
    mixed = [_mix(group, layers, chosen) for group in groups]
    if clip_shapes is None:
        return mixed[0]
    return [torch.cat([group.flatten(0, 1) for group in own]).unsqueeze(0) for own in zip(*mixed, strict=True)]


def split_clips(states: Tensor, clip_shapes: Sequence[tuple[int, int]] | None) -> list[Tensor]:
    """The groups (clips, length, features) of packed clips (1, tokens, features), as views; `[states]` of unpacked ones."""
    if clip_shapes is None:
        return [states]
    if states.shape[:2] != (1, sum(clips * length for clips, length in clip_shapes)):
        raise ValueError(
            f"clip_shapes={tuple(clip_shapes)!r} does not fit states of shape {tuple(states.shape)}: expected batch 1, and "
            "as many tokens as all clips together."
        )
    groups = states.split([clips * length for clips, length in clip_shapes], dim=1)
    return [group.squeeze(0).unflatten(0, shape) for group, shape in zip(groups, clip_shapes, strict=True)]


def _mix(projected_states: Sequence[Tensor], layers: Sequence[_Layer], backend: Backend) -> list[Tensor]:
    halves = [states.chunk(2, dim=-1) for states in projected_states]
    scans = []
    for layer, convolved, (_, gate) in zip(layers, _convolve(halves, layers, backend), halves, strict=True):
        directions = read_directions(convolved, layer.ssms)
        scans.append(LayerScan(directions, gate, layer.reverse))
    return run_scans(scans, 0.5, backend)


def read_directions(convolved: Sequence[Tensor], ssms: Sequence[nn.Module]) -> list[Direction]:
    """What both directions' modules make of their convolved states (batch, length, channels) for the scan.

    Raises:
        ValueError: as `_read_direction`, and for directions whose shapes differ.
    """
    directions = [_read_direction(states, ssm) for states, ssm in zip(convolved, ssms, strict=True)]
    first, second = directions
    # Time steps that are projected already have one size.
    are_projected = first.dt_weight is None or second.dt_weight is None
    if first.A.shape != second.A.shape or not (are_projected or first.dt.shape[-1] == second.dt.shape[-1]):
        raise ValueError(
            f"A_log of the directions has the shapes {tuple(first.A.shape)} and {tuple(second.A.shape)}, and their time steps "
            f"the ranks {first.dt.shape[-1]} and {second.dt.shape[-1]}: expected the same of both."
        )
    return directions


def _read_direction(states: Tensor, ssm: nn.Module) -> Direction:
    """What a direction's module makes of its convolved states (batch, length, channels) for the scan.

    Raises:
        ValueError: what its modules return, or its parameters, do not fit: the kernels read memory by these shapes.
    """
    channels, state_size = states.shape[-1], ssm.A_log.shape[1]
    projected = call_linear(ssm.x_proj, states)
    time_step, B, C = projected.split([projected.shape[-1] - 2 * state_size, state_size, state_size], dim=-1)
    dt_proj = ssm.dt_proj
    if _may_read(dt_proj, time_step, channels):
        weight, bias = dt_proj.weight, dt_proj.bias
    else:
        time_step, weight, bias = dt_proj(time_step), None, torch.zeros_like(ssm.D)
        if time_step.shape != states.shape:
            raise ValueError(f"dt_proj returned shape {tuple(time_step.shape)}: expected {tuple(states.shape)}.")
    if ssm.A_log.shape[0] != channels or ssm.D.shape != (channels,):
        raise ValueError(
            f"A_log and D have the shapes {tuple(ssm.A_log.shape)} and {tuple(ssm.D.shape)}: expected ({channels}, state) and "
            f"({channels},)."
        )
    for name, parameter in (("A_log", ssm.A_log), ("D", ssm.D)):
        if parameter.device != states.device:
            raise ValueError(f"{name} is on {parameter.device}: expected {states.device}, as the hidden states.")
    A = -torch.exp(ssm.A_log.to(torch.promote_types(ssm.A_log.dtype, torch.float32)))
    return Direction(states, time_step, weight, bias, A, B, C, ssm.D)


def _may_read(dt_proj: nn.Module, time_step: Tensor, channels: int) -> bool:
    """Whether the scan may project the time steps itself."""
    return (
        Inspection().is_exact(dt_proj, LINEAR, time_step)
        and dt_proj.bias is not None
        and dt_proj.weight.shape == (channels, time_step.shape[-1])
    )


def may_read_convolutions(ssms: Sequence[nn.Module], states: Tensor) -> bool:
    """Whether one kernel may convolve states (batch, length, channels) with the parameters of all `conv1d`."""
    inspection = Inspection()
    if not all(inspection.is_exact(ssm.conv1d, CONVOLUTION, states) for ssm in ssms):
        return False
    shape, *others = (ssm.conv1d.weight.shape for ssm in ssms)
    return shape[:2] == (states.shape[-1], 1) and all(other == shape for other in others)


def _convolve(
    halves: Sequence[tuple[Tensor, Tensor]], layers: Sequence[_Layer], backend: Backend
) -> list[tuple[Tensor, Tensor]]:
    """Both directions' convolutions of each layer, in one call if all modules are exact."""
    states = [own for own, _ in halves]
    if all(may_read_convolutions(layer.ssms, own) for own, layer in zip(states, layers, strict=True)):
        return run_convolutions(list(map(_convolution_arguments, states, layers)), backend)
    if len(layers) > 1:
        return [_convolve([own], [layer], backend)[0] for own, layer in zip(halves, layers, strict=True)]
    (own,), (layer,) = states, layers
    ssms = zip(layer.ssms, (layer.reverse, not layer.reverse), strict=True)
    first, second = (_call_convolution(own, ssm, reverse) for ssm, reverse in ssms)
    return [(first, second)]


def _convolution_arguments(hidden_states: Tensor, layer: _Layer) -> ConvolutionArguments:
    first, second = (ssm.conv1d for ssm in layer.ssms)
    return ConvolutionArguments(
        hidden_states,
        first.weight.squeeze(1),
        first.bias,
        second.weight.squeeze(1),
        second.bias,
        layer.reverse,
    )


def _call_convolution(hidden_states: Tensor, ssm: nn.Module, reverse: bool) -> Tensor:
    """SiLU of a direction's causal convolution, whatever padding the module adds by itself."""
    length, conv1d = hidden_states.shape[1], ssm.conv1d
    # Modules in a convolution's place need not have its attributes, nor adapters its settings.
    kernel = conv1d.weight.shape[-1] if isinstance(getattr(conv1d, "weight", None), Tensor) else ssm.conv_kernel
    states = hidden_states.flip(1) if reverse else hidden_states
    states = conv1d(F.pad(states.transpose(1, 2), (kernel - 1, 0)))
    own_padding = (states.shape[-1] - length) // 2
    states = states[..., own_padding : own_padding + length].transpose(1, 2)
    states = F.silu(states.flip(1) if reverse else states)
    if states.shape != hidden_states.shape:
        raise ValueError(f"conv1d returned shape {tuple(states.shape)}: expected {tuple(hidden_states.shape)}.")
    return states.to(hidden_states.dtype)
