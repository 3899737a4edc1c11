# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
The whole model, in inference: SSAMBA against transformers' AST with SSAST's dimensions, over the number of tokens.

AST also runs a second time with oneDNN's matrix products ("sdpa, onednn"): which ones are faster depends on the processor.
"""

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from measuring import available_memory, interleaved_times, peak_memory
from tqdm import tqdm
from transformers import ASTConfig, ASTModel

from hf_audio_ssm import SsambaConfig, SsambaModel


TOKENS = (129, 513, 2049, 5121, 10241, 22017)
# Hidden size and attention heads of SSAST's published sizes, all with 12 layers.
SIZES = {"tiny": (192, 3), "small": (384, 6), "base": (768, 12)}
WAYS = ("ssamba", "ssamba, bfloat16", "sdpa", "sdpa, onednn", "eager")


def frames_of(tokens: int) -> int:
    """Frames of a spectrogram with this many tokens: [CLS] and 8 rows of 16 x 16 patches."""
    if tokens < 9 or (tokens - 1) % 8:
        raise ValueError(f"`tokens` must be 1 more than a positive multiple of 8, got {tokens}.")
    return (tokens - 1) // 8 * 16


def ssast_config(size: str, frames: int, **arguments) -> ASTConfig:
    """The configuration of transformers' AST with SSAST's dimensions."""
    hidden_size, num_heads = SIZES[size]
    return ASTConfig(
        hidden_size=hidden_size,
        num_hidden_layers=12,
        num_attention_heads=num_heads,
        intermediate_size=4 * hidden_size,
        frequency_stride=16,
        time_stride=16,
        max_length=frames,
        **arguments,
    )


def make_call(way: str, size: str, tokens: int, batch_size: int, device: str = "cpu") -> Callable[[], object]:
    """A forward pass of a model with random weights on random input."""
    frames = frames_of(tokens)
    dtype = torch.bfloat16 if way.endswith("bfloat16") else torch.float32
    torch.manual_seed(0)
    if way.startswith("ssamba"):
        config = getattr(SsambaConfig, size)(max_length=frames)
        model = SsambaModel(config)
    else:
        config = ssast_config(size, frames, attn_implementation=way.split(",")[0])
        model = ASTModel(config)
    model = model.to(device, dtype).eval()
    input_values = torch.randn(batch_size, frames, 128).to(device, dtype)

    @torch.inference_mode()
    def call() -> object:
        if way != "sdpa, onednn":
            return model(input_values).last_hidden_state
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("medium")
        try:
            return model(input_values).last_hidden_state
        finally:
            torch.set_float32_matmul_precision(precision)

    return call


def eager_bytes(size: str, tokens: int, batch_size: int) -> int:
    """What eager attention holds of one layer at least: its scores and their softmax."""
    return 2 * 4 * batch_size * SIZES[size][1] * (tokens + 1) ** 2


def measure(
    size: str, tokens: int, batch_size: int, ways: list[str], repeats: int, budget: float
) -> dict[str, tuple[float, int | None]]:
    """Median seconds and peak bytes above weights and input, by way; what takes longer than the budget is timed once."""
    calls = {way: make_call(way, size, tokens, batch_size) for way in ways}
    once = {way: peak_memory(call) for way, call in calls.items()}
    repeated = {way: call for way, call in calls.items() if once[way][0] < budget}
    times = interleaved_times(repeated, repeats, warm_ups=1, budget=budget)
    return {
        way: (statistics.median(times[way]) if way in times else seconds, peak)
        for way, (seconds, peak) in once.items()
    }


def run(
    sizes: list[str],
    token_counts: list[int],
    batch_sizes: list[int],
    thread_counts: list[int],
    ways: Sequence[str] = WAYS,
    repeats: int = 7,
    longest: float = 120.0,
    budget: float = 20.0,
) -> list[dict[str, Any]]:
    """
    Args:
        sizes: Names of sizes.
        token_counts: Numbers of tokens, ascending.
        batch_sizes: Clips in a batch.
        thread_counts: Threads of torch.
        ways: Which ways, "ssamba" among them.
        repeats: Measured rounds at most.
        longest: A way is left out where its last, shorter measurement lets expect more seconds than this.
        budget: Seconds after which no further round of a combination begins.

    Returns:
        One row for each combination and way; `seconds` is None where it was left out, and `left_out` says why.
    """
    rows = []
    combinations = [(size, batch, threads) for size in sizes for batch in batch_sizes for threads in thread_counts]
    with tqdm(total=len(combinations) * len(token_counts), desc="whole model", leave=False) as progress:
        for size, batch_size, threads in combinations:
            torch.set_num_threads(threads)
            last: dict[str, tuple[int, float]] = {}
            for tokens in token_counts:
                progress.set_postfix_str(f"{size}, {tokens} tokens, batch {batch_size}, {threads} threads")
                left_out = {}
                for way in ways:
                    before, seconds = last.get(way, (tokens, 0.0))
                    growth = tokens / before
                    expected = seconds * (growth if way.startswith("ssamba") else growth**2)
                    needed = eager_bytes(size, tokens, batch_size) if way == "eager" else 0
                    if needed > 0.8 * available_memory():
                        left_out[way] = f"needs {needed / 2**30:.0f} GiB"
                    elif expected > longest:
                        left_out[way] = f"expected to take {expected:.0f} s"
                possible = [way for way in ways if way not in left_out]
                measured = measure(size, tokens, batch_size, possible, repeats, budget)
                for way in ways:
                    seconds, peak = measured.get(way, (None, None))
                    if seconds is not None:
                        last[way] = (tokens, seconds)
                    rows.append(
                        {
                            "size": size,
                            "tokens": tokens,
                            "batch": batch_size,
                            "threads": threads,
                            "way": way,
                            "seconds": seconds,
                            "peak_mib": None if peak is None else peak / 2**20,
                            "left_out": left_out.get(way),
                        }
                    )
                progress.update()
    return rows


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line for each combination: SSAMBA's time and memory, and the others' as multiples of them."""
    lines: dict[tuple, dict[str, dict[str, Any]]] = {}
    for row in rows:
        key = tuple(row[field] for field in ("size", "tokens", "batch", "threads"))
        lines.setdefault(key, {})[row["way"]] = row
    result = []
    for (size, tokens, batch_size, threads), by_way in lines.items():
        own = by_way["ssamba"]

        def ratio(field: str, way: str, own=own, by_way=by_way) -> float | None:
            values = own[field], by_way.get(way, {}).get(field)
            return None if None in values else values[1] / max(values[0], 1e-9)

        result.append(
            {
                "size": size,
                "tokens": tokens,
                "batch": batch_size,
                "threads": threads,
                "ssamba s": own["seconds"],
                "bf16 x": ratio("seconds", "ssamba, bfloat16"),
                "sdpa x": ratio("seconds", "sdpa"),
                "sdpa, onednn x": ratio("seconds", "sdpa, onednn"),
                "eager x": ratio("seconds", "eager"),
                "ssamba MiB": own["peak_mib"],
                "sdpa MiB x": ratio("peak_mib", "sdpa"),
                "eager MiB x": ratio("peak_mib", "eager"),
            }
        )
    return result


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Time and memory over tokens, one line for each way; a column for each size, at the first batch size and threads."""
    from matplotlib.figure import Figure

    sizes, ways = (list(dict.fromkeys(row[field] for row in rows)) for field in ("size", "way"))
    first = {field: rows[0][field] for field in ("batch", "threads") if field in rows[0]}
    figure = Figure(figsize=(5 * len(sizes), 8), layout="constrained")
    axes = figure.subplots(2, len(sizes), squeeze=False, sharex=True)
    for column, size in enumerate(sizes):
        for line, (field, label) in enumerate((("seconds", "seconds"), ("peak_mib", "peak memory (MiB)"))):
            for way in ways:
                points = [
                    (row["tokens"], row[field])
                    for row in rows
                    if row["size"] == size
                    and row["way"] == way
                    and row[field]
                    and all(row[name] == value for name, value in first.items())
                ]
                if points:
                    axes[line][column].plot(*zip(*points, strict=True), marker="o", label=way)
            axes[line][column].set(xscale="log", yscale="log", ylabel=label)
            axes[line][column].grid(alpha=0.3)
        axes[0][column].set_title(", ".join([size, *(f"{field} {value}" for field, value in first.items())]))
        axes[1][column].set_xlabel("tokens")
    axes[0][0].legend()
    figure.savefig(path, dpi=120)
