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

from ..operators import NUM_SCAN_TENSORS, unflatten
from .groups import Group, four
from .scan_forward import compute_entries, count_segments
from .tiles import (
    CHUNK_SIZE,
    Tile,
    advance,
    channel_indices,
    lay_out,
    locate,
    over_channels,
    over_states,
    pick,
    row_strides,
    sigmoid,
    softplus,
    sum_channels,
    sum_states,
    time_of,
    with_equal_strides,
)


@triton.jit
def _load_step(x, dt, BC, step, x_row, dt_row, BC_row, c, n, bias, inside, last):
    """x, dt before and after the softplus, and B; zero beyond the end, which leaves states as they are."""
    is_row = step < last
    place = tl.minimum(step, last - 1).to(tl.int64)
    x_t = tl.load(x + place * x_row + c, mask=inside & is_row, other=0.0).to(tl.float32)
    before = tl.load(dt + place * dt_row + c, mask=inside & is_row, other=0.0).to(tl.float32) + bias
    return x_t, before, tl.where(is_row, softplus(before), 0.0), tl.load(BC + place * BC_row + n)


@triton.jit(do_not_specialize=["batch_size", "length", "reverse", "num_segments", "segment_steps", "unit"])
def backward_kernel(
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
    grad,
    grad2,
    parameters,
    BC,
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
    block, clip, sequence, group, runs_backward, place, first, last = locate(
        batch_size, length, channels, reverse, num_segments, segment_steps, KR * LC
    )
    num_sequences = tl.num_programs(0) // tl.cdiv(channels, KR * LC) // num_segments
    c, inside, n, tile, in_tile, rates, bias, skip = lay_out(
        parameters, group, block, channels, state_size, unit, NR, KR, LN, LC
    )
    tile_size = state_size * channels

    # To the row of the sequence's first step in scan order; `*_row` goes to the next step.
    if group >= 2:
        gate, grad = gate2, grad2
    direction = tl.where(runs_backward, -1, 1).to(tl.int64)
    time = time_of(0, runs_backward, length)
    x = pick(group, x, x2, x3, x4) + clip * x_clip + time * x_row
    dt = pick(group, dt, dt2, dt3, dt4) + clip * dt_clip + time * dt_row
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
        num_pairs = tl.cdiv(tl.minimum(CHUNK, last - start), 2)
        state = tl.load(saved + (sequence * num_chunks + chunk) * tile_size + tile, mask=in_tile, other=0.0)
        # The states of the chunk before are no longer needed.
        tl.debug_barrier()
        for pair in range(0, num_pairs):
            tl.store(scratch + pair * (NR * LN * KR * LC) + piece, state)
            for offset in tl.static_range(2):
                step = start + pair * 2 + offset
                x_t, _, dt_t, B_t = _load_step(x, dt, BC, step, x_row, dt_row, BC_row, c, n, bias, inside, last)
                state = advance(state, rates, x_t, dt_t, B_t)
        tl.debug_barrier()
        for pair_index in range(0, num_pairs):
            pair = num_pairs - 1 - pair_index
            step = start + pair * 2
            x_u, before_u, dt_u, B_u = _load_step(x, dt, BC, step, x_row, dt_row, BC_row, c, n, bias, inside, last)
            step += 1
            x_t, before_t, dt_t, B_t = _load_step(x, dt, BC, step, x_row, dt_row, BC_row, c, n, bias, inside, last)
            first_state = tl.load(scratch + pair * (NR * LN * KR * LC) + piece)
            previous = advance(first_state, rates, x_u, dt_u, B_u)
            current = advance(previous, rates, x_t, dt_t, B_t)
            # From the gradient of the state after a time step to that of the state before it: the second step, the first.
            for _ in tl.static_range(2):
                is_row = step < last
                stored = inside & is_row
                distance = tl.minimum(step, last - 1).to(tl.int64)
                target = distance * output_row + c
                C_t = tl.load(BC + distance * BC_row + NR * LN + n)
                grad_y = tl.load(grad + distance * grad_row + c, mask=stored, other=0.0).to(tl.float32) * scale
                if HAS_GATE:
                    gate_t = tl.load(gate + distance * gate_row + c, mask=stored, other=0.0).to(tl.float32)
                    sigmoid_t = sigmoid(gate_t)
                    y = sum_states(over_channels(C_t) * current) + skip * x_t
                    slope = sigmoid_t * (1.0 + gate_t * (1.0 - sigmoid_t))
                    tl.store(grad_gate + target, y * grad_y * slope, mask=stored)
                    grad_y *= gate_t * sigmoid_t
                grad_C_t = sum_channels(current * over_states(grad_y))
                grad_state += over_channels(C_t) * over_states(grad_y)
                grad_B_t = sum_channels(grad_state * over_states(dt_t * x_t))
                grad_input = sum_states(grad_state * over_channels(B_t))
                grad_state *= tl.exp2(over_states(dt_t) * rates)
                decayed = grad_state * previous
                total_A += decayed * over_states(dt_t)
                # The rates contain log2(e).
                grad_dt_t = x_t * grad_input + 0.6931471805599453 * sum_states(decayed * rates)
                grad_before = tl.where(is_row, grad_dt_t * sigmoid(before_t), 0.0)
                total_bias += grad_before
                total_D += grad_y * x_t
                value = dt_t * grad_input + skip * grad_y
                tl.store(grad_x + target, value.to(grad_x.dtype.element_ty), mask=stored)
                tl.store(grad_dt + target, grad_before.to(grad_dt.dtype.element_ty), mask=stored)
                tl.store(grad_BC + distance * BC_row + n, grad_B_t, mask=is_row)
                tl.store(grad_BC + distance * BC_row + NR * LN + n, grad_C_t, mask=is_row)
                step -= 1
                x_t, before_t, dt_t, B_t = x_u, before_u, dt_u, B_u
                current, previous = previous, first_state
    tl.store(grad_A + place * tile_size + tile, total_A, mask=in_tile)
    tl.store(grad_bias + place * channels + c, total_bias, mask=inside)
    tl.store(grad_D + place * channels + c, total_D, mask=inside)


def backward(*arguments) -> list[Tensor]:
    """
    The operators `scan_triton_backward` and `scan_pair_triton_backward`: from the outputs' gradients, the saved states and what
    the operator took to the gradients of all tensors that are not None.
    """
    *arguments, scale, reverse = arguments
    num_layers = len(arguments) // NUM_SCAN_TENSORS
    grads, saved, tensors = list(arguments[:num_layers]), arguments[num_layers], arguments[num_layers + 1 :]
    group = Group.of(tensors)
    grads, gates = with_equal_strides(grads), group.gates or grads
    x = group.x[0]
    if len(x) == 0:
        return [torch.zeros_like(tensor) for tensor in tensors if tensor is not None]
    packed = group.pack()
    tile = Tile.backward(group.state_size)
    num_programs = group.num_programs(tile)
    segments = count_segments(num_programs, x.shape[1], x.device)
    entries = None
    if segments[0] > 1:
        entries = compute_entries(group, packed, grads, scale, reverse, segments)
    batch_size, length, channels, state_size = group.sizes
    leading = (group.num_directions, batch_size)
    scratch = packed.new_empty((num_programs * segments[0], CHUNK_SIZE // 2, tile.states, tile.channels))
    grad_x, grad_dt = (x.new_empty((*leading, length, channels)) for _ in range(2))
    grad_BC = packed.new_empty((num_programs // group.num_sequences, *packed.shape))
    grad_gate = packed.new_empty(grad_x.shape) if group.gates else None
    grad_A = packed.new_empty((*leading, segments[0], state_size, channels))
    grad_bias, grad_D = (packed.new_empty((*leading, segments[0], channels)) for _ in range(2))
    backward_kernel[(num_programs * segments[0],)](
        *four(group.x),
        *four(group.dt),
        gates[0],
        gates[-1],
        grads[0],
        grads[-1],
        group.parameters,
        packed,
        saved,
        packed if entries is None else entries,
        scratch,
        grad_x,
        grad_dt,
        grad_BC,
        packed if grad_gate is None else grad_gate,
        grad_A,
        grad_bias,
        grad_D,
        *group.sizes,
        *row_strides(x),
        *row_strides(group.dt[0]),
        *row_strides(gates[0]),
        *row_strides(grads[0]),
        scale,
        int(reverse),
        *segments,
        1,
        HAS_GATE=grad_gate is not None,
        HAS_ENTRIES=entries is not None,
        CHUNK=CHUNK_SIZE,
        **tile._asdict(),
        num_warps=1,
    )
    sums_A, sums_bias, sums_D = (value.sum((1, 2)) for value in (grad_A, grad_bias, grad_D))
    grad_B, grad_C = grad_BC.sum(0)[..., :state_size].to(x.dtype).unbind(3)
    gradients, index = [], 0
    for start in range(0, len(tensors), NUM_SCAN_TENSORS):
        first, layer = index, unflatten(tensors[start : start + NUM_SCAN_TENSORS])
        for own in (layer.first, layer.second):
            if own is None:
                continue
            own_dt, own_weight = grad_dt[index], []
            if own.dt_weight is not None:
                own_weight = [torch.matmul(own_dt.flatten(0, 1).t(), own.dt.flatten(0, 1)).to(own.dt_weight.dtype)]
                own_dt = torch.matmul(own_dt, own.dt_weight.to(own.dt.dtype))
            gradients += [grad_x[index], own_dt, *own_weight, sums_bias[index], sums_A[index].t().contiguous()]
            gradients += [grad_B[index].contiguous(), grad_C[index].contiguous(), sums_D[index]]
            index += 1
        if grad_gate is not None:
            own_gates = grad_gate[first:index]
            total = own_gates[0].new_empty(own_gates.shape[1:], dtype=x.dtype)
            gradients.append(total.copy_(own_gates[0]) if len(own_gates) == 1 else torch.add(*own_gates, out=total))
    return gradients
