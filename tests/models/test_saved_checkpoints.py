# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Checkpoints that an earlier version saved: they load with this version, without the package by the code beside them, and by
that code where this version is installed. What this version saves loads without the package as well.
"""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForAudioFrameClassification,
    AutoModelForPreTraining,
)
from warm_python import run_python

from hf_audio_ssm.hub.adapters import load_adapted
from hf_audio_ssm.models.heads.classification_heads import CLASSIFIER_TYPES


CHECKPOINTS = Path(__file__).resolve().parents[1] / "fixtures" / "checkpoints"
EXPECTED = load_file(CHECKPOINTS / "expected.safetensors")
CLASSIFIERS = ("ssamba_linear", "ssamba_layer_weighted", "ssamba_attentive", "ssamba_prototypical", "ssast_linear")
TOLERANCES = {"rtol": 1e-5, "atol": 1e-5}

# Runs all checkpoints of a list [folder, Auto class] by their own code.
RUN_REMOTE_CODE = """
import json, sys
without_package = sys.argv[1] == "without"
if without_package:
    sys.modules["hf_audio_ssm"] = None
import torch, transformers
from safetensors.torch import load_file, save_file
from transformers.dynamic_module_utils import get_class_from_dynamic_module

def load(folder, auto_class, file):
    if without_package:
        return getattr(transformers, auto_class).from_pretrained(folder, trust_remote_code=True)
    # Auto classes prefer those that the package has registered.
    name = json.load(open(f"{folder}/{file}"))["auto_map"][auto_class]
    return get_class_from_dynamic_module(name, folder).from_pretrained(folder)

inputs = load_file("inputs.safetensors")
results = {}
for folder, auto_class in json.loads(sys.argv[2]):
    model = load(folder, auto_class, "config.json").eval()
    extractor = load(folder, "AutoFeatureExtractor", "preprocessor_config.json")
    for loaded in (model, model.config, extractor):
        assert type(loaded).__module__.startswith("transformers_modules."), type(loaded)
    if model.config.model_type == "ssamba":
        assert (sys.modules[type(model).__module__].ops is None) == without_package
    masked = {"bool_masked_pos": inputs["bool_masked_pos"]} if auto_class == "AutoModelForPreTraining" else {}
    with torch.no_grad():
        outputs = model(inputs["input_values"], **masked)
    results[folder] = (outputs.generative_predictions if masked else outputs.logits).contiguous()
