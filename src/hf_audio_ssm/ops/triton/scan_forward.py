# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
The selective scan's forward pass. A program keeps the states of a block of channels in registers and runs along time; the
direction, the clip, the block of channels and a segment of time make its index.

With one segment, the programs run through the whole sequence. Where these would be too few to fill the GPU, there are more
segments: first every segment's last state is computed as if the state before it was 0, then one program for each block
combines these to the states before each segment, from which the segments are computed at last.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..registration import TENSORS_PER_DIRECTION
from .tiles import (
    CHUNK_SIZE,
    Tile,
    lay_out,
    locate,
    over_channels,
    over_states,
    row_strides,
    sigmoid,
    softplus,
    sum_states,
    with_contiguous_rows,
)


# Programs (of one warp) that fill a multiprocessor; a second pass pays where one pass would have a quarter of that.
_PROGRAMS_PER_MULTIPROCESSOR = 24
_PACKED_ROWS = 32


@triton.jit(do_not_specialize=["batch_size", "length"])
def pack_kernel(
    B,
    B2,
    C,
    C2,
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
    clip = (sequence % batch_size).to(tl.int64)
    if sequence >= batch_size:
        B, C = B2, C2
    row = (tl.program_id(0) % num_blocks * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    n = tl.arange(0, STATES)[None, :]
    is_row = row < length
    inside = is_row & (n < state_size)
    target = BC + (sequence.to(tl.int64) * length + row) * (2 * STATES) + n
    tl.store(target, tl.load(B + clip * B_clip + row * B_row + n, mask=inside, other=0.0).to(tl.float32), mask=is_row)
    values = tl.load(C + clip * C_clip + row * C_row + n, mask=inside, other=0.0).to(tl.float32)
    tl.store(target + STATES, values, mask=is_row)


@triton.jit
def _load_row(x, dt, BC, c, n, inside, STATES: tl.constexpr):
    x_t = tl.load(x + c, mask=inside, other=0.0).to(tl.float32)
    dt_t = tl.load(dt + c, mask=inside, other=0.0).to(tl.float32)
    return x_t, dt_t, tl.load(BC + n), tl.load(BC + STATES + n)


@triton.jit
def _advance(state, rates, x_t, dt_t, B_t, bias, is_row):
    """The state after a time step, which does nothing where there is no row."""
    dt_t = tl.where(is_row, softplus(dt_t + bias), 0.0)
    state = tl.exp2(over_states(dt_t) * rates) * state + over_states(dt_t * x_t) * over_channels(B_t)
    return state


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
    dt,
    dt2,
    dt_bias,
    dt_bias2,
    A,
    A2,
    D,
    D2,
    BC,
    gate,
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
    block, segment, sequence, clip = locate(batch_size, channels, num_segments, KR * LC)
    is_second = sequence >= batch_size
    if is_second:
        x, dt, dt_bias, A, D = x2, dt2, dt_bias2, A2, D2
    runs_backward = is_second != (reverse != 0)

    c, inside, n, tile, in_tile, rates = lay_out(A, block, channels, state_size, unit, NR, KR, LN, LC)
    bias = tl.load(dt_bias + c, mask=inside, other=0.0)
    skip = tl.load(D + c, mask=inside, other=0.0)
    tile_size = state_size * channels
    first = segment * segment_steps
    last = tl.minimum(first + segment_steps, length)
    if HAS_ENTRIES:
        state = tl.load(entries + (sequence * num_segments + segment) * tile_size + tile, mask=in_tile, other=0.0)
    else:
        state = tl.zeros((NR, KR, LN, LC), tl.float32)
    if SAVES:
        saved += (sequence * tl.cdiv(length, CHUNK) + first // CHUNK) * tile_size

    direction = tl.where(runs_backward, -1, 1).to(tl.int64)
    time = tl.where(runs_backward, length - 1 - first, first).to(tl.int64)
    x += clip * x_clip + time * x_row
    dt += clip * dt_clip + time * dt_row
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
        state = _advance(state, rates, x_t, dt_t, B_t, bias, True)
        _emit(state, C_t, x_t, skip, scale, gate, output, c, inside, HAS_GATE)
        gate += gate_row
        output += output_row
        is_next = step + 2 < last
        x += tl.where(is_next, x_row, 0)
        dt += tl.where(is_next, dt_row, 0)
        BC += tl.where(is_next, BC_row, 0)
        x_t, dt_t, B_t, C_t = _load_row(x, dt, BC, c, n, inside, NR * LN)
        state = _advance(state, rates, x_u, dt_u, B_u, bias, is_row)
        _emit(state, C_u, x_u, skip, scale, gate, output, c, inside & is_row, HAS_GATE)
        gate += gate_row
        output += output_row


@triton.jit(do_not_specialize=["batch_size", "length", "reverse", "num_segments", "segment_steps", "unit"])
def segment_kernel(
    u,
    u2,
    dt,
    dt2,
    dt_bias,
    dt_bias2,
    A,
    A2,
    BC,
    gate,
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
    block, segment, sequence, clip = locate(batch_size, channels, num_segments, KR * LC)
    is_second = sequence >= batch_size
    if is_second:
        u, dt, dt_bias, A = u2, dt2, dt_bias2, A2
    runs_backward = is_second != (reverse != 0)

    c, inside, n, tile, in_tile, rates = lay_out(A, block, channels, state_size, unit, NR, KR, LN, LC)
    bias = tl.load(dt_bias + c, mask=inside, other=0.0)
    first = segment * segment_steps
    last = tl.minimum(first + segment_steps, length)
    if GRADIENT:
        start = last - 1
        runs_back = runs_backward == 0
    else:
        start = first
        runs_back = runs_backward
    direction = tl.where(runs_back, -1, 1).to(tl.int64)
    time = tl.where(runs_backward, length - 1 - start, start).to(tl.int64)
    u += clip * u_clip + time * u_row
    dt += clip * dt_clip + time * dt_row
    gate += clip * gate_clip + time * gate_row
    BC += (sequence * length + time) * (2 * NR * LN)
    if GRADIENT:
        BC += NR * LN
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
        decay = tl.exp2(over_states(dt_t) * rates)
        sum_dt += dt_t
        if GRADIENT:
            u_t *= scale
            if HAS_GATE:
                gate_t = tl.load(gate + c, mask=inside, other=0.0).to(tl.float32)
                u_t *= gate_t * sigmoid(gate_t)
            state = decay * (state + over_states(u_t) * over_channels(row))
        else:
            state = decay * state + over_states(dt_t * u_t) * over_channels(row)
        u += u_row
        dt += dt_row
        gate += gate_row
        BC += BC_row
    place = sequence * num_segments + segment
    tl.store(ends + place * state_size * channels + tile, state, mask=in_tile)
    tl.store(sums + place * channels + c, sum_dt, mask=inside)


@triton.jit(do_not_specialize=["batch_size", "num_segments", "unit"])
def combine_kernel(
    A,
    A2,
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
    block, _, sequence, _ = locate(batch_size, channels, 1, KR * LC)
    if sequence >= batch_size:
        A = A2
    c, inside, n, tile, in_tile, rates = lay_out(A, block, channels, state_size, unit, NR, KR, LN, LC)
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


def pack(directions: list[tuple[Tensor, ...]], state_size: int) -> Tensor:
    """(directions, batch, length, 2, states of a tile), float32: B and C of each direction."""
    firsts, seconds = directions[0], directions[-1]
    batch_size, length, _ = firsts[0].shape
    states = Tile.forward(state_size).states
    packed = firsts[0].new_empty((len(directions), batch_size, length, 2, states), dtype=torch.float32)
    grid = (len(directions) * batch_size * triton.cdiv(length, _PACKED_ROWS),)
    pack_kernel[grid](
        firsts[5],
        seconds[5],
        firsts[6],
        seconds[6],
        packed,
        batch_size,
        length,
        state_size,
        *row_strides(firsts[5]),
        *row_strides(firsts[6]),
        ROWS=_PACKED_ROWS,
        STATES=states,
    )
    return packed


def count_segments(num_blocks: int, length: int, device: torch.device) -> tuple[int, int]:
    """
    How many segments a sequence is cut into, and how many time steps, a multiple of CHUNK_SIZE, a segment has.

    Args:
        num_blocks: Programs with one segment.
        length: Time steps.
        device: Where they run.
    """
    num_chunks = triton.cdiv(length, CHUNK_SIZE)
    wanted = programs_wanted(device) // num_blocks
    segment_chunks = triton.cdiv(num_chunks, min(num_chunks, wanted)) if wanted >= 4 else num_chunks
    return triton.cdiv(num_chunks, segment_chunks), segment_chunks * CHUNK_SIZE


def programs_wanted(device: torch.device) -> int:
    """Programs that fill the GPU."""
    return _PROGRAMS_PER_MULTIPROCESSOR * torch.cuda.get_device_properties(device).multi_processor_count


def compute_entries(
    sequences: tuple[Tensor, Tensor],
    directions: list[tuple[Tensor, ...]],
    packed: Tensor,
    gate: Tensor | None,
    scale: float,
    reverse: bool,
    segments: tuple[int, int],
    is_gradient: bool,
) -> Tensor:
    """
    The states, or their gradients, that enter each segment.

    Args:
        sequences: x of the first and of the last direction, or the output's gradient twice.
        directions: Each direction's tensors, dt with all channels.
        packed: From `pack`.
        gate, scale, reverse: As the operator takes them.
        segments: From `count_segments`.
        is_gradient: Whether the states' gradients are meant, which run through a sequence from its end.

    Returns:
        (directions, batch, segments, states, channels), float32.
    """
    firsts, seconds = directions[0], directions[-1]
    batch_size, length, channels = firsts[0].shape
    state_size = firsts[4].shape[1]
    num_segments, segment_steps = segments
    leading = (len(directions), batch_size, num_segments)
    ends = packed.new_empty((*leading, state_size, channels))
    sums = packed.new_empty((*leading, channels))
    tile = Tile.forward(state_size)
    num_blocks = len(directions) * batch_size * triton.cdiv(channels, tile.channels)
    has_gate = is_gradient and gate is not None
    segment_kernel[(num_blocks * num_segments,)](
        *sequences,
        firsts[1],
        seconds[1],
        firsts[3],
        seconds[3],
        firsts[4],
        seconds[4],
        packed,
        gate if has_gate else ends,
        ends,
        sums,
        batch_size,
        length,
        channels,
        state_size,
        *row_strides(sequences[0]),
        *row_strides(firsts[1]),
        *(row_strides(gate) if has_gate else (0, 0)),
        scale,
        int(reverse),
        num_segments,
        segment_steps,
        1,
        GRADIENT=is_gradient,
        HAS_GATE=has_gate,
        **tile._asdict(),
        num_warps=1,
    )
    combine_kernel[(num_blocks,)](
        firsts[4],
        seconds[4],
        ends,
        sums,
        batch_size,
        channels,
        state_size,
        num_segments,
        1,
        GRADIENT=is_gradient,
        **tile._asdict(),
        num_warps=1,
    )
    return ends


def split_directions(tensors: tuple[Tensor | None, ...]) -> list[tuple[Tensor, ...]]:
    """
    The operator's tensors by direction as the kernels read them: dt with all channels, contiguous parameters, and sequences
    with contiguous rows and the same strides in both directions.
    """
    directions = [list(tensors[:TENSORS_PER_DIRECTION])]
    if tensors[TENSORS_PER_DIRECTION] is not None:
        directions.append(list(tensors[TENSORS_PER_DIRECTION : 2 * TENSORS_PER_DIRECTION]))
    for direction in directions:
        if direction[2] is not None:
            direction[1] = project(direction[1], direction[2])
        for index in (3, 4, 7):
            direction[index] = direction[index].contiguous()
    for index in (0, 1, 5, 6):
        values = [direction[index] for direction in directions]
        if values[0].stride(2) != 1 or any(value.stride() != values[0].stride() for value in values):
            for direction in directions:
                direction[index] = direction[index].contiguous()
    return [tuple(direction) for direction in directions]


def project(dt: Tensor, weight: Tensor) -> Tensor:
    """The time step's projection without its bias, in the dtype of dt: what a linear module computes."""
    return torch.nn.functional.linear(dt, weight.to(dt.dtype))


def forward(*arguments) -> tuple[Tensor, Tensor]:
    """The operator `scan_triton`; it saves each chunk's first state (directions, batch, chunks, states, channels)."""
    *tensors, gate, scale, reverse, save_states = arguments
    directions = split_directions(tensors)
    gate = None if gate is None else with_contiguous_rows(gate)
    firsts, seconds = directions[0], directions[-1]
    x, A = firsts[0], firsts[4]
    batch_size, length, channels = x.shape
    state_size = A.shape[1]
    output = x.new_empty(x.shape)
    saved = x.new_empty(states_shape(x, A, len(directions)) if save_states else (0,), dtype=torch.float32)
    if batch_size == 0:
        return output, saved
    tile = Tile.forward(state_size)
    packed = pack(directions, state_size)
    num_blocks = len(directions) * batch_size * triton.cdiv(channels, tile.channels)
    segments = count_segments(num_blocks, length, x.device)
    entries = None
    if segments[0] > 1:
        entries = compute_entries((x, seconds[0]), directions, packed, None, 1.0, reverse, segments, False)
    # Each direction's share of the output, which is their sum.
    shares = output if len(directions) == 1 else x.new_empty((2, *x.shape), dtype=torch.float32)
    scan_kernel[(num_blocks * segments[0],)](
        x,
        seconds[0],
        firsts[1],
        seconds[1],
        firsts[3],
        seconds[3],
        A,
        seconds[4],
        firsts[7],
        seconds[7],
        packed,
        packed if gate is None else gate,
        shares,
        packed if entries is None else entries,
        saved,
        batch_size,
        length,
        channels,
        state_size,
        *row_strides(x),
        *row_strides(firsts[1]),
        *((0, 0) if gate is None else row_strides(gate)),
        scale,
        int(reverse),
        *segments,
        1,
        HAS_GATE=gate is not None,
        HAS_ENTRIES=entries is not None,
        SAVES=save_states,
        CHUNK=CHUNK_SIZE,
        **tile._asdict(),
        num_warps=1,
    )
    if len(directions) == 2:
        torch.add(shares[0], shares[1], out=output)
    return output, saved


def states_shape(x: Tensor, A: Tensor, num_directions: int) -> tuple[int, ...]:
    return (num_directions, x.shape[0], -(-x.shape[1] // CHUNK_SIZE), A.shape[1], A.shape[0])
