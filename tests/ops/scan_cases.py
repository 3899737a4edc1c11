# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What the tests of the operators share: the definition in float64, inputs, and every implementation by name."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn

from hf_audio_ssm.models.ssamba.modeling_ssamba import selective_scan as scan_token_by_token
from hf_audio_ssm.ops import cpu


NATIVE = tuple(f"cpu-{isa}" for isa in cpu.available_isas()) if cpu.is_available() else ()
IMPLEMENTATIONS = ("reference", *NATIVE)


@contextmanager
def implementation(name: str) -> Iterator[str]:
    """Makes the native kernels use the instruction set that the name ends with; gives the backend's name."""
    backend, _, isa = name.partition("-")
    before = cpu._isa
    if isa:
        cpu._isa = cpu._ISAS.index(isa)
    try:
        yield backend
    finally:
        cpu._isa = before


def make_inputs(
    batch_size: int = 2,
    length: int = 70,
    channels: int = 19,
    state_size: int = 16,
    optional: bool = True,
    seed: int = 0,
) -> dict[str, torch.Tensor]:
    """Arguments of `selective_scan`, float32."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    inputs = {
        "hidden_states": normal(batch_size, length, channels),
        "time_step": normal(batch_size, length, channels) - 2,
        "A": -torch.exp(normal(channels, state_size)),
        "B": normal(batch_size, length, state_size),
        "C": normal(batch_size, length, state_size),
    }
    if optional:
        inputs["D"] = normal(channels)
        inputs["gate"] = normal(batch_size, length, channels)
        inputs["time_step_bias"] = normal(channels)
    return inputs


def define_scan(hidden_states, time_step, A, B, C, D=None, gate=None, time_step_bias=None, reverse=False):
    """What `selective_scan` computes, by the definition, in float64."""
    hidden_states, time_step, A, B, C = (tensor.double() for tensor in (hidden_states, time_step, A, B, C))
    if time_step_bias is not None:
        time_step = time_step + time_step_bias.double()
    D = torch.zeros_like(A[:, 0]) if D is None else D.double()
    output = scan_token_by_token(hidden_states, F.softplus(time_step), A, B, C, D, reverse=reverse)
    return output if gate is None else output * F.silu(gate.double())


def gradients_of(function, inputs: dict[str, torch.Tensor], **arguments):
    """The function's result, and the gradients of a fixed weighted sum of it with respect to every input."""
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in inputs.items()}
    output = function(**leaves, **arguments)
    weight = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).reshape(output.shape).cos()
    gradients = torch.autograd.grad((output.double() * weight).sum(), list(leaves.values()))
    return output.detach(), dict(zip(leaves, gradients, strict=True))


def relative_error(value: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest deviation, of the largest expected value."""
    difference = (value.double() - expected.double()).abs().max()
    return (difference / expected.double().abs().max().clamp_min(1e-30)).item()


class SelectiveSSM(nn.Module):
    """The modules that `bidirectional_mixing` reads."""

    def __init__(self, channels, state_size=16, rank=3, kernel_size=4, conv_bias=True, padded=False):
        super().__init__()
        self.kernel_size, self.is_padded = kernel_size, padded
        padding = kernel_size - 1 if padded else 0
        self.conv1d = nn.Conv1d(channels, channels, kernel_size, groups=channels, bias=conv_bias, padding=padding)
        self.x_proj = nn.Linear(channels, rank + 2 * state_size, bias=False)
        self.dt_proj = nn.Linear(rank, channels)
        self.A_log = nn.Parameter(torch.randn(channels, state_size))
        self.D = nn.Parameter(torch.randn(channels))


def define_mixing(projected_states, forward_ssm, backward_ssm, reverse=False):
    """What `bidirectional_mixing` computes, with flips, by the definition."""
    hidden_states, gate = projected_states.chunk(2, dim=-1)
    total = 0
    for ssm, runs_backward in ((forward_ssm, reverse), (backward_ssm, not reverse)):
        states = hidden_states.flip(1) if runs_backward else hidden_states
        padded = F.pad(states.transpose(1, 2), (0 if ssm.is_padded else ssm.kernel_size - 1, 0))
        states = F.silu(ssm.conv1d(padded)[..., : hidden_states.shape[1]].transpose(1, 2))
        projected = ssm.x_proj(states)
        state_size = ssm.A_log.shape[1]
        time_step, B, C = projected.split([projected.shape[-1] - 2 * state_size, state_size, state_size], dim=-1)
        A = -torch.exp(ssm.A_log)
        output = scan_token_by_token(states, F.softplus(ssm.dt_proj(time_step)), A, B, C, ssm.D)
        total = total + (output.flip(1) if runs_backward else output)
    return total * F.silu(gate) / 2
