# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The scripts of docs/ssast.md with SSAST, as the page calls them but shorter, on a few tones in place of the words."""

import json
import re
import signal
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from labelled_tones import write_tones
from safetensors.torch import load_file
from snippets import read_snippets, run_here
from transformers import AutoModelForAudioClassification
from transformers.utils import logging

from hf_audio_ssm import SsastForAudioClassification
from hf_audio_ssm.hub.adapters import load_adapted
from hf_audio_ssm.training.comparison import DEFAULT_METHODS


ROOT = Path(__file__).resolve().parents[2]
SHORTER = {
    "run_pretrain": "--max_steps 2 --warmup_steps 1 --eval_steps 2 --per_device_train_batch_size 4 --num_workers 0",
    "run_audio_classification": "--num_train_epochs 1 --report_to none --disable_tqdm true",
    "run_lora": "--num_train_epochs 1 --report_to none --disable_tqdm true",
    "run_probing": "--epochs 1",
    "run_few_shot": "--epochs 1 --encoder_epochs 1 --shots 1 --seeds 0",
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> Path:
    """What the page's commands leave, in the folder of a clone."""
    clone = tmp_path_factory.mktemp("clone")
    (clone / "examples").mkdir()
    for name in ("configs", *(f"{script}.py" for script in SHORTER)):
        (clone / "examples" / name).symlink_to(ROOT / "examples" / name)
    write_tones(clone / "examples" / "spoken_words", {"train": 2, "validation": 1, "test": 1})
    threads, handler, verbosity = torch.get_num_threads(), signal.getsignal(signal.SIGTERM), logging.get_verbosity()
    commands = re.split(r"\n(?=python )", read_snippets(ROOT / "docs" / "ssast.md")["scripts"][1])
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(clone)
        for command, (script, shorter) in zip(commands, SHORTER.items(), strict=True):
            assert command.startswith(f"python examples/{script}.py ")
            for state in (AcceleratorState, GradientState, PartialState):
                state._reset_state()
            run_here(f"{command.rstrip()} {shorter}", patch)
    torch.set_num_threads(threads)
    signal.signal(signal.SIGTERM, handler)
    logging.set_verbosity(verbosity)
    return clone / "outputs"


def test_pretraining(outputs):
    assert json.loads((outputs / "ssast" / "best" / "config.json").read_text())["architectures"] == [
        "SsastForPreTraining"
    ]


def test_fine_tuning_and_adapters(outputs, monkeypatch):
    pretrained = load_file(outputs / "ssast" / "best" / "model.safetensors")
    tuned = AutoModelForAudioClassification.from_pretrained(outputs / "ssast_words")
    assert isinstance(tuned, SsastForAudioClassification)
    assert tuned.config.patch_grid() == (1, 48)
    weights = tuned.state_dict()
    assert not torch.equal(weights["ssast.layers.0.mlp.fc1.weight"], pretrained["ssast.layers.0.mlp.fc1.weight"])
    # The base is found by the name that the command gave it.
    monkeypatch.chdir(outputs.parent)
    adapted = load_adapted(outputs / "ssast_lora").peft_config["default"]
    assert adapted.target_modules == {"q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"}
    assert isinstance(
        AutoModelForAudioClassification.from_pretrained(outputs / "ssast_lora" / "merged"), SsastForAudioClassification
    )


def test_probes_and_few_clips(outputs):
    probes = (outputs / "ssast_probes" / "probing.md").read_text()
    assert [line.split(" | ")[0] for line in probes.splitlines()[2:]] == [f"| {name}" for name in DEFAULT_METHODS]
    assert DEFAULT_METHODS == (
        "knn",
        "linear",
        "layer_weighted",
        "attentive",
        "prototypical",
        "statistics",
        "protobin",
    )
    pretrained = load_file(outputs / "ssast" / "best" / "model.safetensors")
    probe = AutoModelForAudioClassification.from_pretrained(outputs / "ssast_probes" / "attentive").state_dict()
    assert torch.equal(probe["ssast.layernorm.weight"], pretrained["ssast.layernorm.weight"])
    table = json.loads((outputs / "ssast_few" / "few_shot.json").read_text())
    assert list(table) == ["knn", "linear", "layer_weighted", "attentive", "prototypical", "lora", "full"]
