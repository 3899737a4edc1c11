# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Every Auto class that people reach for gives the package's own class, and asks nothing."""

import numpy as np
import pytest
import transformers
from transformers import AutoProcessor, pipeline

from hf_audio_ssm import (
    SsambaConfig,
    SsambaFeatureExtractor,
    SsambaForAudioClassification,
    SsastConfig,
    SsastForAudioClassification,
)


KINDS = {
    "Ssamba": (SsambaConfig, SsambaForAudioClassification),
    "Ssast": (SsastConfig, SsastForAudioClassification),
}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def make(kind: str) -> SsambaForAudioClassification | SsastForAudioClassification:
    config_class, model_class = KINDS[kind]
    return model_class(config_class(hidden_size=16, num_hidden_layers=2, max_length=64, num_mel_bins=32, num_labels=3))


def feature_extractor() -> SsambaFeatureExtractor:
    return SsambaFeatureExtractor(max_length=64, num_mel_bins=32, mean=-3.5)


@pytest.fixture
def folder(kind, tmp_path, monkeypatch):
    def ask(*args):
        raise AssertionError("asked whether to run custom code")

    monkeypatch.setattr("builtins.input", ask)
    make(kind).save_pretrained(tmp_path)
    feature_extractor().save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("auto_class", "expected"),
    [
        ("AutoProcessor", "SsambaFeatureExtractor"),
        ("AutoFeatureExtractor", "SsambaFeatureExtractor"),
        ("AutoConfig", "{}Config"),
        ("AutoModel", "{}Model"),
        ("AutoModelForAudioClassification", "{}ForAudioClassification"),
        ("AutoModelForAudioFrameClassification", "{}ForAudioFrameClassification"),
        ("AutoModelForPreTraining", "{}ForPreTraining"),
    ],
)
def test_a_folder(kind, folder, auto_class, expected):
    loaded = getattr(transformers, auto_class).from_pretrained(folder)
    assert type(loaded).__name__ == expected.format(kind)
    assert type(loaded).__module__.startswith("hf_audio_ssm.")


def test_the_processor(folder):
    processor = AutoProcessor.from_pretrained(str(folder), max_length=80)
    assert (processor.mean, processor.max_length) == (-3.5, 80)
    again = folder / "again"
    processor.save_pretrained(again)
    make("Ssamba").config.save_pretrained(again)
    assert AutoProcessor.from_pretrained(again).to_dict() == processor.to_dict()
    clip = np.zeros(16000, np.float32)
    assert pipeline("audio-classification", model=str(folder), feature_extractor=processor)(clip)
    assert len(pipeline("audio-classification", model=str(folder))(clip)) == 3


def test_the_processor_of_a_repository(kind, hub, folder):
    make(kind).push_to_hub("ada/model")
    feature_extractor().push_to_hub("ada/model")
    processor = AutoProcessor.from_pretrained("ada/model")
    assert processor.to_dict() == AutoProcessor.from_pretrained(folder).to_dict()
