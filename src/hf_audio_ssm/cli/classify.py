# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Labels audio files with a fine-tuned checkpoint or adapters.

examples:
  hf-audio-ssm classify -m outputs/quickstart recording.wav
  hf-audio-ssm classify -m org/ssamba-esc50 --top_k 1 recordings/ 'more/**/*.flac'
  hf-audio-ssm classify -m org/ssamba-esc50 --json recordings/ | jq .scores[0].label

With --json there is one line for each file: {"file": ..., "scores": [{"label": ..., "score": ...}, ...]}, or
{"file": ..., "error": ...}. Of a file that is used although it is cut off or has another fault, the line also has "notes".
"""

import json
from pathlib import Path

import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel, SequenceFeatureExtractor, pipeline

from ..audio.decoding import Clip
from ..audio.frames import frames_to_seconds, seconds_spanned
from ..common.errors import InputError
from ..common.printable import printable
from ..hub.loading import load_checkpoint
from .clips import choose_device, exit_code, find_files, read_batches, write_note


def load_classifier(
    model: str, revision: str | None = None, device: str | torch.device | None = None
) -> tuple[PreTrainedModel, SequenceFeatureExtractor]:
    """
    Loads a model with a trained head, and its feature extractor, for the argument `--model`.

    Raises:
        [`InputError`]: If it cannot be loaded, or has no trained head.
    """
    return load_checkpoint(model, "audio-classification", revision, device, called=f"--model {model}")


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
    classifier, feature_extractor = load_classifier(model, revision, chosen_device)
    rate, length = feature_extractor.sampling_rate, feature_extractor.max_length
    longest = seconds_spanned(length)
    classify = pipeline(
        "audio-classification", model=classifier, feature_extractor=feature_extractor, device=chosen_device
    )
    used = skipped = 0

    def skip(path: Path, reason: str) -> None:
        nonlocal skipped
        skipped += 1
        if json:
            write_json({"file": str(path), "error": reason})

    for batch in read_batches(paths, rate, batch_size, skip, "Classifying", longest):
        for path, clip in batch:
            _tell_cut(path, clip, length)
        clips = [{"array": clip.samples, "sampling_rate": rate} for _, clip in batch]
        for (path, clip), scores in zip(batch, classify(clips, top_k=top_k, batch_size=len(clips)), strict=True):
            used += 1
            if json:
                notes = {"notes": [note.detail for note in clip.notes]} if clip.notes else {}
                write_json({"file": str(path), "scores": scores, **notes})
            else:
                found = ", ".join(f"{printable(score['label'])} ({score['score']:.3f})" for score in scores)
                tqdm.write(f"{printable(path)}: {found}")
    return exit_code(used, skipped)


def _tell_cut(path: Path, clip: Clip, length: int) -> None:
    """Prints that only the first `length` frames of a file are used, if it is longer."""
    if clip.seconds is None or clip.seconds > seconds_spanned(length):
        # A header may not tell the length.
        of = "" if clip.seconds is None else f"of {clip.seconds:.1f} s, "
        write_note(path, f"{of}the first {frames_to_seconds(length):g} s are used")


def write_json(value: dict) -> None:
    """One line of JSON on the standard output."""
    tqdm.write(json.dumps(value))
