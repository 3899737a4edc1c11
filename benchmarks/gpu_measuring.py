# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Time by CUDA events and memory by torch's allocator, and what a GPU's own limits make of them."""

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from measuring import interleaved_times, peak_memory, wall_seconds


@dataclass(frozen=True)
class Meter:
    """Measures calls on a device: "cuda", or "cpu" to try the benchmarks out."""

    device: str

    def seconds(self, call: Callable[[], object]) -> float:
        """Seconds that a call takes, on the GPU between two events around it."""
        if self.device == "cpu":
            return wall_seconds(call)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1000

    def peak(self, call: Callable[[], object]) -> int | None:
        """Bytes by which memory grows in a call above what is held before it."""
        if self.device == "cpu":
            return peak_memory(call)[1]
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    def medians(self, calls: Mapping[str, Callable[[], object]], repeats: int, budget: float) -> dict[str, float]:
        """
        Median seconds of calls in turn; see `interleaved_times`. A call for which there is no memory beside what the others
        hold has none.
        """
        times = interleaved_times(calls, repeats, warm_ups=1, budget=budget, seconds_of=self._seconds_or_nan)
        return {name: statistics.median(values) for name, values in times.items() if not any(map(math.isnan, values))}

    def _seconds_or_nan(self, call: Callable[[], object]) -> float:
        try:
            return self.seconds(call)
        except torch.OutOfMemoryError:
            pass
        # Outside the handler, whose exception holds the call's tensors.
        self.free()
        return math.nan

    def free(self) -> None:
        """Gives back what torch's allocator keeps."""
        if self.device == "cuda":
            torch.cuda.empty_cache()


@dataclass(frozen=True)
class Limits:
    """What a GPU does in a second at best, measured: see `gpu_machine.measure`."""

    bytes: float
    exponentials: float
    multiply_adds: float
    matrix_multiply_adds: float


@dataclass(frozen=True)
class Needs:
    """What a computation cannot do without: bytes moved, with each input read and each output written once, and operations."""

    bytes: float = 0
    exponentials: float = 0
    multiply_adds: float = 0
    matrix_multiply_adds: float = 0

    def seconds(self, limits: Limits) -> float:
        """The time below which no version gets: that of the scarcest."""
        return max(getattr(self, field) / getattr(limits, field) for field in self.__dataclass_fields__)

    def __add__(self, other: "Needs") -> "Needs":
        return Needs(*(getattr(self, field) + getattr(other, field) for field in self.__dataclass_fields__))

    def __rmul__(self, factor: float) -> "Needs":
        return Needs(*(factor * getattr(self, field) for field in self.__dataclass_fields__))


def scan_needs(
    shape: tuple[int, int, int], state_size: int, num_directions: int, itemsize: int, is_backward: bool
) -> Needs:
    """
    Of a gated scan with its time steps given.

    A state's update takes an exponential; dt A, dt B x, the decay and C h are a multiply-add each. Going back through it
    takes the update again and 9 more: to the gradients of A, B, C, dt (2), x, the gate, and of the state itself (2). A time
    step's softplus takes an exponential and 10 multiply-adds, its derivative 2 exponentials (one a reciprocal) and 2
    multiply-adds, and so the gate and its.

    Args:
        shape: batch, length, channels.
        state_size, num_directions: of the scan.
        itemsize: bytes of a value of x, dt, B, C, the gate and the output.
        is_backward: the gradients, from the inputs and the output's gradient, instead of the output.
    """
    batch_size, length, channels = shape
    tokens = batch_size * length
    per_value = Needs(exponentials=state_size + 1, multiply_adds=4 * state_size + 12)
    gate = Needs(exponentials=2, multiply_adds=3)
    # x and dt of each direction; the gate and the output.
    tensors, rows = 2 * num_directions + 2, 2 * num_directions
    if is_backward:
        per_value = per_value + Needs(exponentials=2, multiply_adds=9 * state_size + 6)
        gate = gate + Needs(multiply_adds=4)
        # Their gradients too: that of the output is read, and it itself is not needed.
        tensors, rows = 2 * tensors - 1, 2 * rows
    moved = Needs(bytes=itemsize * tokens * (tensors * channels + rows * state_size))
    return moved + tokens * channels * (num_directions * per_value + gate)


def convolution_needs(shape: tuple[int, int, int], kernel_size: int, itemsize: int, is_backward: bool) -> Needs:
    """Of both directions' convolutions with SiLU, of (batch, length, channels); arguments as in `scan_needs`."""
    batch_size, length, channels = shape
    values = batch_size * length * channels
    # Back: what was before the SiLU again, and the gradients of x and of the weight.
    multiply_adds = (3 * kernel_size + 4) if is_backward else kernel_size + 1
    tensors = 4 if is_backward else 3
    return values * Needs(bytes=itemsize * tensors, exponentials=4, multiply_adds=2 * multiply_adds)


def linear_needs(tokens: int, in_features: int, out_features: int, itemsize: int) -> Needs:
    """Of a linear layer's product."""
    moved = itemsize * (tokens * (in_features + out_features) + in_features * out_features)
    return Needs(bytes=moved, matrix_multiply_adds=tokens * in_features * out_features)


def measure_or_say_why(
    meter: Meter, make_call: Callable[[], Callable[[], object]], measures_memory: bool = True
) -> tuple[Callable[[], object] | None, dict[str, Any]]:
    """
    Makes a call and calls it once to warm up and once for its time and memory.

    Returns:
        The call, and its `seconds` and `peak_mib`; None, and why it is `left_out`, where the device's memory does not suffice.
    """
    try:
        call = make_call()
        call()
        seconds = meter.seconds(call)
        peak = meter.peak(call) if measures_memory else None
    except torch.OutOfMemoryError:
        failure = "out of memory"
    else:
        return call, {"seconds": seconds, "peak_mib": None if peak is None else peak / 2**20, "left_out": None}
    # Outside the handler, whose exception holds the call's tensors.
    meter.free()
    return None, {"seconds": None, "peak_mib": None, "left_out": failure}
