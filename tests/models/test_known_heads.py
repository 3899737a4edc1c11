# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What transformers reports when a bare encoder is loaded from a checkpoint with heads."""

import logging

import pytest
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForAudioFrameClassification,
    AutoModelForPreTraining,
)

from hf_audio_ssm.models import ENCODERS


@pytest.fixture
def transformers_log(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    # Commands that ran in this process before have set another.
    caplog.set_level(logging.WARNING, logger="transformers")
    return caplog


@pytest.mark.parametrize(
    "auto_class", [AutoModelForPreTraining, AutoModelForAudioClassification, AutoModelForAudioFrameClassification]
)
@pytest.mark.parametrize("model_type", ENCODERS)
def test_known_heads_are_not_reported(model_type, auto_class, tmp_path, transformers_log):
    config = AutoConfig.for_model(model_type, hidden_size=16, num_hidden_layers=2, max_length=64, num_labels=3)
    auto_class.from_config(config).save_pretrained(tmp_path)
    transformers_log.clear()
    _, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert not transformers_log.records


def test_another_head_is_reported(tmp_path, transformers_log):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "max_length": 64, "num_labels": 3}
    config = AutoConfig.for_model("ssamba", classifier_type="attentive", **sizes)
    AutoModelForAudioClassification.from_config(config).save_pretrained(tmp_path)
    _, info = AutoModelForAudioClassification.from_pretrained(
        tmp_path, classifier_type="linear", output_loading_info=True
    )
    assert info["unexpected_keys"] == {"classifier.query"}
    assert "classifier.query" in transformers_log.text


@pytest.mark.parametrize("model_type", ENCODERS)
def test_other_weights_are_reported(model_type, tmp_path, transformers_log):
    config = AutoConfig.for_model(model_type, hidden_size=16, num_hidden_layers=2, max_length=64)
    AutoModelForPreTraining.from_config(config).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    others = {f"{model_type}.adapter.weight", "decoder.classifier.weight"}
    tensor = weights["generative_head.dense.bias"]
    save_file(weights | {name: tensor.clone() for name in others}, tmp_path / "model.safetensors", {"format": "pt"})
    _, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    # Without the encoder's own prefix.
    assert {name.removeprefix(f"{model_type}.") for name in info["unexpected_keys"]} == {
        "adapter.weight",
        "decoder.classifier.weight",
    }
    assert "UNEXPECTED" in transformers_log.text
    assert "discriminative_head" not in transformers_log.text
