# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Labels audio files with a fine-tuned checkpoint or adapters.

examples:
  hf-audio-ssm classify -m outputs/quickstart recording.wav
  hf-audio-ssm classify -m org/ssamba-esc50 --top_k 1 recordings/ 'more/**/*.flac'
  hf-audio-ssm classify -m org/ssamba-esc50 --json recordings/ | jq .scores[0].label

With --json there is one line for each file: {"file": ..., "scores": [{"label": ..., "score": ...}, ...]}, or
{"file": ..., "error": ...}.
"""

import argparse
import json
import sys
from pathlib import Path

from tqdm.auto import tqdm
from transformers import AutoModelForAudioClassification, pipeline

from ..common.errors import InputError
from ..inference.embedding import is_missing_folder, load_feature_extractor, load_merged
from .clips import add_clip_arguments, choose_device, exit_code, find_files, read_batches


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_clip_arguments(parser)
    parser.add_argument("--top_k", type=int, default=5, help="labels to show for each file (default: %(default)s)")


def load_classifier(model: str, revision: str | None) -> tuple:
    """
    A model with a trained head, and its feature extractor.

    Raises:
        [`InputError`]: If it cannot be loaded, or has no trained head.
    """
    if is_missing_folder(model):
        raise InputError(f"--model {model} cannot be loaded: there is no such folder")
    try:
        classifier, untrained = load_merged(model, revision), None
        if classifier is None:
            classifier, info = AutoModelForAudioClassification.from_pretrained(
                model, revision=revision, output_loading_info=True
            )
            untrained = info["missing_keys"]
        feature_extractor = load_feature_extractor(model, revision)
    # Weights of other shapes are a RuntimeError.
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        raise InputError(f"--model {model} cannot be loaded: {error}") from error
    if untrained:
        raise InputError(f"--model {model} has no trained classifier; fine-tune it first")
    return classifier.eval(), feature_extractor


def run(
    files: list[str],
    model: str,
    revision: str | None,
    device: str | None,
    batch_size: int,
    json: bool,
    top_k: int,
) -> int:
    """Runs the command; returns its exit code."""
    if top_k < 1:
        raise InputError(f"--top_k must be at least 1, got {top_k}")
    paths, chosen_device = find_files(files), choose_device(device)
    classifier, feature_extractor = load_classifier(model, revision)
    rate, longest = feature_extractor.sampling_rate, feature_extractor.max_length / 100
    classify = pipeline(
        "audio-classification", model=classifier, feature_extractor=feature_extractor, device=chosen_device
    )
    used = skipped = 0

    def skip(path: Path, reason: str) -> None:
        nonlocal skipped
        skipped += 1
        if json:
            write_json({"file": str(path), "error": reason})

    for batch in read_batches(paths, rate, batch_size, skip, "Classifying"):
        for path, samples in batch:
            # A frame is 15 ms longer than the step between two.
            if len(samples) > (longest + 0.015) * rate:
                seconds = len(samples) / rate
                tqdm.write(f"note: {path}: of {seconds:.1f} s, the first {longest:g} s are used", file=sys.stderr)
        clips = [{"array": samples, "sampling_rate": rate} for _, samples in batch]
        for (path, _), scores in zip(batch, classify(clips, top_k=top_k, batch_size=len(clips)), strict=True):
            used += 1
            if json:
                write_json({"file": str(path), "scores": scores})
            else:
                tqdm.write(f"{path}: " + ", ".join(f"{score['label']} ({score['score']:.3f})" for score in scores))
    return exit_code(used, skipped)


def write_json(value: dict) -> None:
    """One line of JSON on the standard output."""
    tqdm.write(json.dumps(value))
