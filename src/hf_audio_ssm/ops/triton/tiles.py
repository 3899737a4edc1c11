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


def with_contiguous_rows(tensor: Tensor) -> Tensor:
    """The kernels read the features of (batch, length, features) without a stride."""
    return tensor if tensor.stride(2) == 1 else tensor.contiguous()


@triton.jit
def locate(batch_size, channels, num_segments, CHANNELS: tl.constexpr):
    """Which part is a program's: block of channels, segment of time, sequence (clips of each direction), clip."""
    num_blocks = tl.cdiv(channels, CHANNELS)
    block = tl.program_id(0) % num_blocks
    segment = tl.program_id(0) // num_blocks % num_segments
    sequence = tl.program_id(0) // num_blocks // num_segments
    return block, segment, sequence.to(tl.int64), (sequence % batch_size).to(tl.int64)


@triton.jit
def lay_out(
    A, block, channels, state_size, unit, NR: tl.constexpr, KR: tl.constexpr, LN: tl.constexpr, LC: tl.constexpr
):
    """
    A block's channels and which of them exist; the states; the tile's places in (states, channels) and which exist; and the
    tile of A (channels, state_size), times log2(e): decays are powers of 2.
    """
    c = channel_indices(block, KR, LC)
    n = state_indices(NR, LN)
    inside = c < channels
    tile = over_channels(n) * channels + over_states(c) * unit
    in_tile = over_states(inside) & over_channels(n < state_size)
    rates = tl.load(A + over_states(c) * state_size + over_channels(n) * unit, mask=in_tile, other=0.0)
    return c, inside, n, tile, in_tile, rates * 1.4426950408889634


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
