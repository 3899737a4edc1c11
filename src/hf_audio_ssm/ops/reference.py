# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
The scan and the convolution in plain PyTorch, for any device and floating point type.

The scan is an operator that runs token by token and keeps the states of one chunk in memory. Exporters get `define_scan`
instead, which consists of PyTorch's own operators: what they write runs where this package is not installed. So do the
transforms of `torch.func`, which know the rules of these operators.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from . import compat
from .operators import Direction, ScanTensors, flatten, register_scan, unflatten, without_autocast


CHUNK_SIZE = 64
# `define_scan` doubles the span that each state covers, level by level: first within blocks of 2 ** 5 tokens, then among
# blocks. A graph for any length has levels for 2 ** 20 tokens, which are hours of audio.
_BLOCK_LEVELS, _LEVELS = 5, 20


def supports(device_type: str | None, dtype: torch.dtype | None) -> bool:
    """Whether the reference runs there: it does wherever torch does."""
    return dtype is None or dtype.is_floating_point


def _directions(tensors: ScanTensors) -> list[Direction]:
    return [tensors.first] if tensors.second is None else [tensors.first, tensors.second]


def _stack(tensors: ScanTensors, reverse: bool, dtype: torch.dtype) -> list[Tensor]:
    """The directions' tensors with the directions stacked: sequences (length, directions, batch, features) in scan order."""

    def sequences(values: Sequence[Tensor]) -> Tensor:
        ordered = [
            value.flip(1) if runs_backward else value
            for value, runs_backward in zip(values, (reverse, not reverse), strict=False)
        ]
        return torch.stack([value.transpose(0, 1) for value in ordered], dim=1).to(dtype)

    def parameters(values: Sequence[Tensor]) -> Tensor:
        return torch.stack([value.to(dtype) for value in values]).unsqueeze(1)

    x, dt, dt_weight, dt_bias, A, B, C, D = zip(*_directions(tensors), strict=True)
    dt = [
        value if weight is None else F.linear(value.to(dtype), weight.to(dtype))
        for value, weight in zip(dt, dt_weight, strict=True)
    ]
    pre_time_step = sequences(dt) + parameters(dt_bias)
    return [
        sequences(x),
        pre_time_step,
        parameters([value.T for value in A]),
        sequences(B),
        sequences(C),
        parameters(D),
    ]


def _unstack(value: Tensor, reverse: bool) -> list[Tensor]:
    """(length, directions, batch, features) in scan order to one (batch, length, features) in time order each."""
    return [
        (direction.flip(0) if runs_backward else direction).transpose(0, 1)
        for direction, runs_backward in zip(value.unbind(1), (reverse, not reverse), strict=False)
    ]


class _Chunk:
    """Buffers of one chunk's decays and states (steps, directions, batch, state, channels), reused for every chunk."""

    def __init__(self, x: Tensor, time_step: Tensor, A: Tensor, B: Tensor):
        self.x, self.time_step, self.A, self.B = x.unsqueeze(-2), time_step.unsqueeze(-2), A, B.unsqueeze(-1)
        shape = (min(CHUNK_SIZE, x.shape[0]), *x.shape[1:3], *A.shape[2:])
        self.decays, self.states = x.new_empty(shape), x.new_empty(shape)

    def run(self, chunk: slice, entry: Tensor) -> tuple[Tensor, Tensor]:
        time_step, x, B = self.time_step[chunk], self.x[chunk], self.B[chunk]
        decays, states = self.decays[: len(x)], self.states[: len(x)]
        torch.mul(time_step, self.A, out=decays).exp_()
        torch.mul(time_step * x, B, out=states)
        previous = entry
        for decay, state in zip(decays.unbind(0), states.unbind(0), strict=True):
            state.addcmul_(decay, previous)
            previous = state
        return decays, states


def _combine(tensors: ScanTensors, output: Tensor, scale: float, reverse: bool) -> Tensor:
    """The sum of the directions' outputs, scaled and gated, in their dtype."""
    total = sum(_unstack(output, reverse)) * scale
    return total if tensors.gate is None else total * F.silu(tensors.gate.to(output.dtype))


def define_scan(tensors: ScanTensors, scale: float, reverse: bool) -> Tensor:
    """The output of `scan` by PyTorch's own operators alone, which autograd and exporters see through.

    It takes memory for the states of all tokens, several times.
    """
    dtype = torch.promote_types(tensors.first.x.dtype, torch.float32)
    x, pre_time_step, A, B, C, D = _stack(tensors, reverse, dtype)
    time_step = F.softplus(pre_time_step)
    decays = torch.exp(time_step.unsqueeze(-2) * A)
    states = _recur(decays, (time_step * x).unsqueeze(-2) * B.unsqueeze(-1))
    output = D * x + (C.unsqueeze(-1) * states).sum(-2)
    return _combine(tensors, output, scale, reverse).to(tensors.first.x.dtype)


