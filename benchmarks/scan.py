# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
The scan alone: one bidirectional layer of SSAMBA tiny from the time step's projection to the gated sum, by every way to
compute it, forward and backward, beside what the machine could do at best.

The limit of a pass is the time that its multiplications and multiply-adds take if the units for them never idle. Those of
the exponential are among them: its other steps run in other units.
"""

import argparse
import ctypes
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any


def parse_command_line() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[513], help="lengths of the sequences")
    parser.add_argument("--repeats", type=int, default=15, help="measured rounds at most")
    return parser.parse_args()


if __name__ == "__main__":
    # --help and errors of usage do not wait for the libraries below.
    parsed = parse_command_line()

import torch
import torch.nn.functional as F
from measuring import interleaved_times

from hf_audio_ssm.models.ssamba.modeling_ssamba import selective_scan
from hf_audio_ssm.ops import available_backends, cpu
from hf_audio_ssm.ops.backends import select_backend
from hf_audio_ssm.ops.operators import Direction
from hf_audio_ssm.ops.scan import LayerScan, run_scan


try:
    from mambapy.pscan import pscan
except ImportError:
    pscan = None
try:
    from mamba_ssm.ops.selective_scan_interface import selective_scan_ref
except ImportError:
    selective_scan_ref = None


TOKENS = (129, 513, 2049, 5121, 10241, 22017)
CHANNELS, STATES, RANK = 384, 16, 12
# Ways that keep a state for every token take too long and too much memory for more.
MOST_SLOW_TOKENS = 2049
LOOP = "loop over tokens"
NATIVE = "native, "
_SECONDS_A_TURN, _LONG_SECONDS, _BUDGET_SECONDS = 0.02, 0.5, 60

# Multiplications and multiply-adds of the kernels: an exponential, a softplus, and one state's update in each pass.
_EXPONENTIAL = {"avx512": 3, "avx2": 4, "baseline": 7}
_LOGARITHM = {"avx512": 6, "avx2": 9, "baseline": 9}
_FORWARD_UPDATE, _BACKWARD_UPDATE = 4, 12
_READ_BYTES = 256 << 20


@cache
def _machine() -> ctypes.CDLL | None:
    """The C functions of machine.c, for this processor; None without a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "machine.so"
        source = Path(__file__).with_name("machine.c")
        flags = ["-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC"]
        subprocess.run([compiler, *flags, str(source), "-o", str(library)], check=True)
        machine = ctypes.CDLL(str(library))
    machine.multiply_add.restype = ctypes.c_int64
    machine.multiply_add.argtypes = [ctypes.c_int64, ctypes.c_void_p]
    machine.read_all.restype = ctypes.c_float
    machine.read_all.argtypes = [ctypes.c_void_p, ctypes.c_int64]
    return machine


def _multiply_add() -> int:
    return _machine().multiply_add(1_000_000, ctypes.create_string_buffer(64))


