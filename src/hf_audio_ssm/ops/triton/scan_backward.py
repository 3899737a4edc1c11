# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
The selective scan's backward pass. A program runs through its segment from the end. From each chunk's first state, saved by
the forward pass, it recomputes every second state into its own piece of memory, and from these the states between, in
registers: with more steps in registers at once they would not suffice. What has to be summed over programs is stored by
each, and summed afterwards: nothing depends on their order.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..registration import TENSORS_PER_DIRECTION
from .scan_forward import compute_entries, count_segments, pack, split_directions
from .tiles import (
    CHUNK_SIZE,
    Tile,
    channel_indices,
    lay_out,
    locate,
    over_channels,
    over_states,
    row_strides,
    sigmoid,
    softplus,
    sum_channels,
    sum_states,
    with_contiguous_rows,
)


@triton.jit
def _load_step(x, dt, BC, step, x_row, dt_row, BC_row, c, n, bias, inside, last):
    """x, dt before and after the softplus, and B; zero beyond the end, which leaves states as they are."""
    is_row = step < last
    place = tl.minimum(step, last - 1).to(tl.int64)
    x_t = tl.load(x + place * x_row + c, mask=inside & is_row, other=0.0).to(tl.float32)
    before = tl.load(dt + place * dt_row + c, mask=inside & is_row, other=0.0).to(tl.float32) + bias
    return x_t, before, tl.where(is_row, softplus(before), 0.0), tl.load(BC + place * BC_row + n)


@triton.jit
def _advance(state, rates, x_t, dt_t, B_t):
    """The state after a time step."""
    return tl.exp2(over_states(dt_t) * rates) * state + over_states(dt_t * x_t) * over_channels(B_t)


@triton.jit
def _retreat(
    grad_state,
    grad_A,
    grad_bias,
    grad_D,
    before_state,
    state,
    x_t,
    before,
    dt_t,
    B_t,
    rates,
    skip,
    grad,
    gate,
    BC,
    grad_x,
    grad_dt,
    grad_BC,
    grad_gate,
    step,
    grad_row,
    gate_row,
    BC_row,
    output_row,
    c,
    n,
    inside,
    last,
    scale,
    HAS_GATE: tl.constexpr,
    STATES: tl.constexpr,
):
    """The gradients of one time step, from the gradient of the state after it to that of the state before it."""
    is_row = step < last
    stored = inside & is_row
    place = tl.minimum(step, last - 1).to(tl.int64)
    C_t = tl.load(BC + place * BC_row + STATES + n)
    grad_y = tl.load(grad + place * grad_row + c, mask=stored, other=0.0).to(tl.float32) * scale
    if HAS_GATE:
        gate_t = tl.load(gate + place * gate_row + c, mask=stored, other=0.0).to(tl.float32)
        sigmoid_t = sigmoid(gate_t)
        y = sum_states(over_channels(C_t) * state) + skip * x_t
        slope = sigmoid_t * (1.0 + gate_t * (1.0 - sigmoid_t))
        tl.store(grad_gate + place * output_row + c, y * grad_y * slope, mask=stored)
        grad_y *= gate_t * sigmoid_t
    grad_C_t = sum_channels(state * over_states(grad_y))
    grad_state += over_channels(C_t) * over_states(grad_y)
    grad_B_t = sum_channels(grad_state * over_states(dt_t * x_t))
    grad_input = sum_states(grad_state * over_channels(B_t))
    grad_state *= tl.exp2(over_states(dt_t) * rates)
    decayed = grad_state * before_state
    grad_A += decayed * over_states(dt_t)
    # The rates contain log2(e).
    grad_dt_t = x_t * grad_input + 0.6931471805599453 * sum_states(decayed * rates)
    grad_before = tl.where(is_row, grad_dt_t * sigmoid(before), 0.0)
    grad_bias += grad_before
    grad_D += grad_y * x_t
    row = place * output_row + c
    tl.store(grad_x + row, (dt_t * grad_input + skip * grad_y).to(grad_x.dtype.element_ty), mask=stored)
    tl.store(grad_dt + row, grad_before.to(grad_dt.dtype.element_ty), mask=stored)
    tl.store(grad_BC + place * BC_row + n, grad_B_t, mask=is_row)
    tl.store(grad_BC + place * BC_row + STATES + n, grad_C_t, mask=is_row)
    return grad_state, grad_A, grad_bias, grad_D


