# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""A fine-tuning that was interrupted ends with the same weights, bit for bit, as one that was not."""

import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import run_audio_classification
import soundfile
import torch
from labelled_tones import save_encoder
from safetensors.torch import load_file
from several_processes import start_job
from transformers import set_seed
from warm_python import start_python

from hf_audio_ssm.data.augmentation import Augmentation, Mixup, RollTime, SpecAugment, UniformNoise
from hf_audio_ssm.data.labelled import LabelledDataArguments
from hf_audio_ssm.training.classifiers import ClassifierArguments
from hf_audio_ssm.training.fine_tuning import FineTuningArguments, make_trainer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    for split, count in (("train", 5), ("validation", 1), ("test", 1)):
        for label in ("low", "high"):
            (folder / split / label).mkdir(parents=True)
            for clip in range(count):
                # Of different lengths.
                samples = rng.normal(0, 0.1, size=1600 + 500 * int(rng.integers(8)))
                soundfile.write(folder / split / label / f"{clip}.wav", samples, 16000)
    return folder


@pytest.fixture(scope="module")
def clips(folder):
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


def check_continuation(clips, encoder, folder, options, steps):
    whole = make(clips, encoder, folder / "whole", **options)
    whole.train()
    weights = whole.model.state_dict()
    for step in steps:
        if whole.is_world_process_zero():
            # All that is left of a training that was killed after its step.
            shutil.copytree(folder / "whole" / f"checkpoint-{step}", folder / str(step) / f"checkpoint-{step}")
        whole.accelerator.wait_for_everyone()
        again = make(clips, encoder, folder / str(step), **options)
        torch.manual_seed(1)
        again.train(resume_from_checkpoint=True)
        assert again.state.global_step == whole.state.global_step
        different = [name for name, value in again.model.state_dict().items() if not torch.equal(value, weights[name])]
        assert different == [], step


@pytest.mark.parametrize("way", [*WAYS, *(pytest.param(way, marks=pytest.mark.slow) for way in MORE_WAYS)])
def test_an_interrupted_training_ends_with_the_same_weights(clips, encoder, tmp_path, way):
    check_continuation(clips, encoder, tmp_path, *{**WAYS, **MORE_WAYS}[way])


TWO_PROCESSES = """
import sys
from pathlib import Path
from hf_audio_ssm.data.labelled import LabelledDataArguments
from test_exact_continuation import make, check_continuation

data, encoder, folder, steps = sys.argv[1:]
clips = LabelledDataArguments(data=data).load()[0]
options = {"per_device_train_batch_size": 2, "use_cpu": True, "train_sampling_strategy": "STRATEGY"}
options["classifier"] = {"return_attention_mask": True}
check_continuation(clips, encoder, Path(folder), options, [int(step) for step in steps.split(",")])
"""


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["random", "group_by_length", "batch_rebalance"])
def test_two_processes_end_with_the_same_weights(folder, encoder, tmp_path, strategy):
    # Three steps an epoch: within the first epoch, at its end, and within the second.
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})" + TWO_PROCESSES.replace(
        "STRATEGY", strategy
    )
    arguments = ["-c", code, str(folder), encoder, str(tmp_path), "1,3,5"]
    for process, errors in start_job(arguments, tmp_path):
        process.join()
        assert process.exitcode == 0, errors.read_text()
    assert {path.name for path in (tmp_path / "1" / "checkpoint-6").glob("rng*")} == {
        "rng_state_0.pth",
        "rng_state_1.pth",
    }


@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_weights(folder, encoder, tmp_path):
    words = ["--model", encoder, "--data", folder, "--mixup", 0.5, "--time_mask", 8, "--per_device_train_batch_size", 3,
             "--save_strategy", "steps", "--save_steps", 1, "--save_total_limit", 2, "--max_steps", 40, "--use_cpu", "true",
             "--report_to", "none", "--disable_tqdm", "true", "--resume_from_checkpoint", "true"]  # fmt: skip
    weights = []
    for name, kills in (("whole", 0), ("killed", 3)):
        command = [run_audio_classification.__file__, *map(str, words), "--output_dir", str(tmp_path / name)]
        streams = [str(tmp_path / f"{name}-{stream}") for stream in ("out", "errors")]
        for _ in range(kills):
            process = start_python(command, tmp_path, streams)
            before = newest_step(tmp_path / name)
            while newest_step(tmp_path / name) == before:
                assert process.is_alive(), Path(streams[1]).read_text()
                time.sleep(0.01)
            time.sleep(random.uniform(0, 0.3))
            process.kill()
            process.join()
        process = start_python(command, tmp_path, streams)
        process.join()
        assert process.exitcode == 0, Path(streams[1]).read_text()
        weights.append(load_file(tmp_path / name / "model.safetensors"))
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def newest_step(folder):
    return max((int(path.name.split("-")[1]) for path in folder.glob("checkpoint-*")), default=0)
