# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Depthwise convolutions of both time directions with SiLU. A program reads a tile of rows and channels, and the rows before and
after it from the cache, and computes both directions. The backward pass goes back through the SiLU first, recomputing what
was before it, and then through the convolutions.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .tiles import row_strides, sigmoid, with_contiguous_rows


_ROWS, _CHANNELS = 32, 64


@triton.jit
def _tile_indices(length, channels, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """A program's channels (1, CHANNELS), rows (ROWS, 1), number of its tile of rows, and clip."""
    num_blocks = tl.cdiv(channels, CHANNELS)
    num_tiles = tl.cdiv(length, ROWS)
    tile = tl.program_id(0) // num_blocks
    c = (tl.program_id(0) % num_blocks * CHANNELS + tl.arange(0, CHANNELS))[None, :]
    row = (tile % num_tiles * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    return c, row, tile.to(tl.int64), (tile // num_tiles).to(tl.int64)


@triton.jit
def _load_rows(x, row, x_row, c, inside, length):
    """Rows of x, zero beyond its ends."""
    is_row = (row >= 0) & (row < length)
    return tl.load(x + row * x_row + c, mask=inside & is_row, other=0.0).to(tl.float32)


@triton.jit
def _convolve(x, weight, bias, row, x_row, c, inside, length, SHIFT: tl.constexpr, KERNEL: tl.constexpr):
    """What goes into the SiLU at the rows; SHIFT is 1 for the causal direction, -1 for the other one."""
    total = tl.load(bias + c, mask=inside, other=0.0) + tl.zeros(row.shape, tl.float32)
    for tap in tl.static_range(KERNEL):
        values = _load_rows(x, row + (tap - KERNEL + 1) * SHIFT, x_row, c, inside, length)
        total += tl.load(weight + c * KERNEL + tap, mask=inside, other=0.0) * values
    return total


@triton.jit(do_not_specialize=["length"])
def convolution_kernel(
    x,
    weight,
    bias,
    weight2,
    bias2,
    output,
    output2,
    length,
    channels,
    x_clip,
    x_row,
    KERNEL: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    c, row, _, clip = _tile_indices(length, channels, ROWS, CHANNELS)
    inside = c < channels
    x += clip * x_clip
    target = (clip * length + row) * channels + c
    stored = inside & (row < length)
    total = _convolve(x, weight, bias, row, x_row, c, inside, length, 1, KERNEL)
    tl.store(output + target, (total * sigmoid(total)).to(output.dtype.element_ty), mask=stored)
    total = _convolve(x, weight2, bias2, row, x_row, c, inside, length, -1, KERNEL)
    tl.store(output2 + target, (total * sigmoid(total)).to(output.dtype.element_ty), mask=stored)


@triton.jit
def _through_silu(
    x,
    weight,
    bias,
    grad,
    grad_before,
    sums,
    row,
    x_row,
    grad_row,
    c,
    inside,
    length,
    channels,
    SHIFT: tl.constexpr,
    KERNEL: tl.constexpr,
):
    """Stores one direction's gradient before the SiLU, and the rows' sums for the weight and the bias."""
    before = _convolve(x, weight, bias, row, x_row, c, inside, length, SHIFT, KERNEL)
    sigmoid_before = sigmoid(before)
    values = _load_rows(grad, row, grad_row, c, inside, length) * sigmoid_before
    values *= 1.0 + before * (1.0 - sigmoid_before)
    tl.store(grad_before + row * channels + c, values.to(grad_before.dtype.element_ty), mask=inside & (row < length))
    for tap in tl.static_range(KERNEL):
        taken = _load_rows(x, row + (tap - KERNEL + 1) * SHIFT, x_row, c, inside, length)
        tl.store(sums + tap * channels + c, tl.sum(values * taken, 0)[None, :], mask=inside)
    tl.store(sums + KERNEL * channels + c, tl.sum(values, 0)[None, :], mask=inside)


@triton.jit(do_not_specialize=["length"])
def silu_backward_kernel(
    x,
    weight,
    bias,
    weight2,
    bias2,
    grad,
    grad2,
    grad_before,
    grad_before2,
    sums,
    length,
    channels,
    x_clip,
    x_row,
    grad_clip,
    grad_row,
    grad2_clip,
    grad2_row,
    KERNEL: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """From the gradients of the results to those before the SiLU, and to each tile's share of the parameters' gradients."""
    c, row, tile, clip = _tile_indices(length, channels, ROWS, CHANNELS)
    inside = c < channels
    x += clip * x_clip
    grad += clip * grad_clip
    grad2 += clip * grad2_clip
    grad_before += clip * length * channels
    grad_before2 += clip * length * channels
    sums += tile * (2 * (KERNEL + 1)) * channels
    _through_silu(
        x, weight, bias, grad, grad_before, sums, row, x_row, grad_row, c, inside, length, channels, 1, KERNEL
    )
    sums += (KERNEL + 1) * channels
    _through_silu(
        x, weight2, bias2, grad2, grad_before2, sums, row, x_row, grad2_row, c, inside, length, channels, -1, KERNEL
    )


@triton.jit(do_not_specialize=["length"])
def transposed_kernel(
    grad_before,
    grad_before2,
    weight,
    weight2,
    grad_x,
    length,
    channels,
    KERNEL: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """From the gradients before the SiLU to that of x."""
    c, row, _, clip = _tile_indices(length, channels, ROWS, CHANNELS)
    inside = c < channels
    offset = clip * length * channels
    total = tl.zeros((ROWS, CHANNELS), tl.float32)
    for distance in tl.static_range(KERNEL):
        tap = KERNEL - 1 - distance
        values = _load_rows(grad_before + offset, row + distance, channels, c, inside, length)
        total += tl.load(weight + c * KERNEL + tap, mask=inside, other=0.0) * values
        values = _load_rows(grad_before2 + offset, row - distance, channels, c, inside, length)
        total += tl.load(weight2 + c * KERNEL + tap, mask=inside, other=0.0) * values
    target = grad_x + offset + row * channels + c
    tl.store(target, total.to(grad_x.dtype.element_ty), mask=inside & (row < length))


def _num_tiles(x: Tensor) -> int:
    return x.shape[0] * triton.cdiv(x.shape[1], _ROWS)


def forward(x: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
    """The operator `convolution_triton`."""
    x = with_contiguous_rows(x)
    outputs = x.new_empty(x.shape), x.new_empty(x.shape)
    if x.shape[0]:
        parameters = [parameter.contiguous() for parameter in parameters]
        convolution_kernel[(_num_tiles(x) * triton.cdiv(x.shape[2], _CHANNELS),)](
            x,
            *parameters,
            *outputs,
            *x.shape[1:],
            *row_strides(x),
            KERNEL=parameters[0].shape[1],
            ROWS=_ROWS,
            CHANNELS=_CHANNELS,
        )
    return outputs


def backward(grad: Tensor, grad2: Tensor, x: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
    """The operator `convolution_triton_backward`."""
    x, grad, grad2 = (with_contiguous_rows(tensor) for tensor in (x, grad, grad2))
    channels, kernel_size = parameters[0].shape
    grad_x = x.new_empty(x.shape)
    sums = x.new_empty((_num_tiles(x), 2, kernel_size + 1, channels), dtype=torch.float32)
    if x.shape[0]:
        grid = (_num_tiles(x) * triton.cdiv(channels, _CHANNELS),)
        sizes = {"KERNEL": kernel_size, "ROWS": _ROWS, "CHANNELS": _CHANNELS}
        parameters = [parameter.contiguous() for parameter in parameters]
        grad_before = x.new_empty((2, *x.shape))
        silu_backward_kernel[grid](
            x,
            *parameters,
            grad,
            grad2,
            *grad_before,
            sums,
            *x.shape[1:],
            *row_strides(x),
            *row_strides(grad),
            *row_strides(grad2),
            **sizes,
        )
        transposed_kernel[grid](*grad_before, parameters[0], parameters[2], grad_x, *x.shape[1:], **sizes)
    gradients = [grad_x]
    for direction in sums.sum(0):
        gradients += [direction[:kernel_size].t().contiguous(), direction[kernel_size].clone()]
    return tuple(gradients)
