# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
The whole model on a GPU, in inference and in training, against transformers' AST with SSAST's dimensions, over the number of
tokens; and where the time of a training step goes.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
import whole_model
from gpu_measuring import Limits, Meter, Needs, convolution_needs, linear_needs, measure_or_say_why, scan_needs
from tqdm import tqdm
from transformers import ASTForAudioClassification
from whole_model import frames_of, ssast_config

from hf_audio_ssm import SsambaConfig, SsambaForAudioClassification


TOKENS = (513, 2049, 5121, 10241, 22017, 44033, 88065, 176129, 352257)
WAYS = ("ssamba", "ssamba, bfloat16", "sdpa", "sdpa, bfloat16", "eager", "eager, bfloat16")
# Replays what one call has launched: for short audio, launching takes longer than computing.
GRAPH_WAYS = ("ssamba, CUDA graph", "ssamba, CUDA graph, bfloat16")
# Of a batch. A graph keeps its call's memory, which others need where it gains nothing.
MOST_GRAPH_TOKENS = 1 << 15
# What is compared in each kind of run.
KINDS = {"inference": (*WAYS, *GRAPH_WAYS), "training": WAYS}
# Kernels of a training step by what they belong to; the first pattern that is found in a kernel's name counts.
KERNEL_GROUPS = {
    "convolution forward": r"^convolution_kernel",
    "convolution backward": r"^(silu_backward|transposed)_kernel",
    "scan backward": r"^backward_kernel",
    "scan forward": r"^(scan|segment|combine|pack)_kernel",
    "matrix products": r"gemm|cutlass|nvjet|splitK|Cijk",
    "the rest": r"",
}


def make_inference(way: str, size: str, tokens: int, batch_size: int, device: str) -> Callable[[], object]:
    """A forward pass of a model with random weights on random input."""
    call = whole_model.make_call(way, size, tokens, batch_size, device)
    if way not in GRAPH_WAYS:
        return call
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def make_training(way: str, size: str, tokens: int, batch_size: int, device: str) -> Callable[[], object]:
    """A training step (forward, backward, AdamW) of a classifier with random weights on random input."""
    frames = frames_of(tokens)
    torch.manual_seed(0)
    if way.startswith("ssamba"):
        model = SsambaForAudioClassification(getattr(SsambaConfig, size)(max_length=frames, num_labels=10))
    else:
        config = ssast_config(size, frames, attn_implementation=way.split(",")[0], num_labels=10)
        model = ASTForAudioClassification(config)
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    input_values = torch.randn(batch_size, frames, 128).to(device)
    labels = torch.zeros(batch_size, dtype=torch.long, device=device)

    def call() -> None:
        optimizer.zero_grad()
        with torch.autocast(device, dtype=torch.bfloat16, enabled=way.endswith("bfloat16")):
            loss = model(input_values, labels=labels).loss
        loss.backward()
        optimizer.step()

    return call


