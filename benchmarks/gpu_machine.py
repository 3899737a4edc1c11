# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What a GPU does in a second at best, measured: copies, exponentials, multiply-adds, products of matrices."""

import torch
import triton
import triton.language as tl
from gpu_measuring import Limits, Meter


_VALUES, _ROUNDS = 1024, 4096
_COPIED_BYTES = 4 << 30
_MATRIX_SIZE = 8192


@triton.jit
def exponential_kernel(output, VALUES: tl.constexpr, ROUNDS: tl.constexpr):
    values = tl.arange(0, VALUES).to(tl.float32) / VALUES
    for _ in range(ROUNDS):
        values = tl.exp2(-values)
    tl.store(output + tl.program_id(0) * VALUES + tl.arange(0, VALUES), values)


@triton.jit
def multiply_add_kernel(output, VALUES: tl.constexpr, ROUNDS: tl.constexpr):
    values = tl.arange(0, VALUES).to(tl.float32) / VALUES
    for _ in range(ROUNDS):
        values = values * 0.999 + 0.001
    tl.store(output + tl.program_id(0) * VALUES + tl.arange(0, VALUES), values)


def measure(meter: Meter, dtype: torch.dtype, repeats: int) -> Limits:
    """Medians of calls in turn; products of matrices (random: zeros are faster) in `dtype`."""
    programs = 16 * torch.cuda.get_device_properties(0).multi_processor_count
    results = torch.empty(programs * _VALUES, device=meter.device)
    source, target = (torch.randn(_COPIED_BYTES // 4, device=meter.device) for _ in range(2))
    left, right = (torch.randn(_MATRIX_SIZE, _MATRIX_SIZE, device=meter.device, dtype=dtype) for _ in range(2))
    calls = {
        "bytes": lambda: target.copy_(source),
        "exponentials": lambda: exponential_kernel[(programs,)](results, VALUES=_VALUES, ROUNDS=_ROUNDS),
        "multiply_adds": lambda: multiply_add_kernel[(programs,)](results, VALUES=_VALUES, ROUNDS=_ROUNDS),
        "matrix_multiply_adds": lambda: left @ right,
    }
    units = {
        "bytes": 2 * _COPIED_BYTES,
        "exponentials": programs * _VALUES * _ROUNDS,
        "multiply_adds": programs * _VALUES * _ROUNDS,
        "matrix_multiply_adds": _MATRIX_SIZE**3,
    }
    medians = meter.medians(calls, repeats, budget=30)
    return Limits(**{name: units[name] / medians[name] for name in units})
