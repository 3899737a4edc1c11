# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What a call of the native scan costs by itself: microseconds with next to nothing to compute, and the first one."""

import statistics
import subprocess
import sys
from typing import Any

import torch
from measuring import interleaved_times

from hf_audio_ssm import ops
from hf_audio_ssm.ops import cpu
from hf_audio_ssm.ops.operators import Direction, ScanTensors


CALLS_A_TURN = 1000
FIRST_CALL = """
import time
import torch
from hf_audio_ssm import ops

arguments = torch.ones(1, 1, 16), torch.ones(1, 1, 16), -torch.ones(16, 16), torch.ones(1, 1, 16), torch.ones(1, 1, 16)
start = time.perf_counter()
ops.selective_scan(*arguments, backend="cpu")
print(time.perf_counter() - start)
"""


def run(repeats: int) -> list[dict[str, Any]]:
    """
    Medians: a scan of one token and 16 channels called directly, without autograd or compilers; the registered operator, as autograd
    and compilers see it; the public function, which checks its arguments; and the public function's first call in a new
    process that has imported the package.
    """
    if not cpu.is_available():
        return []
    torch.set_num_threads(1)
    sequence, matrix, vector = torch.ones(1, 1, 16), -torch.ones(16, 16), torch.zeros(16)
    direction = Direction(sequence, sequence, None, vector, matrix, sequence, sequence, vector)
    tensors = ScanTensors(direction, None, None)
    calls = {
        "direct": lambda: cpu.scan(tensors, 1.0, False, False),
        "operator": lambda: cpu._scan(tensors, 1.0, False, False),
        "selective_scan": lambda: ops.selective_scan(sequence, sequence, matrix, sequence, sequence, backend="cpu"),
    }

    @torch.no_grad()
    def many(name: str) -> None:
        for _ in range(CALLS_A_TURN):
            calls[name]()

    times = interleaved_times({name: lambda name=name: many(name) for name in calls}, repeats)
    rows = [
        {"call": name, "microseconds": 1e6 * statistics.median(seconds) / CALLS_A_TURN}
        for name, seconds in times.items()
    ]
    command = [sys.executable, "-c", FIRST_CALL]
    first = [
        float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(min(3, repeats))
    ]
    return [*rows, {"call": "selective_scan, first", "microseconds": 1e6 * statistics.median(first)}]