def run(
    meter: Meter,
    kind: str,
    sizes: list[str],
    token_counts: list[int],
    batch_sizes: list[int],
    ways: tuple[str, ...] | None = None,
    repeats: int = 10,
    longest: float = 20.0,
    budget: float = 10.0,
) -> list[dict[str, Any]]:
    """
    Args:
        meter: Of the device.
        kind: "inference" or "training".
        sizes: Names of sizes.
        token_counts: Numbers of tokens, ascending.
        batch_sizes: Clips in a batch.
        ways: Which models, attention and dtypes; None: those of `KINDS`.
        repeats: Measured rounds at most.
        longest: A way is left out where its last, shorter measurement lets expect more seconds than this.
        budget: Seconds after which no further round of a combination begins.

    Returns:
        One row for each combination and way: median seconds and peak memory above weights and input; both are None where it
        was left out, and `left_out` says why: too long, or more memory than there is (then for all longer inputs too).
    """
    make = {"inference": make_inference, "training": make_training}[kind]
    ways = KINDS[kind] if ways is None else ways
    rows = []
    combinations = [(size, batch_size) for size in sizes for batch_size in batch_sizes]
    with tqdm(total=len(combinations) * len(token_counts), desc=kind, leave=False) as progress:
        for size, batch_size in combinations:
            last: dict[str, tuple[int, float]] = {}
            reasons: dict[str, str] = {}
            for tokens in token_counts:
                progress.set_postfix_str(f"{size}, {tokens} tokens, batch {batch_size}")
                calls, found = {}, {}
                for way in ways:
                    before, seconds = last.get(way, (tokens, 0.0))
                    growth = tokens / before
                    expected = seconds * (growth if way.startswith("ssamba") else growth**2)
                    if way in GRAPH_WAYS and batch_size * tokens > MOST_GRAPH_TOKENS:
                        reasons.setdefault(way, "launching takes no time beside this")
                    elif expected > longest:
                        reasons.setdefault(way, f"expected to take {expected:.0f} s")
                    if way in reasons:
                        found[way] = {"seconds": None, "peak_mib": None, "left_out": reasons[way]}
                        continue
                    make_call = partial(make, way, size, tokens, batch_size, meter.device)
                    call, found[way] = measure_or_say_why(meter, make_call, way not in GRAPH_WAYS)
                    if call is None:
                        reasons[way] = found[way]["left_out"]
                    else:
                        calls[way] = call
                # Of a call that has no median there is one measurement.
                medians = meter.medians(calls, repeats, budget)
                for way in calls:
                    found[way]["seconds"] = medians.get(way, found[way]["seconds"])
                    last[way] = (tokens, found[way]["seconds"])
                rows += [
                    {"kind": kind, "size": size, "tokens": tokens, "batch": batch_size, "way": way, **found[way]}
                    for way in ways
                ]
                progress.update()
    return rows


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line for each combination: SSAMBA's time and memory, and the others' as multiples of those of the same dtype."""
    lines: dict[tuple, dict[str, dict[str, Any]]] = {}
    for row in rows:
        key = tuple(row[field] for field in ("kind", "size", "tokens", "batch"))
        lines.setdefault(key, {})[row["way"]] = row
    result = []
    for key, by_way in lines.items():
        line = dict(zip(("kind", "size", "tokens", "batch"), key, strict=True))
        for suffix in ("", ", bfloat16"):
            own = by_way.get(f"ssamba{suffix}")
            if own is None:
                continue
            line[f"s{suffix}"], line[f"MiB{suffix}"] = own["seconds"], own["peak_mib"]
            for way in ("sdpa", "eager"):
                other = by_way.get(way + suffix)
                for field, unit in (("seconds", "s"), ("peak_mib", "MiB")):
                    values = own[field], None if other is None else other[field]
                    line[f"{way} {unit} x{suffix}"] = None if None in values else values[1] / max(values[0], 1e-9)
        result.append(line)
    return result


def group_of(kernel: str) -> str:
    """What a kernel of a training step belongs to."""
    return next(group for group, pattern in KERNEL_GROUPS.items() if re.search(pattern, kernel))


def step_needs(size: str, tokens: int, batch_size: int, itemsize: int) -> dict[str, Needs]:
    """What the groups of kernels of a training step cannot do without; of the rest that is not known."""
    config = getattr(SsambaConfig, size)()
    shape = batch_size, tokens, config.intermediate_size
    layers = config.num_hidden_layers
    projections = [
        (config.hidden_size, 2 * config.intermediate_size),
        (config.intermediate_size, config.hidden_size),
        *2 * [(config.intermediate_size, config.time_step_rank + 2 * config.state_size)],
        *2 * [(config.time_step_rank, config.intermediate_size)],
    ]
    products = Needs()
    for features in projections:
        # Forward, and back to the inputs and to the weight.
        products = products + 3 * linear_needs(batch_size * tokens, *features, itemsize)
    found = {"matrix products": layers * products}
    for is_backward, name in ((False, "forward"), (True, "backward")):
        found[f"scan {name}"] = layers * scan_needs(shape, config.state_size, 2, itemsize, is_backward)
        found[f"convolution {name}"] = layers * convolution_needs(shape, config.conv_kernel, itemsize, is_backward)
    return found


def shares(seconds: dict[str, float], needs: dict[str, Needs], limits: Limits) -> list[dict[str, Any]]:
    """
    Groups of kernels with their share of the time and of the device's limit, the longest first, and from what the limit
    follows: the bytes and operations that they cannot do without, in billions.
    """
    total = sum(seconds.values())
    return [
        {
            "group": group,
            "seconds": time,
            "time_share": time / total,
            "limit_share": needs[group].seconds(limits) / time if group in needs else None,
            **{
                f"G {name}": amount / 1e9 if group in needs else None
                for name, amount in asdict(needs.get(group, Needs())).items()
            },
        }
        for group, time in sorted(seconds.items(), key=lambda item: -item[1])
    ]


def profile(size: str, tokens: int, batch_size: int, limits: Limits, steps: int = 5) -> list[dict[str, Any]]:
    """Where the time of a bfloat16 training step of SSAMBA goes on the GPU: see `shares`."""
    step = make_training("ssamba, bfloat16", size, tokens, batch_size, "cuda")
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
    seconds = kernel_seconds(profiler.key_averages(), steps)
    return shares(seconds, step_needs(size, tokens, batch_size, torch.bfloat16.itemsize), limits)


def kernel_seconds(events: Iterable[Any], steps: int) -> dict[str, float]:
    """Seconds of a step by groups of kernels, of the profiler's averages over so many steps."""
    seconds: dict[str, float] = {}
    for event in events:
        # An annotation's time, such as an optimizer step's, is that of the kernels within it.
        if event.self_device_time_total > 0 and not event.is_user_annotation:
            group = group_of(event.key)
            seconds[group] = seconds.get(group, 0.0) + event.self_device_time_total / 1e6 / steps
    return seconds


