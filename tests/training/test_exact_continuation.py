# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""A fine-tuning that was interrupted ends with the same weights, bit for bit, as one that was not."""

import shutil

import numpy as np
import pytest
import soundfile
import torch
from labelled_tones import save_encoder
from transformers import set_seed

from hf_audio_ssm.data.augmentation import Augmentation, Mixup, RollTime, SpecAugment, UniformNoise
from hf_audio_ssm.data.labelled import LabelledDataArguments
from hf_audio_ssm.training.classifiers import ClassifierArguments
from hf_audio_ssm.training.fine_tuning import FineTuningArguments, make_trainer


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    for split, count in (("train", 5), ("validation", 1), ("test", 1)):
        for label in ("low", "high"):
            (folder / split / label).mkdir(parents=True)
            for clip in range(count):
                # Of different lengths.
                samples = rng.normal(0, 0.1, size=1600 + 500 * int(rng.integers(8)))
                soundfile.write(folder / split / label / f"{clip}.wav", samples, 16000)
    return LabelledDataArguments(data=str(folder)).load()[0]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    return str(save_encoder(folder, hidden_size=16, drop_path_rate=0.3, patchout=0.25))


def make(clips, encoder, output_dir, classifier=None, **arguments):
    set_seed(5)
    feature_extractor, model = ClassifierArguments(encoder, **(classifier or {})).load(clips)
    defaults = {
        "output_dir": str(output_dir),
        "num_train_epochs": 2,
        "per_device_train_batch_size": 3,
        "learning_rate": 3e-3,
        "report_to": "none",
        "save_strategy": "steps",
        "save_steps": 1,
        "disable_tqdm": True,
        "dataloader_drop_last": False,
    }
    augmentation = Augmentation([Mixup(p=0.8)], [SpecAugment(10, 4), UniformNoise(), RollTime(2)], seed=5)
    return make_trainer(model, feature_extractor, clips, FineTuningArguments(**defaults | arguments), augmentation)


# Four batches an epoch, the last of them of one clip. For each way, steps after which a training was interrupted.
BY_LENGTH = {"classifier": {"return_attention_mask": True}}
WAYS = {
    "plain": ({}, [1, 4]),
    "accumulated": (
        {
            "gradient_accumulation_steps": 3,
            "average_from_epoch": 1,
            "eval_strategy": "epoch",
            "dataloader_num_workers": 2,
        },
        [1, 2],
    ),
    "by length": ({"train_sampling_strategy": "group_by_length", **BY_LENGTH}, [6]),
}
MORE_WAYS = {
    "anywhere": ({"num_train_epochs": 3}, list(range(1, 12))),
    "averaged": ({"average_from_epoch": 1, "eval_strategy": "epoch"}, [3, 4, 5]),
    "kept workers": ({"dataloader_num_workers": 1, "dataloader_persistent_workers": True}, [5]),
    "balanced": ({"train_sampling_strategy": "batch_rebalance", **BY_LENGTH}, [2, 4, 7]),
    "plateau": (
        {
            "lr_scheduler_type": "reduce_lr_on_plateau",
            "lr_scheduler_kwargs": {"patience": 0},
            "eval_strategy": "epoch",
        },
        [3, 4],
    ),
    "in order": ({"train_sampling_strategy": "sequential"}, [2, 4]),
}


@pytest.mark.parametrize("way", [*WAYS, *(pytest.param(way, marks=pytest.mark.slow) for way in MORE_WAYS)])
def test_an_interrupted_training_ends_with_the_same_weights(clips, encoder, tmp_path, way):
    options, steps = {**WAYS, **MORE_WAYS}[way]
    whole = make(clips, encoder, tmp_path / "whole", **options)
    whole.train()
    weights = whole.model.state_dict()
    for step in steps:
        # All that is left of a training that was killed after its step.
        shutil.copytree(tmp_path / "whole" / f"checkpoint-{step}", tmp_path / str(step) / f"checkpoint-{step}")
        again = make(clips, encoder, tmp_path / str(step), **options)
        torch.manual_seed(1)
        again.train(resume_from_checkpoint=True)
        assert again.state.global_step == whole.state.global_step
        different = [name for name, value in again.model.state_dict().items() if not torch.equal(value, weights[name])]
        assert different == [], step