save_file(results, "results.safetensors")
"""


def auto_class_of(name: str) -> str:
    task = "AudioFrameClassification" if name.endswith("frames") else "AudioClassification"
    return "AutoModelForPreTraining" if name.endswith("pretraining") else f"AutoModelFor{task}"


@pytest.fixture
def checkpoints(tmp_path):
    """The folder that holds whole checkpoints, each with the code that was saved beside it."""
    for folder in CHECKPOINTS.iterdir():
        if (folder / "config.json").is_file():
            shutil.copytree(folder, tmp_path / folder.name)
            shutil.copytree(CHECKPOINTS / "code", tmp_path / folder.name, dirs_exist_ok=True)
    shutil.copytree(CHECKPOINTS / "ssamba_adapters", tmp_path / "ssamba_adapters")
    shutil.copy(CHECKPOINTS / "expected.safetensors", tmp_path / "inputs.safetensors")
    return tmp_path


def run_remote_code(folder: Path, how: str, names: list[str]) -> dict[str, torch.Tensor]:
    arguments = ["-c", RUN_REMOTE_CODE, how, json.dumps([[name, auto_class_of(name)] for name in names])]
    environment = {**os.environ, "HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
    result = run_python(arguments, folder, environment)
    assert result.returncode == 0, result.stderr
    return load_file(folder / "results.safetensors")


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_load(name):
    model, info = AutoModelForAudioClassification.from_pretrained(CHECKPOINTS / name, output_loading_info=True)
    assert type(model).__module__.startswith("hf_audio_ssm.")
    assert not any(info.values())
    with torch.no_grad():
        logits = model.eval()(EXPECTED["input_values"]).logits
    torch.testing.assert_close(logits, EXPECTED[name], **TOLERANCES)
    assert type(AutoFeatureExtractor.from_pretrained(CHECKPOINTS / name)).__module__.startswith("hf_audio_ssm.")


def test_frame_classifiers_load():
    model, info = AutoModelForAudioFrameClassification.from_pretrained(
        CHECKPOINTS / "ssamba_frames", output_loading_info=True
    )
    assert not any(info.values())
    with torch.no_grad():
        logits = model.eval()(EXPECTED["input_values"]).logits
    torch.testing.assert_close(logits, EXPECTED["ssamba_frames"], **TOLERANCES)


def test_pretraining_checkpoints_load():
    model, info = AutoModelForPreTraining.from_pretrained(CHECKPOINTS / "ssamba_pretraining", output_loading_info=True)
    assert not any(info.values())
    with torch.no_grad():
        outputs = model.eval()(EXPECTED["input_values"], bool_masked_pos=EXPECTED["bool_masked_pos"])
        encoder = AutoModel.from_pretrained(CHECKPOINTS / "ssamba_pretraining").eval()
        pooled = encoder(EXPECTED["input_values"]).pooler_output
    torch.testing.assert_close(outputs.generative_predictions, EXPECTED["ssamba_pretraining"], **TOLERANCES)
    torch.testing.assert_close(pooled, EXPECTED["ssamba_pretraining_pooler_output"], **TOLERANCES)


def test_adapters_load(checkpoints, monkeypatch):
    # The base model's name is a path relative to the working folder.
    monkeypatch.chdir(checkpoints)
    with torch.no_grad():
        logits = load_adapted("ssamba_adapters").eval()(EXPECTED["input_values"]).logits
    torch.testing.assert_close(logits, EXPECTED["ssamba_adapters"], **TOLERANCES)


def test_saved_configurations_keep_their_fields(tmp_path):
    """What is saved again differs in nothing but fields that are new."""
    for name in (*CLASSIFIERS, "ssamba_frames", "ssamba_pretraining"):
        AutoConfig.from_pretrained(CHECKPOINTS / name).save_pretrained(tmp_path / name)
        old, new = (json.loads((folder / name / "config.json").read_text()) for folder in (CHECKPOINTS, tmp_path))
        assert {key: value for key, value in new.items() if key in old} == old
        assert set(new) - set(old) <= {"classifier_dropout", "statistics_of_filter_bank"}


@pytest.mark.parametrize("how", ["without", "with"])
def test_remote_code_of_an_earlier_version(checkpoints, how):
    names = [*CLASSIFIERS, "ssamba_frames", "ssamba_pretraining"]
    results = run_remote_code(checkpoints, how, names)
    for name in names:
        torch.testing.assert_close(results[name], EXPECTED[name], **TOLERANCES)


def test_remote_code_of_this_version(tmp_path):
    """All heads, for clips and for time steps."""
    inputs = EXPECTED["input_values"]
    shutil.copy(CHECKPOINTS / "expected.safetensors", tmp_path / "inputs.safetensors")
    feature_extractor = AutoFeatureExtractor.from_pretrained(CHECKPOINTS / "ssamba_linear")
    expected = {}
    for model_type in ("ssamba", "ssast"):
        for classifier_type in CLASSIFIER_TYPES:
            config = AutoConfig.from_pretrained(
                CHECKPOINTS / f"{model_type}_linear", classifier_type=classifier_type, frames_per_label=16
            )
            for name, auto_class in (
                (f"{model_type}_{classifier_type}", AutoModelForAudioClassification),
                (f"{model_type}_{classifier_type}_frames", AutoModelForAudioFrameClassification),
            ):
                model = auto_class.from_config(config).eval()
                for parameter in model.classifier.parameters():
                    parameter.data.normal_()
                model.save_pretrained(tmp_path / name)
                feature_extractor.save_pretrained(tmp_path / name)
                with torch.no_grad():
                    expected[name] = model(inputs).logits
    results = run_remote_code(tmp_path, "without", list(expected))
    for name, logits in expected.items():
        torch.testing.assert_close(results[name], logits, rtol=1e-4, atol=1e-4)
