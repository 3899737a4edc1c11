# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Describes a checkpoint: its sizes, input, grid of patches and labels, which kernels are used here and why not others, and the
measured time for one clip.

examples:
  hf-audio-ssm info org/ssamba-tiny
  hf-audio-ssm info outputs/quickstart --json
"""

import json as json_module
import statistics
import time
from typing import Any

import torch
from transformers import PreTrainedModel, SequenceFeatureExtractor

from .. import ops
from ..audio.frames import FRAMES_PER_SECOND, frames_to_seconds, samples_spanned
from ..common.printable import printable
from ..hub.loading import load_encoder
from ..hub.weights import task_of
from .clips import choose_device


RUNS = 3
CLASSIFICATION_TASKS = ("audio-classification", "audio-frame-classification")


@torch.no_grad()
def measure(encoder: PreTrainedModel, feature_extractor: SequenceFeatureExtractor) -> float:
    """Measures the seconds for a clip of the feature extractor's length, filter bank and encoder: the median of some runs."""
    rate = feature_extractor.sampling_rate
    num_samples = samples_spanned(feature_extractor.max_length, rate)
    clip = torch.randn(num_samples, generator=torch.Generator().manual_seed(0))
    seconds = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        inputs = feature_extractor(clip, sampling_rate=rate, return_tensors="pt", device=encoder.device)
        encoder(**inputs, return_dict=True).pooler_output.cpu()
        seconds.append(time.perf_counter() - start)
    # The first run sets things up.
    return statistics.median(seconds[1:])


def describe(model: str, revision: str | None, device: str | None) -> dict[str, Any]:
    """
    Collects what the command prints, by name.

    Raises:
        [`InputError`]: If the checkpoint cannot be loaded, or HF_AUDIO_SSM_BACKEND asks for kernels that are not available.
    """
    chosen_device = choose_device(device)
    encoder, feature_extractor = load_encoder(model, revision, chosen_device)
    config = encoder.config
    length = feature_extractor.max_length
    rows, columns = config.patch_grid(length)
    is_classifier = task_of(config.model_type, config.architectures or []) in CLASSIFICATION_TASKS
    return {
        "model": model,
        "model_type": config.model_type,
        "architecture": (config.architectures or [type(encoder).__name__])[0],
        "parameters": encoder.num_parameters(),
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "sampling_rate": feature_extractor.sampling_rate,
        "num_mel_bins": config.num_mel_bins,
        "mean": feature_extractor.mean,
        "std": feature_extractor.std,
        "clip_seconds": frames_to_seconds(length),
        "patch_size": list(config.patch_shape),
        "patch_strides": [config.frequency_stride, config.time_stride],
        "patch_grid": [rows, columns],
        "tokens": config.num_prefix_tokens + rows * columns,
        "columns_per_second": FRAMES_PER_SECOND / config.time_stride,
        "labels": [config.id2label[index] for index in sorted(config.id2label)] if is_classifier else None,
        "kernels": ops.explain_backends(chosen_device, torch.float32),
        "device": str(chosen_device),
        "threads": torch.get_num_threads(),
        "seconds_per_clip": measure(encoder, feature_extractor),
    }


def run(model: str, revision: str | None, device: str | None, json: bool) -> int:
    """Runs the command; returns its exit code."""
    facts = describe(model, revision, device)
    if json:
        print(json_module.dumps(facts))
        return 0
    speed = facts["clip_seconds"] / facts["seconds_per_clip"]
    lines = {
        "model": f"{facts['model']} ({facts['architecture']})",
        "encoder": f"{facts['parameters']:,} parameters; {facts['num_hidden_layers']} layers, {facts['hidden_size']} wide",
        "input": f"{facts['sampling_rate']} Hz, {facts['num_mel_bins']} mel bins, mean {facts['mean']:g}, standard deviation {facts['std']:g}",
        "clips": f"{facts['clip_seconds']:g} s, unless asked for another length",
        "patches": "{} mel bins x {} frames, strides {}, {}".format(*facts["patch_size"], *facts["patch_strides"]),
        "grid": "{} x {} (frequency x time), {} tokens; {:g} columns a second".format(
            *facts["patch_grid"], facts["tokens"], facts["columns_per_second"]
        ),
        "kernels": f"on {facts['device']}: "
        + "; ".join(f"{name} {explanation}" for name, explanation in facts["kernels"].items()),
        "speed": f"{facts['seconds_per_clip']:.3f} s for a clip, {speed:.0f} times real time "
        f"(median of {RUNS}, measured now, {facts['threads']} threads)",
    }
    if facts["labels"] is not None:
        labels = ", ".join(facts["labels"][:10])
        lines["labels"] = f"{len(facts['labels'])}: {labels}{', ...' if len(facts['labels']) > 10 else ''}"
    for name, value in lines.items():
        print(f"{name:<8} {printable(value)}")
    return 0
