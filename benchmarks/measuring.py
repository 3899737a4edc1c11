# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""How the benchmarks measure time and memory, and write what they measured."""

import ctypes
import json
import math
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def wall_seconds(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def interleaved_times(
    calls: Mapping[str, Callable[[], object]],
    repeats: int,
    warm_ups: int = 2,
    budget: float = math.inf,
    seconds_of: Callable[[Callable[[], object]], float] = wall_seconds,
) -> dict[str, list[float]]:
    """
    Calls in turn, so that a change in the machine's load meets all.

    Args:
        calls: What to call, by name.
        repeats: Measured rounds at most.
        warm_ups: Rounds before them that are not measured.
        budget: Seconds after which no further round is begun; one is always measured.
        seconds_of: Makes a call and returns the seconds that it takes.

    Returns:
        Seconds of each measured call, by name.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    begin = time.perf_counter()
    for round_index in range(-warm_ups, repeats):
        if round_index > 0 and time.perf_counter() - begin > budget:
            break
        for name, call in calls.items():
            elapsed = seconds_of(call)
            if round_index >= 0:
                times[name].append(elapsed)
    return times


def _status_bytes(field: str) -> int:
    return 1024 * int(re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)[1])


def peak_memory(call: Callable[[], object]) -> tuple[float, int | None]:
    """A call's seconds and the bytes by which the process grows meanwhile; None where the system (not Linux) is silent."""
    reset = Path("/proc/self/clear_refs")
    before = None
    if reset.exists():
        # Memory that was freed but kept would hide what the call takes.
        ctypes.CDLL(None).malloc_trim(0)
        before = _status_bytes("VmRSS")
        reset.write_text("5")
    seconds = wall_seconds(call)
    return seconds, None if before is None else _status_bytes("VmHWM") - before


def available_memory() -> int:
    """Bytes that the machine can still give."""
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def write_json(path: Path, content: Any) -> None:
    """Writes to a temporary name and renames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as aligned text; the first row's keys are the columns."""
    if not rows:
        return "(nothing measured)"
    columns = list(rows[0])
    texts = [columns, *([_text(row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in texts) for i in range(len(columns))]
    return "\n".join("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) for line in texts)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
