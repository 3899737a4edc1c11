# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Filter banks of whole clips, computed once and kept on disk: for audio that is slow to decode, or far away."""

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from datasets.fingerprint import Hasher
from transformers.feature_extraction_utils import FeatureExtractionMixin

from ..audio.decoding import clip_name, read_audio
from ..common.errors import ClipError


def cache_filter_banks(
    dataset: datasets.Dataset,
    feature_extractor: FeatureExtractionMixin,
    cache_dir: str | os.PathLike,
    num_workers: int | None = None,
) -> datasets.Dataset:
    """
    Computes the filter banks of all clips of a data set, or reads those that an earlier run computed.

    Args:
        dataset (`datasets.Dataset`): Clips, in an undecoded column `audio`. Other columns are kept.
        feature_extractor (`FeatureExtractionMixin`): Computes them, uncut and not normalised.
        cache_dir (`str`): Folder for the files, some 180 MB for an hour of audio (128 bins).
        num_workers (`int`, *optional*): Number of processes.

    Returns:
        `datasets.Dataset` with, for each clip, its `path`, `filter_bank` (frames x mel bins, float32, in one row), and
        `reason`: empty, or why it cannot be used. [`read_filter_bank`] reads a row.
    """
    raw = copy.deepcopy(feature_extractor)
    raw.do_normalize = False
    parent = os.getpid()

    def compute(row: Mapping[str, Any]) -> dict[str, Any]:
        if os.getpid() != parent:
            # A forked process would wait forever for its parent's torch threads.
            torch.set_num_threads(1)
        path, bank, reason = clip_name(row["audio"]), np.zeros(0, np.float32), ""
        try:
            samples = read_audio(row["audio"], raw.sampling_rate, refuse_silence=True)
            inputs = raw(
                samples, sampling_rate=raw.sampling_rate, padding=False, truncation=False, return_tensors="np"
            )
            bank = inputs["input_values"][0].reshape(-1)
        except ClipError as error:
            reason = error.reason
        return {"path": path, "filter_bank": bank, "reason": reason}

    # The name depends on the clips' rows, the files' state and the feature extractor.
    paths = [
        row["path"] for row in dataset["audio"] if row is not None and row["path"] and os.path.isfile(row["path"])
    ]
    state = [(path, status.st_size, status.st_mtime_ns) for path in paths for status in [os.stat(path)]]
    name = Hasher.hash([dataset._fingerprint, state, type(raw).__name__, raw.sampling_rate, raw.num_mel_bins])
    Path(cache_dir).mkdir(parents=True, exist_ok=True)
    features = {name: feature for name, feature in dataset.features.items() if name != "audio"}
    features |= {"path": datasets.Value("string"), "filter_bank": datasets.List(datasets.Value("float32"))}
    return dataset.map(
        compute,
        remove_columns=["audio"],
        features=datasets.Features({**features, "reason": datasets.Value("string")}),
        cache_file_name=str(Path(cache_dir) / f"{name}.arrow"),
        new_fingerprint=name,
        # The default keeps a thousand clips in memory: gigabytes, if they are long.
        writer_batch_size=50,
        num_proc=num_workers or None,
        desc="Computing filter banks",
    ).with_format("numpy", columns=["filter_bank"], output_all_columns=True)


def read_filter_bank(
    row: Mapping[str, Any],
    feature_extractor: FeatureExtractionMixin,
    generator: np.random.Generator | None = None,
) -> np.ndarray:
    """
    The encoder's input for a row of [`cache_filter_banks`], as the feature extractor crops, pads and normalises.

    Args:
        row (mapping): The row.
        feature_extractor (`FeatureExtractionMixin`): The encoder's.
        generator (`np.random.Generator`, *optional*): Draws where the crop begins; the beginning by default.

    Returns:
        `np.ndarray` of shape (frames, mel bins), float32.

    Raises:
        [`ClipError`]: If the clip could not be used when the cache was made.
    """
    if row["reason"]:
        raise ClipError(str(row["path"]), str(row["reason"]))
    bank = np.asarray(row["filter_bank"], np.float32).reshape(-1, feature_extractor.num_mel_bins)
    return feature_extractor.normalize(feature_extractor.pad_frames(feature_extractor.crop(bank, generator)))
