# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Small labelled clips that can be told apart, and a small encoder to tell them with."""

from pathlib import Path

import numpy as np
import soundfile
import torch
from transformers import AutoConfig, AutoModelForPreTraining

from hf_audio_ssm import SsambaFeatureExtractor


PITCHES = {"low": 300, "middle": 1200, "high": 4000, "noise": None}


def write_tones(folder: Path, splits: dict[str, int], rate: int = 16000, labels=tuple(PITCHES)) -> Path:
    """Writes clips of 0.3 s into `folder/split/label/`, as many of each label as `splits` says; returns the folder."""
    rng = np.random.default_rng(0)
    for split, count in splits.items():
        for label in labels:
            (folder / split / label).mkdir(parents=True, exist_ok=True)
            for clip in range(count):
                samples = rng.normal(0, 0.05, size=int(0.3 * rate))
                if PITCHES[label] is not None:
                    pitch = PITCHES[label] * rng.uniform(0.9, 1.1)
                    samples = samples + 0.3 * np.sin(2 * np.pi * pitch * np.arange(len(samples)) / rate)
                soundfile.write(folder / split / label / f"{clip}.wav", samples, rate)
    return folder


def save_encoder(folder: Path, model_type: str = "ssamba", **fields) -> Path:
    """Saves an untrained pretraining checkpoint and its feature extractor; returns the folder."""
    torch.manual_seed(0)
    own = {"ssamba": {"state_size": 4}, "ssast": {"num_attention_heads": 2}}[model_type]
    patches = {"max_length": 32, "patch_size": [32, 8], "frequency_stride": 32, "time_stride": 8}
    config = AutoConfig.for_model(
        model_type, **{"hidden_size": 32, "num_hidden_layers": 2, **patches, **own, **fields}
    )
    AutoModelForPreTraining.from_config(config).save_pretrained(folder)
    SsambaFeatureExtractor(max_length=32).save_pretrained(folder)
    return folder
