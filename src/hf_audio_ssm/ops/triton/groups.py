# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
What one launch computes: all directions of one layer, or of both layers of a pair. Sequences stay where they are, and kernels
take a pointer to each direction's; what is small is brought together.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from ..operators import NUM_SCAN_TENSORS, unflatten
from .tiles import Tile, pick, row_strides, with_equal_strides


_PACKED_ROWS = 32


@dataclass(frozen=True)
class Group:
    """The operator's tensors as the kernels read them, direction by direction, those of a layer one after the other.

    Args:
        x: (batch, length, channels) each.
        dt: Likewise, projected to all channels.
        B, C: (batch, length, state) each.
        parameters: (directions, channels * (state + 2)), float32: A, the bias of dt, D.
        gates: (batch, length, channels) of each layer; empty where there are none.
        state_size: Of the states.
    """

    x: list[Tensor]
    dt: list[Tensor]
    B: list[Tensor]
    C: list[Tensor]
    parameters: Tensor
    gates: list[Tensor]
    state_size: int

    @classmethod
    def of(cls, tensors: tuple[Tensor | None, ...]) -> "Group":
        """Of the 17 tensors of each layer."""
        directions, gates = [], []
        for start in range(0, len(tensors), NUM_SCAN_TENSORS):
            layer = unflatten(tensors[start : start + NUM_SCAN_TENSORS])
            directions += [own for own in (layer.first, layer.second) if own is not None]
            if layer.gate is not None:
                gates.append(layer.gate)
        x, dt, weights, biases, A, B, C, D = map(list, zip(*directions, strict=True))
        dt = [value if weight is None else project(value, weight) for value, weight in zip(dt, weights, strict=True)]
        flat = [value.reshape(-1) for own in zip(A, biases, D, strict=True) for value in own]
        return cls(
            *map(with_equal_strides, (x, dt, B, C)),
            torch.cat(flat).view(len(directions), -1),
            with_equal_strides(gates) if gates else gates,
            A[0].shape[1],
        )

    @property
    def num_directions(self) -> int:
        """Of all layers."""
        return len(self.x)

    @property
    def num_layers(self) -> int:
        return (self.num_directions + 1) // 2

    @property
    def num_sequences(self) -> int:
        return self.num_directions * self.x[0].shape[0]

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Batch, length, channels, states."""
        return *self.x[0].shape, self.state_size

    def num_programs(self, tile: Tile) -> int:
        """With one segment."""
        return self.num_sequences * triton.cdiv(self.sizes[2], tile.channels)

    def pack(self) -> Tensor:
        """(directions, batch, length, 2, states of a tile), float32: B and C."""
        batch_size, length, _, state_size = self.sizes
        states = Tile.forward(state_size).states
        shape = (self.num_directions, batch_size, length, 2, states)
        packed = self.parameters.new_empty(shape)
        pack_kernel[(self.num_sequences * triton.cdiv(length, _PACKED_ROWS),)](
            *four(self.B),
            *four(self.C),
            packed,
            batch_size,
            length,
            state_size,
            *row_strides(self.B[0]),
            *row_strides(self.C[0]),
            ROWS=_PACKED_ROWS,
            STATES=states,
        )
        return packed


def four(tensors: list[Tensor]) -> list[Tensor]:
    """As many pointers as kernels take; those of missing directions are not read."""
    return tensors + [tensors[-1]] * (4 - len(tensors))


def project(dt: Tensor, weight: Tensor) -> Tensor:
    """The time step's projection without its bias, in the dtype of dt: what a linear module computes."""
    return F.linear(dt, weight.to(dt.dtype))


@triton.jit(do_not_specialize=["batch_size", "length"])
def pack_kernel(
    B,
    B2,
    B3,
    B4,
    C,
    C2,
    C3,
    C4,
    BC,
    batch_size,
    length,
    state_size,
    B_clip,
    B_row,
    C_clip,
    C_row,
    ROWS: tl.constexpr,
    STATES: tl.constexpr,
):
    """Rows of B and C side by side, float32, zero beyond `state_size`: wide loads, and no conversion, in every step."""
    num_blocks = tl.cdiv(length, ROWS)
    sequence = tl.program_id(0) // num_blocks
    group, clip = sequence // batch_size, (sequence % batch_size).to(tl.int64)
    row = (tl.program_id(0) % num_blocks * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    n = tl.arange(0, STATES)[None, :]
    is_row = row < length
    inside = is_row & (n < state_size)
    B = pick(group, B, B2, B3, B4) + clip * B_clip + row * B_row + n
    C = pick(group, C, C2, C3, C4) + clip * C_clip + row * C_row + n
    target = BC + (sequence.to(tl.int64) * length + row) * (2 * STATES) + n
    tl.store(target, tl.load(B, mask=inside, other=0.0).to(tl.float32), mask=is_row)
    tl.store(target + STATES, tl.load(C, mask=inside, other=0.0).to(tl.float32), mask=is_row)
