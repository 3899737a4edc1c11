# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
The selective scan's forward pass. A program keeps the states of a block of channels in registers and runs along time; the
layer of a pair, the direction, the clip, a segment of time and the block of channels make its index.

With one segment, the programs run through the whole sequence. Where these would be too few to fill the GPU, there are more
segments: first every segment's last state is computed as if the state before it was 0, then one program for each block
combines these to the states before each segment, from which the segments are computed at last.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..operators import NUM_SCAN_TENSORS, unflatten
from .groups import Group, four
from .tiles import (
    CHUNK_SIZE,
    Tile,
    advance,
    lay_out,
    locate,
    over_channels,
    over_states,
    pick,
    row_strides,
    sigmoid,
    softplus,
    sum_states,
    time_of,
)


# Programs (of one warp) that fill a multiprocessor; a second pass pays where one pass would have a quarter of that.
_PROGRAMS_PER_MULTIPROCESSOR = 24


@triton.jit
def _load_row(x, dt, BC, c, n, inside, STATES: tl.constexpr):
    x_t = tl.load(x + c, mask=inside, other=0.0).to(tl.float32)
    dt_t = tl.load(dt + c, mask=inside, other=0.0).to(tl.float32)
    return x_t, dt_t, tl.load(BC + n), tl.load(BC + STATES + n)