@triton.jit(do_not_specialize=["batch_size", "length", "reverse", "num_segments", "segment_steps", "unit"])
def backward_kernel(
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
    grad,
    saved,
    entries,
    scratch,
    grad_x,
    grad_dt,
    grad_BC,
    grad_gate,
    grad_A,
    grad_bias,
    grad_D,
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
    grad_clip,
    grad_row,
    scale,
    reverse,
    num_segments,
    segment_steps,
    unit,
    HAS_GATE: tl.constexpr,
    HAS_ENTRIES: tl.constexpr,
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
    num_sequences = tl.num_programs(0) // tl.cdiv(channels, KR * LC) // num_segments

    c, inside, n, tile, in_tile, rates = lay_out(A, block, channels, state_size, unit, NR, KR, LN, LC)
    bias = tl.load(dt_bias + c, mask=inside, other=0.0)
    skip = tl.load(D + c, mask=inside, other=0.0)
    tile_size = state_size * channels
    first = segment * segment_steps
    last = tl.minimum(first + segment_steps, length)

    # To the row of the sequence's first step in scan order; `*_row` goes to the next step.
    direction = tl.where(runs_backward, -1, 1).to(tl.int64)
    time = tl.where(runs_backward, length - 1, 0).to(tl.int64)
    x += clip * x_clip + time * x_row
    dt += clip * dt_clip + time * dt_row
    gate += clip * gate_clip + time * gate_row
    grad += clip * grad_clip + time * grad_row
    row = sequence * length + time
    BC += row * (2 * NR * LN)
    grad_BC += (block * num_sequences.to(tl.int64) * length + row) * (2 * NR * LN)
    grad_x += row * channels
    grad_dt += row * channels
    grad_gate += row * channels
    x_row *= direction
    dt_row *= direction
    gate_row *= direction
    grad_row *= direction
    BC_row = direction * (2 * NR * LN)
    output_row = direction * channels
    # A piece for this program, in the order of its lanes.
    piece = over_channels(n) * (KR * LC) + over_states(channel_indices(0, KR, LC)) * unit
    scratch += tl.program_id(0).to(tl.int64) * (CHUNK // 2 * NR * LN * KR * LC)

    total_A = tl.zeros((NR, KR, LN, LC), tl.float32)
    total_bias = tl.zeros((KR, LC), tl.float32)
    total_D = tl.zeros((KR, LC), tl.float32)
    place = sequence * num_segments + segment
    if HAS_ENTRIES:
        grad_state = tl.load(entries + place * tile_size + tile, mask=in_tile, other=0.0)
    else:
        grad_state = tl.zeros((NR, KR, LN, LC), tl.float32)
    num_chunks = tl.cdiv(length, CHUNK)
    first_chunk = first // CHUNK
    last_chunk = tl.cdiv(last, CHUNK)
    for chunk_index in range(first_chunk, last_chunk):
        chunk = first_chunk + last_chunk - 1 - chunk_index
        start = chunk * CHUNK
        num_groups = tl.cdiv(tl.minimum(CHUNK, last - start), 2)
        state = tl.load(saved + (sequence * num_chunks + chunk) * tile_size + tile, mask=in_tile, other=0.0)
        # The states of the chunk before are no longer needed.
        tl.debug_barrier()
        for group in range(0, num_groups):
            tl.store(scratch + group * (NR * LN * KR * LC) + piece, state)
            for offset in tl.static_range(2):
                step = start + group * 2 + offset
                x_t, _, dt_t, B_t = _load_step(x, dt, BC, step, x_row, dt_row, BC_row, c, n, bias, inside, last)
                state = _advance(state, rates, x_t, dt_t, B_t)
        tl.debug_barrier()
        for group_index in range(0, num_groups):
            group = num_groups - 1 - group_index
            step = start + group * 2
            x_t, before_t, dt_t, B_t = _load_step(x, dt, BC, step, x_row, dt_row, BC_row, c, n, bias, inside, last)
            x_u, before_u, dt_u, B_u = _load_step(x, dt, BC, step + 1, x_row, dt_row, BC_row, c, n, bias, inside, last)
            state = tl.load(scratch + group * (NR * LN * KR * LC) + piece)
            second = _advance(state, rates, x_t, dt_t, B_t)
            third = _advance(second, rates, x_u, dt_u, B_u)
            grad_state, total_A, total_bias, total_D = _retreat(
                grad_state,
                total_A,
                total_bias,
                total_D,
                second,
                third,
                x_u,
                before_u,
                dt_u,
                B_u,
                rates,
                skip,
                grad,
                gate,
                BC,
                grad_x,
                grad_dt,
                grad_BC,
                grad_gate,
                step + 1,
                grad_row,
                gate_row,
                BC_row,
                output_row,
                c,
                n,
                inside,
                last,
                scale,
                HAS_GATE,
                NR * LN,
            )
            grad_state, total_A, total_bias, total_D = _retreat(
                grad_state,
                total_A,
                total_bias,
                total_D,
                state,
                second,
                x_t,
                before_t,
                dt_t,
                B_t,
                rates,
                skip,
                grad,
                gate,
                BC,
                grad_x,
                grad_dt,
                grad_BC,
                grad_gate,
                step,
                grad_row,
                gate_row,
                BC_row,
                output_row,
                c,
                n,
                inside,
                last,
                scale,
                HAS_GATE,
                NR * LN,
            )
    tl.store(grad_A + place * tile_size + tile, total_A, mask=in_tile)
    tl.store(grad_bias + place * channels + c, total_bias, mask=inside)
    tl.store(grad_D + place * channels + c, total_D, mask=inside)


def backward(grad: Tensor, saved: Tensor, *arguments) -> list[Tensor]:
    """The operator `scan_triton_backward`: the gradients of all tensors that are not None."""
    *tensors, gate, scale, reverse = arguments
    directions = split_directions(tensors)
    grad = with_contiguous_rows(grad)
    gate = None if gate is None else with_contiguous_rows(gate)
    firsts, seconds = directions[0], directions[-1]
    x, A = firsts[0], firsts[4]
    batch_size, length, channels = x.shape
    state_size = A.shape[1]
    if batch_size == 0:
        return [torch.zeros_like(tensor) for tensor in (*tensors, gate) if tensor is not None]
    packed = pack(directions, state_size)
    tile = Tile.backward(state_size)
    num_sequences, num_blocks = len(directions) * batch_size, triton.cdiv(channels, tile.channels)
    segments = count_segments(num_sequences * num_blocks, length, x.device)
    num_programs = num_sequences * num_blocks * segments[0]
    entries = None
    if segments[0] > 1:
        entries = compute_entries((grad, grad), directions, packed, gate, scale, reverse, segments, True)
    leading = (len(directions), batch_size)
    scratch = packed.new_empty((num_programs, CHUNK_SIZE // 2, tile.states, tile.channels))
    grad_x, grad_dt = x.new_empty((*leading, length, channels)), x.new_empty((*leading, length, channels))
    grad_BC = packed.new_empty((num_blocks, *packed.shape))
    grad_gate = None if gate is None else packed.new_empty(grad_x.shape)
    grad_A = packed.new_empty((*leading, segments[0], state_size, channels))
    grad_bias, grad_D = (packed.new_empty((*leading, segments[0], channels)) for _ in range(2))
    backward_kernel[(num_programs,)](
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
        grad if gate is None else gate,
        grad,
        saved,
        packed if entries is None else entries,
        scratch,
        grad_x,
        grad_dt,
        grad_BC,
        packed if gate is None else grad_gate,
        grad_A,
        grad_bias,
        grad_D,
        batch_size,
        length,
        channels,
        state_size,
        *row_strides(x),
        *row_strides(firsts[1]),
        *row_strides(grad if gate is None else gate),
        *row_strides(grad),
        scale,
        int(reverse),
        *segments,
        1,
        HAS_GATE=gate is not None,
        HAS_ENTRIES=entries is not None,
        CHUNK=CHUNK_SIZE,
        **tile._asdict(),
        num_warps=1,
    )
    sums_A, sums_bias, sums_D = (value.sum((1, 2)) for value in (grad_A, grad_bias, grad_D))
    grad_B, grad_C = grad_BC.sum(0)[..., :state_size].to(x.dtype).unbind(3)
    gradients = []
    for index in range(len(directions)):
        dt, weight = tensors[index * TENSORS_PER_DIRECTION + 1 : index * TENSORS_PER_DIRECTION + 3]
        own_dt, own_weight = grad_dt[index], []
        if weight is not None:
            own_weight = [torch.matmul(own_dt.flatten(0, 1).t(), dt.flatten(0, 1)).to(weight.dtype)]
            own_dt = torch.matmul(own_dt, weight.to(dt.dtype))
        gradients += [grad_x[index], own_dt, *own_weight, sums_bias[index], sums_A[index].t().contiguous()]
        gradients += [grad_B[index].contiguous(), grad_C[index].contiguous(), sums_D[index]]
    if gate is not None:
        total = torch.empty_like(gate, memory_format=torch.contiguous_format)
        gradients.append(total.copy_(grad_gate[0]) if len(directions) == 1 else torch.add(*grad_gate, out=total))
    return gradients
