# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Large results and working memory on a CPU.

The allocator returns large pieces of memory to the system when they are freed, and each page of the next piece costs a page
fault. On long audio this can take longer than the arithmetic. Huge pages make faults rare.
"""

import ctypes
import math
import mmap
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from .linear import is_eager_inference


# Tensors of this size and more get huge pages, and are computed block by block.
LARGE_BYTES = 4 << 20
# A block of rows that stays in a core's cache, and whose memory the allocator keeps.
BLOCK_BYTES = 1 << 20

_MADV_HUGEPAGE = 14


def _find_madvise() -> Callable[[ctypes.c_void_p, ctypes.c_size_t, int], int] | None:
    if sys.platform != "linux":
        return None
    return getattr(ctypes.CDLL(None), "madvise", None)


_madvise = _find_madvise()


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """`torch.empty` on the CPU, in huge pages if the tensor is large and the system has such pages."""
    # Sizes one by one take torch half as long to read as a tuple.
    tensor = torch.empty(*shape, dtype=dtype, device="cpu")
    size = tensor.nbytes
    if size >= LARGE_BYTES and _madvise is not None:
        # For the whole pages inside. This is advice: the system may ignore it.
        start = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        end = (tensor.data_ptr() + size) // mmap.PAGESIZE * mmap.PAGESIZE
        _madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_HUGEPAGE)
    return tensor


class Buffers:
    """Named pieces of memory that are handed out again and again."""

    def __init__(self):
        self._tensors: dict[tuple[str, torch.dtype], Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        size = math.prod(shape)
        tensor = self._tensors.get((name, dtype))
        if tensor is None or tensor.numel() < size:
            tensor = self._tensors[name, dtype] = empty((size,), dtype)
        return tensor[:size].view(shape)


_local = threading.local()


@contextmanager
def shared_buffers() -> Iterator[None]:
    """Lets the layers called by this thread share their buffers, which are freed at the end."""
    outer = getattr(_local, "buffers", None)
    _local.buffers = outer or Buffers()
    try:
        yield
    finally:
        _local.buffers = outer


def current_buffers() -> Buffers:
    """Those of `shared_buffers`, or new ones."""
    return getattr(_local, "buffers", None) or Buffers()


def map_rows(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """
    `function(*inputs)`, for a function that treats each row by itself. A large result on a CPU is computed block by block, in
    memory from `empty`, if no gradient is wanted.

    Args:
        function: takes tensors (..., features) of common leading dimensions, and returns one with the same.
        inputs: the tensors.
    """
    first = inputs[0]
    # In this order: in an exporter, comparing sizes would become a condition on the batch.
    if not all(map(is_eager_inference, inputs)) or first.numel() * first.element_size() < LARGE_BYTES:
        return function(*inputs)
    *leading, features = first.shape
    rows = [tensor.reshape(-1, tensor.shape[-1]) for tensor in inputs]
    step = block_rows(features, first.dtype)
    block = function(*(tensor[:step] for tensor in rows))
    output = empty((rows[0].shape[0], block.shape[-1]), block.dtype)
    output[:step] = block
    for start in range(step, rows[0].shape[0], step):
        output[start : start + step] = function(*(tensor[start : start + step] for tensor in rows))
    return output.view(*leading, output.shape[-1])


def block_rows(features: int, dtype: torch.dtype) -> int:
    """How many rows make a block."""
    return max(64, BLOCK_BYTES // (features * dtype.itemsize))