@triton.jit
def _emit(state, C_t, x_t, skip, scale, gate, output, c, inside, HAS_GATE: tl.constexpr):
    y = (sum_states(state * over_channels(C_t)) + skip * x_t) * scale
    if HAS_GATE:
        gate_t = tl.load(gate + c, mask=inside, other=0.0).to(tl.float32)
        y *= gate_t * sigmoid(gate_t)
    tl.store(output + c, y.to(output.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["batch_size", "length", "reverse", "num_segments", "segment_steps", "unit"])
def scan_kernel(
    x,
    x2,
    x3,
    x4,
    dt,
    dt2,
    dt3,
    dt4,
    gate,
    gate2,
    parameters,
    BC,
    output,
    entries,
    saved,
    batch_size,
    length,
    channels,
    state_size,
    x_clip,
    x_row,
    dt_clip,
    dt_row,
    gate_clip,
    gate_row,
    scale,
    reverse,
    num_segments,
    segment_steps,
    unit,
    HAS_GATE: tl.constexpr,
    HAS_ENTRIES: tl.constexpr,
    SAVES: tl.constexpr,
    CHUNK: tl.constexpr,
    NR: tl.constexpr,
    KR: tl.constexpr,
    LN: tl.constexpr,
    LC: tl.constexpr,
):
    block, clip, sequence, group, runs_backward, place, first, last = locate(
        batch_size, length, channels, reverse, num_segments, segment_steps, KR * LC
    )
    c, inside, n, tile, in_tile, rates, bias, skip = lay_out(
        parameters, group, block, channels, state_size, unit, NR, KR, LN, LC
    )
    tile_size = state_size * channels
    if HAS_ENTRIES:
        state = tl.load(entries + place * tile_size + tile, mask=in_tile, other=0.0)
    else:
        state = tl.zeros((NR, KR, LN, LC), tl.float32)
    if SAVES:
        saved += (sequence * tl.cdiv(length, CHUNK) + first // CHUNK) * tile_size

    if group >= 2:
        gate = gate2
    direction = tl.where(runs_backward, -1, 1).to(tl.int64)
    time = time_of(first, runs_backward, length)
    x = pick(group, x, x2, x3, x4) + clip * x_clip + time * x_row
    dt = pick(group, dt, dt2, dt3, dt4) + clip * dt_clip + time * dt_row
    gate += clip * gate_clip + time * gate_row
    BC += (sequence * length + time) * (2 * NR * LN)
    output += (sequence * length + time) * channels
    x_row *= direction
    dt_row *= direction
    gate_row *= direction
    BC_row = direction * (2 * NR * LN)
    output_row = direction * channels

    # Two rows in turn, so that each is loaded while the other is computed. After the last row it is loaded again.
    x_t, dt_t, B_t, C_t = _load_row(x, dt, BC, c, n, inside, NR * LN)
    for step in range(first, last, 2):
        if SAVES:
            if step % CHUNK == 0:
                tl.store(saved + tile, state, mask=in_tile)
                saved += tile_size
        is_row = step + 1 < last
        x += tl.where(is_row, x_row, 0)
        dt += tl.where(is_row, dt_row, 0)
        BC += tl.where(is_row, BC_row, 0)
        x_u, dt_u, B_u, C_u = _load_row(x, dt, BC, c, n, inside, NR * LN)
        state = advance(state, rates, x_t, softplus(dt_t + bias), B_t)
        _emit(state, C_t, x_t, skip, scale, gate, output, c, inside, HAS_GATE)
        gate += gate_row
        output += output_row
        is_next = step + 2 < last
        x += tl.where(is_next, x_row, 0)
        dt += tl.where(is_next, dt_row, 0)
        BC += tl.where(is_next, BC_row, 0)
        x_t, dt_t, B_t, C_t = _load_row(x, dt, BC, c, n, inside, NR * LN)
        # A time step of 0 does nothing.
        state = advance(state, rates, x_u, tl.where(is_row, softplus(dt_u + bias), 0.0), B_u)
        _emit(state, C_u, x_u, skip, scale, gate, output, c, inside & is_row, HAS_GATE)
        gate += gate_row
        output += output_row


@triton.jit(do_not_specialize=["batch_size", "length", "reverse", "num_segments", "segment_steps", "unit"])
def segment_kernel(
    u,
    u2,
    u3,
    u4,
    dt,
    dt2,
    dt3,
    dt4,
    gate,
    gate2,
    parameters,
    BC,
    ends,
    sums,
    batch_size,
    length,
    channels,
    state_size,
    u_clip,
    u_row,
    dt_clip,
    dt_row,
    gate_clip,
    gate_row,
    scale,
    reverse,
    num_segments,
    segment_steps,
    unit,
    GRADIENT: tl.constexpr,
    HAS_GATE: tl.constexpr,
    NR: tl.constexpr,
    KR: tl.constexpr,
    LN: tl.constexpr,
    LC: tl.constexpr,
):
    """
    What a segment adds to a state that passes through it, and the sum of its time steps, from which the decay follows.

    Forward: of h <- exp(dt A) h + dt B x with u = x. With GRADIENT, of the state's gradient in the opposite order,
    e <- exp(dt A) (e + C g), where u is the output's gradient and g = u * scale * silu(gate).
    """
    block, clip, sequence, group, runs_backward, place, first, last = locate(
        batch_size, length, channels, reverse, num_segments, segment_steps, KR * LC
    )
    c, inside, n, tile, in_tile, rates, bias, _ = lay_out(
        parameters, group, block, channels, state_size, unit, NR, KR, LN, LC
    )
    if GRADIENT:
        time = time_of(last - 1, runs_backward, length)
        direction = tl.where(runs_backward, 1, -1).to(tl.int64)
        BC += NR * LN
    else:
        time = time_of(first, runs_backward, length)
        direction = tl.where(runs_backward, -1, 1).to(tl.int64)
    if group >= 2:
        gate = gate2
    u = pick(group, u, u2, u3, u4) + clip * u_clip + time * u_row
    dt = pick(group, dt, dt2, dt3, dt4) + clip * dt_clip + time * dt_row
    gate += clip * gate_clip + time * gate_row
    BC += (sequence * length + time) * (2 * NR * LN)
    u_row *= direction
    dt_row *= direction
    gate_row *= direction
    BC_row = direction * (2 * NR * LN)

    state = tl.zeros((NR, KR, LN, LC), tl.float32)
    sum_dt = tl.zeros((KR, LC), tl.float32)
    for _ in range(first, last):
        u_t = tl.load(u + c, mask=inside, other=0.0).to(tl.float32)
        dt_t = softplus(tl.load(dt + c, mask=inside, other=0.0).to(tl.float32) + bias)
        row = tl.load(BC + n)
        sum_dt += dt_t
        if GRADIENT:
            u_t *= scale
            if HAS_GATE:
                gate_t = tl.load(gate + c, mask=inside, other=0.0).to(tl.float32)
                u_t *= gate_t * sigmoid(gate_t)
            state = tl.exp2(over_states(dt_t) * rates) * (state + over_states(u_t) * over_channels(row))
        else:
            state = advance(state, rates, u_t, dt_t, row)
        u += u_row
        dt += dt_row
        gate += gate_row
        BC += BC_row
    tl.store(ends + place * state_size * channels + tile, state, mask=in_tile)
    tl.store(sums + place * channels + c, sum_dt, mask=inside)


@triton.jit(do_not_specialize=["batch_size", "num_segments", "unit"])
def combine_kernel(
    parameters,
    ends,
    sums,
    batch_size,
    channels,
    state_size,
    num_segments,
    unit,
    GRADIENT: tl.constexpr,
    NR: tl.constexpr,
    KR: tl.constexpr,
    LN: tl.constexpr,
    LC: tl.constexpr,
):
    """Replaces what each segment adds by what enters it; with GRADIENT, from the last segment to the first."""
    # One program for all segments.
    block, _, sequence, group, _, _, _, _ = locate(batch_size, 0, channels, 0, 1, 0, KR * LC)
    c, inside, n, tile, in_tile, rates, _, _ = lay_out(
        parameters, group, block, channels, state_size, unit, NR, KR, LN, LC
    )
    state = tl.zeros((NR, KR, LN, LC), tl.float32)
    for index in range(0, num_segments):
        if GRADIENT:
            segment = num_segments - 1 - index
        else:
            segment = index
        place = sequence * num_segments + segment
        end = ends + place * state_size * channels + tile
        added = tl.load(end, mask=in_tile, other=0.0)
        sum_dt = tl.load(sums + place * channels + c, mask=inside, other=0.0)
        tl.store(end, state, mask=in_tile)
        state = tl.exp2(over_states(sum_dt) * rates) * state + added


def count_segments(num_programs: int, length: int, device: torch.device) -> tuple[int, int]:
    """
    How many segments a sequence is cut into, and how many time steps, a multiple of CHUNK_SIZE, a segment has.

    Args:
        num_programs: Programs with one segment.
        length: Time steps.
        device: Where they run.
    """
    num_chunks = triton.cdiv(length, CHUNK_SIZE)
    wanted = programs_wanted(device) // num_programs
    segment_chunks = triton.cdiv(num_chunks, min(num_chunks, wanted)) if wanted >= 4 else num_chunks
    return triton.cdiv(num_chunks, segment_chunks), segment_chunks * CHUNK_SIZE


def count_programs(batch_size: int, length: int, channels: int, state_size: int, device: torch.device) -> int:
    """Programs of one bidirectional layer, with as many segments as it is cut into."""
    num_programs = 2 * batch_size * triton.cdiv(channels, Tile.forward(state_size).channels)
    return num_programs * count_segments(num_programs, length, device)[0]


def programs_wanted(device: torch.device) -> int:
    """Programs that fill the GPU."""
    return _PROGRAMS_PER_MULTIPROCESSOR * torch.cuda.get_device_properties(device).multi_processor_count


def compute_entries(
    group: Group,
    packed: Tensor,
    grads: list[Tensor] | None,
    scale: float,
    reverse: bool,
    segments: tuple[int, int],
) -> Tensor:
    """
    The states that enter each segment or, where `grads` are given, their gradients, which run through a sequence from its end.

    Args:
        group, packed: What is computed, and `group.pack()`.
        grads: Each layer's output's gradient.
        scale, reverse: As the operator takes them.
        segments: From `count_segments`.

    Returns:
        (directions, batch, segments, states, channels), float32.
    """
    batch_size, _, channels, state_size = group.sizes
    leading = (group.num_directions, batch_size, segments[0])
    ends, sums = packed.new_empty((*leading, state_size, channels)), packed.new_empty((*leading, channels))
    tile = Tile.forward(state_size)
    is_gradient = grads is not None
    sequences = [grad for grad in grads for _ in range(2)] if is_gradient else group.x
    # Forward, the gate is not read.
    gates = group.gates if is_gradient and group.gates else sequences
    segment_kernel[(group.num_programs(tile) * segments[0],)](
        *four(sequences),
        *four(group.dt),
        gates[0],
        gates[-1],
        group.parameters,
        packed,
        ends,
        sums,
        *group.sizes,
        *row_strides(sequences[0]),
        *row_strides(group.dt[0]),
        *row_strides(gates[0]),
        scale,
        int(reverse),
        *segments,
        1,
        GRADIENT=is_gradient,
        HAS_GATE=is_gradient and bool(group.gates),
        **tile._asdict(),
        num_warps=1,
    )
    combine_kernel[(group.num_programs(tile),)](
        group.parameters,
        ends,
        sums,
        batch_size,
        channels,
        state_size,
        segments[0],
        1,
        GRADIENT=is_gradient,
        **tile._asdict(),
        num_warps=1,
    )
    return ends


def forward(*arguments) -> tuple[Tensor, ...]:
    """
    The operators `scan_triton` and `scan_pair_triton`; they save each chunk's first state (directions, batch, chunks, states,
    channels).
    """
    *tensors, scale, reverse, save_states = arguments
    group = Group.of(tensors)
    x, gates = group.x[0], group.gates
    outputs = [x.new_empty(x.shape) for _ in range(group.num_layers)]
    shape = (
        states_shape(x, unflatten(tensors[:NUM_SCAN_TENSORS]).first.A, group.num_directions) if save_states else (0,)
    )
    saved = group.parameters.new_empty(shape)
    if len(x) == 0:
        return *outputs, saved
    packed = group.pack()
    tile = Tile.forward(group.state_size)
    segments = count_segments(group.num_programs(tile), x.shape[1], x.device)
    entries = None
    if segments[0] > 1:
        entries = compute_entries(group, packed, None, 1.0, reverse, segments)
    # A layer's output is the sum of its directions' shares.
    has_shares = group.num_directions > 1
    shares = packed.new_empty((group.num_directions, *x.shape)) if has_shares else outputs[0]
    scan_kernel[(group.num_programs(tile) * segments[0],)](
        *four(group.x),
        *four(group.dt),
        *((gates[0], gates[-1]) if gates else (x, x)),
        group.parameters,
        packed,
        shares,
        packed if entries is None else entries,
        saved,
        *group.sizes,
        *row_strides(x),
        *row_strides(group.dt[0]),
        *row_strides(gates[0] if gates else x),
        scale,
        int(reverse),
        *segments,
        1,
        HAS_GATE=bool(gates),
        HAS_ENTRIES=entries is not None,
        SAVES=save_states,
        CHUNK=CHUNK_SIZE,
        **tile._asdict(),
        num_warps=1,
    )
    if has_shares:
        for output, own in zip(outputs, shares.split(2), strict=True):
            torch.add(*own, out=output)
    return *outputs, saved


def states_shape(x: Tensor, A: Tensor, num_directions: int) -> tuple[int, ...]:
    return (num_directions, x.shape[0], -(-x.shape[1] // CHUNK_SIZE), A.shape[1], A.shape[0])
