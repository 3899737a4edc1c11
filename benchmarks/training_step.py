# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
One training step (forward, backward, AdamW) of a classifier: SSAMBA with its native kernel, with plain PyTorch, and with
the defining loop over time, and AST with SSAST's dimensions.
"""

import os
import statistics
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from measuring import interleaved_times
from tqdm import tqdm
from transformers import ASTForAudioClassification
from whole_model import frames_of, ssast_config

from hf_audio_ssm import SsambaConfig, SsambaForAudioClassification
from hf_audio_ssm.models.ssamba import modeling_ssamba


WAYS = ("native kernel", "plain PyTorch", "loop", "ast, sdpa")


@contextmanager
def implementation(way: str):
    """Has SSAMBA compute in this way."""
    if way == "loop":
        with mock.patch.object(modeling_ssamba, "ops", None):
            yield
    else:
        backend = {"native kernel": "cpu", "plain PyTorch": "reference"}.get(way, "")
        with mock.patch.dict(os.environ, {"HF_AUDIO_SSM_BACKEND": backend}):
            yield


def make_call(way: str, size: str, tokens: int, batch_size: int) -> Callable[[], object]:
    """A training step of a model with random weights on random input."""
    frames = frames_of(tokens)
    torch.manual_seed(0)
    if way.startswith("ast"):
        config = ssast_config(size, frames, attn_implementation="sdpa", num_labels=10)
        model = ASTForAudioClassification(config)
    else:
        model = SsambaForAudioClassification(getattr(SsambaConfig, size)(max_length=frames, num_labels=10))
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    input_values = torch.randn(batch_size, frames, 128)
    labels = torch.zeros(batch_size, dtype=torch.long)

    def call() -> None:
        with implementation(way):
            optimizer.zero_grad()
            model(input_values, labels=labels).loss.backward()
            optimizer.step()

    return call


def run(
    size: str = "tiny",
    tokens: int = 513,
    batch_size: int = 1,
    thread_counts: tuple[int, ...] = (1,),
    ways: tuple[str, ...] = WAYS,
    repeats: int = 5,
    budget: float = 30.0,
) -> list[dict[str, Any]]:
    """One row for each number of threads and way: median seconds, and how many times the native kernel's they are."""
    rows = []
    for threads in tqdm(thread_counts, desc="training step", leave=False):
        torch.set_num_threads(threads)
        calls = {way: make_call(way, size, tokens, batch_size) for way in ways if way != "loop"}
        times = interleaved_times(calls, repeats, warm_ups=1, budget=budget)
        if "loop" in ways:
            # A minute a step: one, not in turn with the others.
            loop = make_call("loop", size, tokens, batch_size)
            times |= interleaved_times({"loop": loop}, repeats=1, warm_ups=0)
        for way in ways:
            seconds = statistics.median(times[way])
            rows.append(
                {
                    "size": size,
                    "tokens": tokens,
                    "batch": batch_size,
                    "threads": threads,
                    "way": way,
                    "seconds": seconds,
                    "x native": seconds / statistics.median(times["native kernel"]),
                }
            )
    return rows