def _recur(decays: Tensor, inputs: Tensor) -> Tensor:
    """h[t] = decays[t] h[t - 1] + inputs[t] along the first dimension."""
    length, block = decays.shape[0], 1 << _BLOCK_LEVELS
    if compat.is_fixed(length):
        levels, blocks = (length - 1).bit_length(), -(-length // block)
    else:
        # Two blocks at least: an exporter that keeps a size open would exclude 1.
        levels, blocks = _LEVELS, length // block + 2
    decays, states = (
        _pad(tensor, 0, 2 * block)[: blocks * block].unflatten(0, (-1, block)).transpose(0, 1)
        for tensor in (decays, inputs)
    )
    decays, states = _double(decays, states, min(levels, _BLOCK_LEVELS))
    _, exits = _double(decays[-1], states[-1], levels - _BLOCK_LEVELS)
    states = states + decays * _pad(exits, 1)[:-1]
    return states.transpose(0, 1).flatten(0, 1)[:length]


def _double(decays: Tensor, states: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Products of decays, and states, of the last 2 ** levels steps up to each (Hillis and Steele's parallel prefix sum)."""
    length = decays.shape[0]
    for level in range(levels):
        earlier = _pad(states, 1 << level)[:length]
        states = states + decays * earlier
        decays = decays * _pad(decays, 1 << level, value=1.0)[:length]
    return decays, states


def _pad(tensor: Tensor, before: int, after: int = 0, value: float = 0.0) -> Tensor:
    """With steps before the first and after the last one."""
    return F.pad(tensor, (*(0, 0) * (tensor.dim() - 1), before, after), value=value)


def _states_shape(x: Tensor, A: Tensor, num_directions: int) -> tuple[int, ...]:
    num_chunks = (x.shape[1] + CHUNK_SIZE - 1) // CHUNK_SIZE
    return (num_chunks, num_directions, x.shape[0], A.shape[1], A.shape[0])


def _forward(*arguments):
    *flat, scale, reverse, save_states = arguments
    tensors = unflatten(flat)
    dtype = torch.promote_types(tensors.first.x.dtype, torch.float32)
    x, pre_time_step, A, B, C, D = _stack(tensors, reverse, dtype)
    time_step = F.softplus(pre_time_step)
    length, num_directions, batch_size, _ = x.shape
    output = D * x
    state = x.new_zeros(num_directions, batch_size, *A.shape[2:])
    saved = x.new_empty(_states_shape(tensors.first.x, tensors.first.A, num_directions) if save_states else (0,))
    buffers = _Chunk(x, time_step, A, B)
    for index, start in enumerate(range(0, length, CHUNK_SIZE)):
        chunk = slice(start, start + CHUNK_SIZE)
        if save_states:
            saved[index] = state
        _, states = buffers.run(chunk, state)
        state.copy_(states[-1])
        output[chunk] += torch.matmul(C[chunk].unsqueeze(-2), states).squeeze(-2)
    return _combine(tensors, output, scale, reverse).to(tensors.first.x.dtype).contiguous(), saved


def _backward(grad: Tensor, entries: Tensor, *arguments):
    *flat, scale, reverse = arguments
    tensors = unflatten(flat)
    gate, dtype = tensors.gate, torch.promote_types(tensors.first.x.dtype, torch.float32)
    x, pre_time_step, A, B, C, D = _stack(tensors, reverse, dtype)
    time_step = F.softplus(pre_time_step)
    num_directions = x.shape[1]
    grad = grad.to(dtype) * scale
    gated_grad = grad if gate is None else grad * F.silu(gate.to(dtype))
    runs_backward = (reverse, not reverse)[:num_directions]
    grad_y = torch.stack([(gated_grad.flip(1) if flip else gated_grad).transpose(0, 1) for flip in runs_backward], 1)
    grad_x, grad_time_step = D * grad_y, torch.empty_like(x)
    grad_B, grad_C, grad_A = torch.empty_like(B), torch.empty_like(C), torch.zeros_like(A)
    grad_D = (grad_y * x).sum((0, 2))
    output = D * x
    buffers = _Chunk(x, time_step, A, B)
    grad_buffer = torch.empty_like(buffers.states)
    # With respect to a chunk's last state, from the chunks that come after it in scan order.
    grad_exit = torch.zeros_like(entries[0])
    for index in reversed(range(entries.shape[0])):
        chunk = slice(index * CHUNK_SIZE, (index + 1) * CHUNK_SIZE)
        x_c, time_step_c, B_c, C_c, grad_c = x[chunk], time_step[chunk], B[chunk], C[chunk], grad_y[chunk]
        decays, states = buffers.run(chunk, entries[index])
        if gate is not None:
            output[chunk] += torch.matmul(C_c.unsqueeze(-2), states).squeeze(-2)
        grad_C[chunk] = torch.matmul(states, grad_c.unsqueeze(-1)).squeeze(-1)
        grad_states = torch.mul(grad_c.unsqueeze(-2), C_c.unsqueeze(-1), out=grad_buffer[: len(states)])
        grad_states[-1] += grad_exit
        steps = list(zip(grad_states.unbind(0), decays.unbind(0), strict=True))
        for (grad_state, _), (grad_next, decay_next) in zip(steps[-2::-1], steps[:0:-1], strict=True):
            grad_state.addcmul_(decay_next, grad_next)
        grad_B[chunk] = torch.matmul(grad_states, (time_step_c * x_c).unsqueeze(-1)).squeeze(-1)
        grad_input = torch.matmul(B_c.unsqueeze(-2), grad_states).squeeze(-2)
        grad_x[chunk] += time_step_c * grad_input
        decayed = grad_states.mul_(decays)
        grad_exit.copy_(decayed[0])
        decayed[0] *= entries[index]
        decayed[1:] *= states[:-1]
        grad_time_step[chunk] = x_c * grad_input + torch.mul(decayed, A, out=decays).sum(-2)
        grad_A += torch.mul(decayed, time_step_c.unsqueeze(-2), out=decays).sum((0, 2)).unsqueeze(1)
    grad_pre = grad_time_step * torch.sigmoid(pre_time_step)
    grad_bias = grad_pre.sum((0, 2))
    per_direction = [_unstack(value, reverse) for value in (grad_x, grad_pre, grad_B, grad_C)]
    gradients = []
    for index, own in enumerate(_directions(tensors)):
        own_x, own_pre, own_B, own_C = (value[index] for value in per_direction)
        own_dt, own_weight = own_pre, None
        if own.dt_weight is not None:
            own_dt = torch.matmul(own_pre, own.dt_weight.to(dtype))
            own_weight = torch.matmul(own_pre.flatten(0, 1).T, own.dt.to(dtype).flatten(0, 1))
        values = (own_x, own_dt, own_weight, grad_bias[index], grad_A[index, 0].T, own_B, own_C, grad_D[index])
        gradients += [
            value.to(tensor.dtype).contiguous()
            for value, tensor in zip(values, own, strict=True)
            if tensor is not None
        ]
    if gate is not None:
        sigmoid = torch.sigmoid(gate.to(dtype))
        slope = sigmoid * (1 + gate * (1 - sigmoid))
        gradients.append((sum(_unstack(output, reverse)) * grad * slope).to(gate.dtype).contiguous())
    return gradients


_scan = register_scan("reference", "CompositeExplicitAutograd", _forward, _backward, _states_shape)


def scan(tensors: ScanTensors, scale: float, reverse: bool, save_states: bool) -> tuple[Tensor, Tensor | None]:
    """The selective scan of one or two directions of time, (sum of C . h + D x) * scale * silu(gate).

    With dt = softplus(dt dt_weight^T + dt_bias), h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t.

    Args:
        tensors: sequences of one dtype, parameters of float32 or better.
        scale: of the sum of the directions.
        reverse: swap the time directions.
        save_states: whether a backward pass may follow.

    Returns:
        (batch, length, channels) in the dtype of x, and the states that the backward pass starts from, if they were saved.
    """
    if compat.is_exporting() or compat.is_transformed():
        return _define_without_autocast(*flatten(tensors), scale, reverse), None
    return _scan(tensors, scale, reverse, save_states)


@without_autocast
def _define_without_autocast(*arguments):
    *flat, scale, reverse = arguments
    return define_scan(unflatten(flat), scale, reverse)


def convolution(
    hidden_states: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    weight2: Tensor,
    bias2: Tensor | None,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """SiLU of the depthwise convolutions of both directions, the first causal in time, the second anti-causal.

    Args:
        hidden_states: (batch, length, channels).
        weight, weight2: (channels, kernel) of the two directions.
        bias, bias2: (channels,) or None.
        reverse: swap the time directions of both.

    Returns:
        Two tensors (batch, length, channels) in the dtype of hidden_states.
    """
    return (
        _directed_convolution(hidden_states, weight, bias, reverse),
        _directed_convolution(hidden_states, weight2, bias2, not reverse),
    )


def _directed_convolution(hidden_states: Tensor, weight: Tensor, bias: Tensor | None, reverse: bool) -> Tensor:
    length, kernel_size = hidden_states.shape[1], weight.shape[1]
    dtype = torch.promote_types(hidden_states.dtype, torch.float32)
    padding = (0, 0, 0, kernel_size - 1) if reverse else (0, 0, kernel_size - 1, 0)
    padded = F.pad(hidden_states.to(dtype), padding)
    taps = weight.to(dtype).unbind(1)
    if reverse:
        taps = taps[::-1]
    total = sum(padded[:, offset : offset + length] * tap for offset, tap in enumerate(taps))
    if bias is not None:
        total = total + bias
    return F.silu(total).to(hidden_states.dtype)
