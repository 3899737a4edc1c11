# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Depthwise convolutions of both time directions with SiLU, of one layer or both layers of a pair. A program reads a tile of rows
and channels, and the rows before and after it from the cache, and computes both directions. The backward pass goes back through the SiLU first, recomputing what
was before it, and then through the convolutions.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..operators import NUM_CONVOLUTION_TENSORS
from .tiles import row_strides, sigmoid, with_equal_strides


_ROWS, _CHANNELS = 32, 64


@triton.jit
def _locate(batch_size, length, channels, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """
    A program's channels (1, CHANNELS) and which of them exist; rows (ROWS, 1); number of its tile of rows; clip, among those
    of all layers and of its own; and whether that is the second layer.
    """
    num_blocks = tl.cdiv(channels, CHANNELS)
    num_tiles = tl.cdiv(length, ROWS)
    tile = tl.program_id(0) // num_blocks
    sequence = tile // num_tiles
    clip = (sequence % batch_size).to(tl.int64)
    c = (tl.program_id(0) % num_blocks * CHANNELS + tl.arange(0, CHANNELS))[None, :]
    row = (tile % num_tiles * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    return c, c < channels, row, tile.to(tl.int64), sequence.to(tl.int64), clip, sequence >= batch_size


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


@triton.jit(do_not_specialize=["batch_size", "length"])
def convolution_kernel(
    x,
    weight,
    bias,
    weight2,
    bias2,
    x2,
    weight3,
    bias3,
    weight4,
    bias4,
    output,
    output2,
    output3,
    output4,
    batch_size,
    length,
    channels,
    x_clip,
    x_row,
    KERNEL: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    c, inside, row, _, _, clip, is_second = _locate(batch_size, length, channels, ROWS, CHANNELS)
    if is_second:
        x, weight, bias, weight2, bias2 = x2, weight3, bias3, weight4, bias4
        output, output2 = output3, output4
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


@triton.jit(do_not_specialize=["batch_size", "length"])
def silu_backward_kernel(
    x,
    weight,
    bias,
    weight2,
    bias2,
    x2,
    weight3,
    bias3,
    weight4,
    bias4,
    grad,
    grad2,
    grad3,
    grad4,
    grad_before,
    grad_before2,
    sums,
    batch_size,
    length,
    channels,
    x_clip,
    x_row,
    grad_clip,
    grad_row,
    KERNEL: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """From the gradients of the results to those before the SiLU, and to each tile's share of the parameters' gradients."""
    c, inside, row, tile, sequence, clip, is_second = _locate(batch_size, length, channels, ROWS, CHANNELS)
    if is_second:
        x, weight, bias, weight2, bias2 = x2, weight3, bias3, weight4, bias4
        grad, grad2 = grad3, grad4
    x += clip * x_clip
    grad += clip * grad_clip
    grad2 += clip * grad_clip
    grad_before += sequence * length * channels
    grad_before2 += sequence * length * channels
    sums += tile * (2 * (KERNEL + 1)) * channels
    _through_silu(
        x, weight, bias, grad, grad_before, sums, row, x_row, grad_row, c, inside, length, channels, 1, KERNEL
    )
    sums += (KERNEL + 1) * channels
    _through_silu(
        x, weight2, bias2, grad2, grad_before2, sums, row, x_row, grad_row, c, inside, length, channels, -1, KERNEL
    )


@triton.jit(do_not_specialize=["batch_size", "length"])
def transposed_kernel(
    grad_before,
    grad_before2,
    weight,
    weight2,
    weight3,
    weight4,
    grad_x,
    batch_size,
    length,
    channels,
    KERNEL: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """From the gradients before the SiLU to that of x."""
    c, inside, row, _, sequence, _, is_second = _locate(batch_size, length, channels, ROWS, CHANNELS)
    if is_second:
        weight, weight2 = weight3, weight4
    offset = sequence * length * channels
    total = tl.zeros((ROWS, CHANNELS), tl.float32)
    for distance in tl.static_range(KERNEL):
        tap = KERNEL - 1 - distance
        values = _load_rows(grad_before + offset, row + distance, channels, c, inside, length)
        total += tl.load(weight + c * KERNEL + tap, mask=inside, other=0.0) * values
        values = _load_rows(grad_before2 + offset, row - distance, channels, c, inside, length)
        total += tl.load(weight2 + c * KERNEL + tap, mask=inside, other=0.0) * values
    target = grad_x + offset + row * channels + c
    tl.store(target, total.to(grad_x.dtype.element_ty), mask=inside & (row < length))


def _split(tensors: tuple[Tensor, ...]) -> tuple[list[Tensor], list[list[Tensor]]]:
    """Each layer's x as the kernels read them, and its parameters."""
    layers = [
        tensors[start : start + NUM_CONVOLUTION_TENSORS] for start in range(0, len(tensors), NUM_CONVOLUTION_TENSORS)
    ]
    parameters = [[parameter.contiguous() for parameter in layer[1:]] for layer in layers]
    return with_equal_strides([layer[0] for layer in layers]), parameters


def _count_tiles(xs: list[Tensor]) -> int:
    return len(xs) * xs[0].shape[0] * triton.cdiv(xs[0].shape[1], _ROWS)


def forward(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The operators `convolution_triton` and `convolution_pair_triton`."""
    xs, parameters = _split(tensors)
    x, kernel_size = xs[0], parameters[0][0].shape[1]
    outputs = [x.new_empty(x.shape) for _ in range(2 * len(xs))]
    if x.shape[0]:
        convolution_kernel[(_count_tiles(xs) * triton.cdiv(x.shape[2], _CHANNELS),)](
            xs[0],
            *parameters[0],
            xs[-1],
            *parameters[-1],
            *outputs[:2],
            *outputs[-2:],
            *x.shape,
            *row_strides(x),
            KERNEL=kernel_size,
            ROWS=_ROWS,
            CHANNELS=_CHANNELS,
        )
    return tuple(outputs)


def backward(*arguments: Tensor) -> tuple[Tensor, ...]:
    """The operators `convolution_triton_backward` and `convolution_pair_triton_backward`."""
    num_grads = 2 * len(arguments) // (2 + NUM_CONVOLUTION_TENSORS)
    grads = with_equal_strides(list(arguments[:num_grads]))
    xs, parameters = _split(arguments[num_grads:])
    x, (channels, kernel_size) = xs[0], parameters[0][0].shape
    grad_x = x.new_empty((len(xs), *x.shape))
    sums = x.new_empty((_count_tiles(xs), 2, kernel_size + 1, channels), dtype=torch.float32)
    if x.shape[0]:
        grid = (_count_tiles(xs) * triton.cdiv(channels, _CHANNELS),)
        sizes = {"KERNEL": kernel_size, "ROWS": _ROWS, "CHANNELS": _CHANNELS}
        grad_before = x.new_empty((2, *grad_x.shape))
        silu_backward_kernel[grid](
            xs[0],
            *parameters[0],
            xs[-1],
            *parameters[-1],
            *grads[:2],
            *grads[-2:],
            *grad_before,
            sums,
            *x.shape,
            *row_strides(x),
            *row_strides(grads[0]),
            **sizes,
        )
        weights = [layer[index] for layer in (parameters[0], parameters[-1]) for index in (0, 2)]
        transposed_kernel[grid](*grad_before, *weights, grad_x, *x.shape, **sizes)
    gradients = []
    for own_grad_x, own_sums in zip(grad_x, sums.view(len(xs), -1, *sums.shape[1:]).sum(1), strict=True):
        gradients.append(own_grad_x)
        for direction in own_sums:
            gradients += [direction[:kernel_size].t().contiguous(), direction[kernel_size].clone()]
    return tuple(gradients)