def machine_limits() -> dict[str, Any]:
    """
    One core's throughput, medians: multiply-adds and the kernels' exponentials a nanosecond, gigabytes a second read from
    memory and copied. None for what cannot be measured: without a C compiler, or without the native kernels.
    """
    torch.set_num_threads(1)
    limits = dict.fromkeys(
        ("instruction_set", "multiply_adds_per_ns", "exponentials_per_ns", "read_gb_per_s", "copy_gb_per_s")
    )
    calls: dict[str, Callable[[], object]] = {}
    units: dict[str, float] = {}
    source, target = torch.ones(_READ_BYTES // 4), torch.zeros(_READ_BYTES // 4)
    calls["copy_gb_per_s"] = lambda: target.copy_(source)
    units["copy_gb_per_s"] = 2 * _READ_BYTES
    if _machine() is not None:
        calls["multiply_adds_per_ns"] = _multiply_add
        units["multiply_adds_per_ns"] = _multiply_add()
        calls["read_gb_per_s"] = lambda: _machine().read_all(source.data_ptr(), source.numel())
        units["read_gb_per_s"] = _READ_BYTES
    if cpu.is_available():
        limits["instruction_set"] = cpu.available_isas()[0]
        # In place, in the second cache: long enough to hide what a call from Python costs.
        values = torch.zeros(1 << 16)
        arguments = (values.data_ptr(), values.data_ptr(), values.numel(), -1)
        calls["exponentials_per_ns"] = lambda: [cpu._library.hf_audio_ssm_exp2(*arguments) for _ in range(200)]
        units["exponentials_per_ns"] = 200 * values.numel()
    for name, times in interleaved_times(calls, repeats=15).items():
        limits[name] = units[name] / statistics.median(times) / 1e9
    return limits


def make_directions(tokens: int) -> tuple[list[Direction], torch.Tensor]:
    """Both directions' tensors, and the gate."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    directions = []
    for _ in range(2):
        time_step, B, C = normal(1, tokens, RANK + 2 * STATES).split([RANK, STATES, STATES], dim=-1)
        A = -torch.arange(1.0, STATES + 1).repeat(CHANNELS, 1)
        weight, bias = normal(CHANNELS, RANK) * RANK**-0.5, normal(CHANNELS) - 4
        directions.append(
            Direction(normal(1, tokens, CHANNELS), time_step, weight, bias, A, B, C, torch.ones(CHANNELS))
        )
    return directions, normal(1, tokens, 2 * CHANNELS)[..., CHANNELS:]


def _by_tokens(hidden_states, time_step, A, B, C, D, reverse):
    return selective_scan(hidden_states, time_step, A, B, C, D, reverse=reverse)


def _by_mambapy(hidden_states, time_step, A, B, C, D, reverse):
    sequences = (hidden_states, time_step, B, C)
    x, dt, B, C = (value.flip(1) for value in sequences) if reverse else sequences
    states = pscan(torch.exp(dt.unsqueeze(-1) * A), (dt * x).unsqueeze(-1) * B.unsqueeze(2))
    output = (states @ C.unsqueeze(-1)).squeeze(3) + D * x
    return output.flip(1) if reverse else output


def _by_mamba_ssm(hidden_states, time_step, A, B, C, D, reverse):
    values = [value.transpose(1, 2) for value in (hidden_states, time_step, B, C)]
    x, dt, B, C = (value.flip(2) for value in values) if reverse else values
    output = selective_scan_ref(x, dt, A, B, C, D)
    return (output.flip(2) if reverse else output).transpose(1, 2)


def _with_torch_around(scan: Callable) -> Callable:
    def run(directions, gate):
        total = 0
        for reverse, (x, dt, weight, bias, A, B, C, D) in zip((False, True), directions, strict=True):
            total = total + scan(x, F.softplus(F.linear(dt, weight, bias)), A, B, C, D, reverse)
        return total * F.silu(gate) / 2

    return run


def _by_backend(name: str) -> Callable:
    backend = select_backend("cpu", torch.float32, name)
    return lambda directions, gate: run_scan(LayerScan(directions, gate, False), 0.5, backend)


@contextmanager
def _instruction_set(way: str) -> Iterator[None]:
    """Lets a native way use the instruction set that it is named after."""
    before = cpu._isa
    if way.startswith(NATIVE):
        cpu._isa = cpu._ISAS.index(way.removeprefix(NATIVE))
    try:
        yield
    finally:
        cpu._isa = before


def ways() -> dict[str, Callable]:
    """What is compared, by name."""
    found = {}
    if "cpu" in available_backends("cpu"):
        found = {NATIVE + isa: _by_backend("cpu") for isa in cpu.available_isas()}
    found["plain PyTorch"] = _by_backend("reference")
    if pscan is not None:
        found["mambapy"] = _with_torch_around(_by_mambapy)
    if selective_scan_ref is not None:
        found["mamba_ssm reference"] = _with_torch_around(_by_mamba_ssm)
    found[LOOP] = _with_torch_around(_by_tokens)
    return found


def multiplications(isa: str, backward: bool) -> float:
    """Multiplications and multiply-adds per token and channel, both directions: the limit's numerator."""
    exponential, logarithm = _EXPONENTIAL[isa], _LOGARITHM[isa]
    softplus = 1 + exponential + logarithm
    gate = 3 + exponential
    if not backward:
        return 2 * (STATES * (exponential + _FORWARD_UPDATE) + RANK + softplus + 2) + gate
    return 2 * (STATES * (exponential + _BACKWARD_UPDATE) + 3 * RANK + 2 * softplus + 10) + 2 * gate


def run(
    thread_counts: list[int], limits: dict[str, Any], repeats: int, tokens: tuple[int, ...] = TOKENS
) -> list[dict[str, Any]]:
    """
    Args:
        thread_counts: Numbers of threads to measure with.
        limits: From `machine_limits`, for the memory's share.
        repeats: Measured rounds at most.
        tokens: Lengths of the sequences.

    Returns:
        Rows: medians in milliseconds, the fastest call, how many times as fast as the loop over tokens, and for the native
        kernels the share of the time that their multiply-adds (measured in between) and their memory traffic need.
    """
    rows = []
    contenders = ways()
    for threads in thread_counts:
        torch.set_num_threads(threads)
        for length in tokens:
            names = [
                name
                for name in contenders
                if length <= MOST_SLOW_TOKENS or name.startswith(NATIVE) or name == "plain PyTorch"
            ]
            rows += _measure(length, threads, {name: contenders[name] for name in names}, limits, repeats)
    return rows


def _interleaved(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """
    Seconds of a call by name, turn by turn. In its turn a way is called often enough to fill `_SECONDS_A_TURN`, after a call
    that does not count unless it alone takes longer than `_LONG_SECONDS`: so it finds its data in the caches and its memory
    at hand, as in a model, and not what the way before it has left there.
    """
    times: dict[str, list[float]] = {key: [] for key in calls}
    begin = time.perf_counter()
    for round_index in range(repeats):
        if round_index and time.perf_counter() - begin > _BUDGET_SECONDS:
            break
        for key, call in calls.items():
            with _instruction_set(key.partition("/")[2]):
                start = time.perf_counter()
                call()
                elapsed = time.perf_counter() - start
                if elapsed < _LONG_SECONDS:
                    count = max(1, min(50, int(_SECONDS_A_TURN / elapsed)))
                    start = time.perf_counter()
                    for _ in range(count):
                        call()
                    elapsed = (time.perf_counter() - start) / count
                times[key].append(elapsed)
    return times


def _measure(length, threads, contenders, limits, repeats) -> list[dict[str, Any]]:
    directions, gate = make_directions(length)
    leaves = [tensor.requires_grad_() for direction in directions for tensor in direction] + [gate.requires_grad_()]
    ones = torch.ones(1, length, CHANNELS)
    calls: dict[str, Callable[[], object]] = {}
    for name, contender in contenders.items():
        with _instruction_set(name):
            output = contender(directions, gate)
        calls[f"forward/{name}"] = torch.no_grad()(lambda contender=contender: contender(directions, gate))
        calls[f"backward/{name}"] = lambda output=output: torch.autograd.grad(output, leaves, ones, retain_graph=True)
    if _machine() is not None:
        calls["multiply-adds"] = _multiply_add
    times = _interleaved(calls, repeats)
    medians = {key: statistics.median(values) for key, values in times.items()}
    rows = []
    for direction in ("forward", "backward"):
        for name in contenders:
            key = f"{direction}/{name}"
            row = {
                "threads": threads,
                "tokens": length,
                "pass": direction,
                "way": name,
                "ms": 1000 * medians[key],
                "fastest_ms": 1000 * min(times[key]),
                "times_the_loop": None,
                "of_the_forward": medians[key] / medians[f"forward/{name}"],
                "share_of_multiply_adds": None,
                "share_of_memory": None,
            }
            if LOOP in contenders:
                row["times_the_loop"] = medians[f"{direction}/{LOOP}"] / medians[key]
            isa = name.removeprefix(NATIVE)
            if isa == limits["instruction_set"] and "multiply-adds" in medians:
                operations = multiplications(isa, direction == "backward") * length * CHANNELS
                per_second = _multiply_add() / medians["multiply-adds"]
                row["share_of_multiply_adds"] = operations / per_second / threads / medians[key]
                # x and its gradient of both directions, the gate, the result, theirs; B, C and dt are small.
                values = (4 if direction == "forward" else 7) * length * CHANNELS
                row["share_of_memory"] = 4 * values / (1e9 * limits["copy_gb_per_s"]) / medians[key]
            rows.append(row)
    return rows


if __name__ == "__main__":
    from measuring import table

    threads = sorted({1, torch.get_num_threads()})
    found = machine_limits()
    print(table([found]))
    print(table(run(threads, found, repeats=parsed.repeats, tokens=tuple(parsed.tokens))))
