# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
What the scan's Triton kernels share: how a program's tile of states lies in its registers, and elementary functions.

A tile of states has the shape (NR, KR, LN, LC): the last two dimensions are the lanes of a program's one warp, the first two
each lane's registers. A lane so holds NR successive states of KR successive channels. All sizes are powers of two; states
beyond `state_size` have A = B = C = 0, which leaves them 0.

Addresses of tiles contain the factor `unit`, which is 1: a compiler that saw how addresses follow each other would load
tiles in another layout, and convert each row of inputs to it.
"""

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor


# Time steps between two states that the forward pass saves for the backward pass.
CHUNK_SIZE = 64
_LANES = 32


class Tile(NamedTuple):
    """Sizes of a tile: registers over states and channels, lanes over states and channels."""

    NR: int
    KR: int
    LN: int
    LC: int

    @property
    def states(self) -> int:
        return self.NR * self.LN

    @property
    def channels(self) -> int:
        return self.KR * self.LC

    @classmethod
    def forward(cls, state_size: int) -> "Tile":
        """All states of a channel in one lane, as far as they fit: sums over states need no other lane."""
        states = triton.next_power_of_2(max(state_size, 8))
        lanes = max(1, states // 16)
        return cls(states // lanes, 1, lanes, _LANES // lanes)

    @classmethod
    def backward(cls, state_size: int) -> "Tile":
        """Lanes over both: the backward pass sums over states and over channels."""
        states = triton.next_power_of_2(max(state_size, 8))
        lanes = min(_LANES, max(4, states // 4))
        registers = states // lanes
        return cls(registers, min(4, 16 // registers), lanes, _LANES // lanes)


def row_strides(tensor: Tensor) -> tuple[int, int]:
    """Strides of the clips and rows of (batch, length, features)."""
    return tensor.stride(0), tensor.stride(1)


def with_equal_strides(tensors: list[Tensor]) -> list[Tensor]:
    """
    Tensors (batch, length, features) as kernels read them: the strides of the first are those of all, and features have none.
    """
    strides = tensors[0].stride()
    if strides[2] == 1 and all(tensor.stride() == strides for tensor in tensors):
        return tensors
    return [tensor.contiguous() for tensor in tensors]


@triton.jit
def pick(group, first, second, third, fourth):
    """Of a pointer for each direction of each layer, a program's."""
    if group == 1:
        first = second
    if group == 2:
        first = third
    if group == 3:
        first = fourth
    return first


@triton.jit
def locate(batch_size, length, channels, reverse, num_segments, segment_steps, CHANNELS: tl.constexpr):
    """
    Which part is a program's: block of channels; clip; sequence (of all clips of each direction of each layer) and direction
    of a layer (`group`); whether that runs backward in time; segment of all sequences, and the segment's steps.
    """
    num_blocks = tl.cdiv(channels, CHANNELS)
    block = tl.program_id(0) % num_blocks
    segment = tl.program_id(0) // num_blocks % num_segments
    sequence = tl.program_id(0) // num_blocks // num_segments
    group = sequence // batch_size
    clip = (sequence % batch_size).to(tl.int64)
    sequence = sequence.to(tl.int64)
    # A layer's second direction runs against the first one.
    runs_backward = (group % 2 != 0) != (reverse != 0)
    first = segment * segment_steps
    last = tl.minimum(first + segment_steps, length)
    place = sequence * num_segments + segment
    return block, clip, sequence, group, runs_backward, place, first, last


@triton.jit
def time_of(step, runs_backward, length):
    """The row of a step in scan order."""
    return tl.where(runs_backward, length - 1 - step, step).to(tl.int64)


@triton.jit
def lay_out(
    parameters,
    group,
    block,
    channels,
    state_size,
    unit,
    NR: tl.constexpr,
    KR: tl.constexpr,
    LN: tl.constexpr,
    LC: tl.constexpr,
):
    """
    A block's channels and which of them exist; the states; the tile's places in (states, channels) and which exist; and of
    the block's parameters the tile of A, times log2(e), for decays are powers of 2, and the rows of the bias and of D.
    """
    c = channel_indices(block, KR, LC)
    n = state_indices(NR, LN)
    inside = c < channels
    tile = over_channels(n) * channels + over_states(c) * unit
    in_tile = over_states(inside) & over_channels(n < state_size)
    parameters += group * channels * (state_size + 2)
    rates = tl.load(parameters + over_states(c) * state_size + over_channels(n) * unit, mask=in_tile, other=0.0)
    parameters += channels * state_size
    bias = tl.load(parameters + c, mask=inside, other=0.0)
    skip = tl.load(parameters + channels + c, mask=inside, other=0.0)
    return c, inside, n, tile, in_tile, rates * 1.4426950408889634, bias, skip


@triton.jit
def channel_indices(block, KR: tl.constexpr, LC: tl.constexpr):
    """(KR, LC): the channels of a block."""
    return block * KR * LC + tl.arange(0, LC)[None, :] * KR + tl.arange(0, KR)[:, None]


@triton.jit
def state_indices(NR: tl.constexpr, LN: tl.constexpr):
    """(NR, LN): the states."""
    return tl.arange(0, LN)[None, :] * NR + tl.arange(0, NR)[:, None]


@triton.jit
def over_states(values):
    """A value for each channel, (KR, LC), on the tile."""
    return values[None, :, None, :]


@triton.jit
def over_channels(values):
    """A value for each state, (NR, LN), on the tile."""
    return values[:, None, :, None]


@triton.jit
def sum_states(tile):
    """(KR, LC)"""
    return tl.sum(tl.sum(tile, 0), 1)


@triton.jit
def sum_channels(tile):
    """(NR, LN)"""
    return tl.sum(tl.sum(tile, 1), 2)


@triton.jit
def advance(state, rates, x_t, dt_t, B_t):
    """The state after a time step."""
    return tl.exp2(over_states(dt_t) * rates) * state + over_states(dt_t * x_t) * over_channels(B_t)


@triton.jit
def softplus(x):
    """log(1 + exp(x)); the logarithm of 1 + u by a polynomial on [0, 1], relative error 1.6e-7: u may be tiny."""
    u = tl.exp(-tl.abs(x))
    p = -0.00317606 * u + 0.01954253
    p = p * u - 0.05637361
    p = p * u + 0.10543624
    p = p * u - 0.15269667
    p = p * u + 0.19663274
    p = p * u - 0.24951616
    p = p * u + 0.3332971
    p = p * u - 0.49999893
    p = p * u + 0.99999999
    return tl.maximum(x, 0.0) + p * u


@triton.jit
def sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))
