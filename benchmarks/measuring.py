# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""How the benchmarks measure time and memory, and write what they measured."""

import ctypes
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def interleaved_times(
    calls: Mapping[str, Callable[[], object]], repeats: int, warm_ups: int = 2, budget: float | None = None
) -> dict[str, list[float]]:
    """
    Calls in turn, so that a change in the machine's load meets all.

    Args:
        calls: What to call, by name.
        repeats: Measured rounds at most.
        warm_ups: Rounds before them that are not measured.
        budget: Seconds after which no round is begun; one is always measured, and a first round that takes longer than
            this counts as it is.

    Returns:
        Seconds of each measured call, by name.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    begin = time.perf_counter()
    for round_index in range(-warm_ups, repeats):
        over_budget = budget is not None and time.perf_counter() - begin > budget
        if over_budget and all(times.values()):
            break
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            elapsed = time.perf_counter() - start
            if round_index >= 0 or (budget is not None and elapsed > budget):
                times[name].append(elapsed)
    return times


def _status_bytes(field: str) -> int:
    return 1024 * int(re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)[1])


def peak_memory(call: Callable[[], object]) -> int | None:
    """Bytes by which the process grows at most during a call; None where the system (not Linux) does not tell."""
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        return None
    # Memory that was freed but kept would hide what the call takes.
    ctypes.CDLL(None).malloc_trim(0)
    before = _status_bytes("VmRSS")
    reset.write_text("5")
    call()
    return _status_bytes("VmHWM") - before


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