def claims(
    model_rows: list[dict[str, Any]], scan_rows: list[dict[str, Any]], profile_rows: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """
    What is claimed, beside what was measured: the paper's figures (arXiv 2405.11831: 22 000 tokens, tiny, eager attention,
    float32), and this project's own aims. `holds` is None where nothing was measured.
    """
    cells = {
        (row["kind"], row["size"], row["tokens"], row["batch"], row["way"]): row
        for row in model_rows
        if row["seconds"] is not None
    }

    def of(way: str, field: str) -> float | None:
        return cells.get(("inference", "tiny", 22017, 4, way), {}).get(field)

    def ratio(numerator: float | None, denominator: float | None) -> float | None:
        return None if None in (numerator, denominator) else numerator / max(denominator, 1e-9)

    def saved(field: str) -> float | None:
        rest = ratio(of("ssamba", field), of("eager", field))
        return None if rest is None else 1 - rest

    found = [
        ("less time than SSAST tiny, eager (paper)", 0.927, saved("seconds")),
        ("less memory than SSAST tiny, eager (paper)", 0.954, saved("peak_mib")),
        ("times as fast as SSAST tiny, SDPA", 5.0, ratio(of("sdpa", "seconds"), of("ssamba", "seconds"))),
    ]
    by_way: dict[tuple, dict[str, float]] = {}
    for row in scan_rows:
        key = tuple(row[field] for field in ("part", "size", "tokens", "batch", "pass"))
        by_way.setdefault(key, {})[row["way"]] = row["seconds"]
    for part, wanted in (("scan", 1.0), ("layer", 1.5)):
        times = [ratio(way.get("mamba_ssm"), way.get("triton")) for key, way in by_way.items() if key[0] == part]
        times = [time for time in times if time is not None]
        found.append((f"times as fast as mamba-ssm, {part}, at least", wanted, min(times, default=None)))
    near_limits = None
    if profile_rows:
        near_limits = sum(row["time_share"] for row in profile_rows if (row["limit_share"] or 0) >= 0.5)
    found.append(("of a training step in kernels at half their limit or more", 0.7, near_limits))
    return [
        {"claim": text, "wanted": wanted, "found": value, "holds": None if value is None else value >= wanted}
        for text, wanted, value in found
    ]
