# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The public selective scan (Mamba, arXiv 2312.00752, algorithm 2)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .backends import Backend, select_backend
from .operators import Direction, ScanTensors, flatten


def selective_scan(
    hidden_states: Tensor,
    time_step: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    gate: Tensor | None = None,
    time_step_bias: Tensor | None = None,
    reverse: bool = False,
    backend: str | None = None,
) -> Tensor:
    """Selective scan with softplus of the time steps, skip connection and SiLU gate.

    With dt = softplus(time_step + time_step_bias), h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t and h = 0 before the first
    step, the output is (C_t . h_t + D x_t) * silu(gate_t). The state is float32 (float64 for float64 inputs).

    Args:
        hidden_states: x, (batch, length, channels).
        time_step: (batch, length, channels), before the softplus.
        A: (channels, state), negative real numbers, usually -exp(A_log).
        B: (batch, length, state).
        C: (batch, length, state).
        D: (channels,), weight of the skip connection; None: no skip connection.
        gate: (batch, length, channels), before the SiLU; None: no gate.
        time_step_bias: (channels,); None: no bias.
        reverse: run from the last token to the first.
        backend: one of `available_backends()`; None: the environment variable HF_AUDIO_SSM_BACKEND, then the fastest
            for the device and dtype.

    Returns:
        (batch, length, channels) in the dtype of hidden_states.

    Raises:
        ValueError: shapes or devices that do not fit together, a dtype that is not a floating point type, or a backend
            that is not available.
    """
    if hidden_states.dim() != 3 or 0 in hidden_states.shape[1:]:
        raise ValueError(
            f"hidden_states has shape {tuple(hidden_states.shape)}: expected (batch, length, channels), length and "
            "channels at least 1."
        )
    sequence = hidden_states.shape
    batch_size, length, channels = sequence
    if A.dim() != 2 or A.shape[0] != channels or A.shape[1] == 0:
        raise ValueError(f"A has shape {tuple(A.shape)}: expected (channels, state) with {channels} channels.")
    states, device = (batch_size, length, A.shape[1]), hidden_states.device
    for name, tensor, shape in (
        ("hidden_states", hidden_states, sequence),
        ("time_step", time_step, sequence),
        ("A", A, A.shape),
        ("B", B, states),
        ("C", C, states),
        ("D", D, (channels,)),
        ("gate", gate, sequence),
        ("time_step_bias", time_step_bias, (channels,)),
    ):
        if tensor is None:
            continue
        if tensor.shape != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}: expected {tuple(shape)}.")
        if not tensor.is_floating_point():
            raise ValueError(f"{name} has dtype {tensor.dtype}: expected a floating point dtype.")
        if tensor.device != device:
            raise ValueError(f"{name} is on {tensor.device}: expected {device}, as hidden_states.")
    parameters = torch.promote_types(hidden_states.dtype, torch.float32)
    zeros = None
    if D is None or time_step_bias is None:
        zeros = torch.zeros(channels, dtype=parameters, device=hidden_states.device)
    dt_bias = zeros if time_step_bias is None else time_step_bias
    direction = Direction(hidden_states, time_step, None, dt_bias, A, B, C, zeros if D is None else D)
    chosen = select_backend(hidden_states.device.type, hidden_states.dtype, backend, A.shape[1])
    return run_scan(LayerScan((direction,), gate, reverse), 1.0, chosen)


class LayerScan(NamedTuple):
    """What a layer's scan computes, its tensors of any dtypes.

    Args:
        directions: one or two, the first of which runs forward in time.
        gate: (batch, length, channels), before the SiLU; None: no gate.
        reverse: swap the time directions.
    """

    directions: Sequence[Direction]
    gate: Tensor | None
    reverse: bool


def run_scan(scan: LayerScan, scale: float, backend: Backend) -> Tensor:
    """A layer's scan by a backend, in the dtype of x."""
    tensors = scan_tensors(scan.directions, scan.gate)
    output, _ = backend.scan(tensors, scale, scan.reverse, saves_states(tensors))
    return output.to(scan.directions[0].x.dtype)


def saves_states(tensors: ScanTensors) -> bool:
    """Whether a backward pass may follow. A trace, whose weights may want gradients later, computes the states again."""
    return (
        torch.is_grad_enabled()
        and any(tensor is not None and tensor.requires_grad for tensor in flatten(tensors))
        and not torch.jit.is_tracing()
    )


def scan_tensors(directions: Sequence[Direction], gate: Tensor | None) -> ScanTensors:
    """Brings the tensors of one or two directions to the dtypes that backends take.

    Sequences get one common dtype, parameters float32 (or float64).
    """
    dtype = directions[0].x.dtype
    for x, dt, _, _, _, B, C, _ in directions:
        for tensor in (x, dt, B, C):
            if tensor.dtype != dtype:
                dtype = torch.promote_types(dtype, tensor.dtype)
    if gate is not None and gate.dtype != dtype:
        dtype = torch.promote_types(dtype, gate.dtype)
    parameter_dtype = torch.promote_types(dtype, torch.float32)
    dtypes = (dtype, dtype, *[parameter_dtype] * 3, dtype, dtype, parameter_dtype)
    cast = [
        Direction(
            *[
                tensor if tensor is None or tensor.dtype == wanted else tensor.to(wanted)
                for tensor, wanted in zip(direction, dtypes, strict=True)
            ]
        )
        for direction in directions
    ]
    return ScanTensors(cast[0], cast[1] if len(cast) == 2 else None, None if gate is None else gate.to(dtype))
