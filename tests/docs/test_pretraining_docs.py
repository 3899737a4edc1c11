# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Every snippet of docs/pretraining.md runs, shortened where it would take long; those for GPUs are read as accelerate does."""

import json
import re
import shlex
from pathlib import Path

import pytest
import run_pretrain
from accelerate.commands.launch import launch_command_parser
from several_processes import TORCHRUN
from snippets import copy_few_words, read_snippets, run_snippet
from tones import write_tone

from hf_audio_ssm.training.pretraining.arguments import PretrainingModelArguments
from hf_audio_ssm.training.pretraining.model_and_data import make_model


ROOT = Path(__file__).resolve().parents[2]
SNIPPETS = read_snippets(ROOT / "docs" / "pretraining.md")
SHORT = " --max_steps 2 --eval_steps 2 --per_device_train_batch_size 2 --num_workers 0 --report_to none"
TINY = (
    """ --config_overrides '{"hidden_size": 32, "num_hidden_layers": 2, "max_length": 48}' --num_masked_patches 12"""
)


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A folder that looks like a clone, with few of the words and some audio in it."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / "examples").mkdir()
    for name in ("configs", "run_pretrain.py"):
        (folder / "examples" / name).symlink_to(ROOT / "examples" / name)
    copy_few_words(folder, {"train": 3, "validation": 1})
    for name in ("audio", "more"):
        for index in range(6):
            write_tone(folder / "path/to" / name / f"{index}.wav", 200 + 300 * index)
    return folder


def test_spoken_words_and_resuming(clone):
    run_snippet(SNIPPETS["spoken-words"], clone, SHORT)
    assert (clone / "outputs/spoken_words/best/model.safetensors").is_file()
    out = run_snippet(SNIPPETS["resume"], clone, SHORT.replace("max_steps 2", "max_steps 3"))
    assert "steps 2 to 3" in out


def test_own_data(clone):
    run_snippet(SNIPPETS["own-data"], clone, SHORT + TINY)
    assert (clone / "outputs/mine/best/model.safetensors").is_file()


def test_frames_as_patches():
    words = shlex.split(SNIPPETS["frames"][1].replace("\\\n", " "))
    data, model, training = run_pretrain.parse_arguments([str(ROOT / words[2]), *words[3:]])
    made, feature_extractor = make_model(
        PretrainingModelArguments(config_overrides=json.dumps({**model.overrides, "num_hidden_layers": 2}))
    )
    assert made.config.patch_grid(feature_extractor.max_length) == (1, 512)


@pytest.mark.parametrize(("name", "processes"), [("one-node", 8), ("several-nodes", 32)])
def test_commands_for_gpus(name, processes):
    program, command, *words = shlex.split(SNIPPETS[name][1].replace("\\\n", " "))
    assert (program, command) == ("accelerate", "launch")
    launch = launch_command_parser().parse_args(words)
    assert launch.multi_gpu
    assert launch.num_processes == processes
    assert (ROOT / launch.training_script).samefile(run_pretrain.__file__)
    config, *rest = launch.training_script_args
    _, _, training = run_pretrain.parse_arguments([str(ROOT / config), *rest])
    # The paper's batch.
    assert training.per_device_train_batch_size * processes == 64


def test_two_processes(clone):
    words = SNIPPETS["two-processes"][1].replace("torchrun", f"python {' '.join(TORCHRUN)}")
    out = run_snippet(("bash", words), clone, SHORT + " --output_dir outputs/two")
    assert "on 2 processes" in out


def test_the_trainer(clone):
    out = run_snippet(SNIPPETS["trainer"], clone)
    assert re.search(r"'train_loss': '?\d", out)
