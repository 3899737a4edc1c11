# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What the demo answers to a sound."""

import importlib.util
from pathlib import Path

import pytest
import torch
from tones import write_broken_clips, write_tone

from hf_audio_ssm import SsambaConfig, SsambaFeatureExtractor, SsambaForAudioClassification


APP = Path(__file__).resolve().parents[2] / "examples" / "space" / "app.py"
pytest.importorskip("gradio")


def save(folder: Path, **kwargs) -> str:
    torch.manual_seed(0)
    labels = {"id2label": {0: "high", 1: "low"}, "label2id": {"high": 0, "low": 1}}
    config = SsambaConfig(hidden_size=16, num_hidden_layers=2, max_length=64, **labels, **kwargs)
    SsambaForAudioClassification(config).save_pretrained(folder)
    SsambaFeatureExtractor(max_length=64).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def prototypical(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("models") / "prototypical"
    return save(folder, classifier_type="prototypical", num_prototypes=2, problem_type="single_label_classification")


@pytest.fixture(scope="module")
def app():
    spec = importlib.util.spec_from_file_location("space_app", APP)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestListener:
    def test_prototypes(self, app, prototypical, tmp_path):
        write_tone(tmp_path / "tone.wav", 500, seconds=0.5)
        spectrogram, labels, similarity = app.Listener(prototypical).listen(str(tmp_path / "tone.wav"))
        assert labels.keys() == {"high", "low"}
        assert sum(labels.values()) == pytest.approx(1)
        best = max(labels, key=labels.get)
        assert similarity.axes[1].get_ylabel() == f"similarity to {best!r}"
        # Rows and columns of patches, over the spectrogram.
        assert similarity.axes[0].images[1].get_array().shape == (8, 4)
        assert spectrogram.axes[0].images[0].get_array().shape == (128, 64)

    def test_other_heads(self, app, tmp_path):
        folder = save(tmp_path / "linear", problem_type="multi_label_classification")
        write_tone(tmp_path / "tone.wav", 500)
        listener = app.Listener(folder)
        _, labels, similarity = listener.listen(str(tmp_path / "tone.wav"))
        assert similarity is None
        assert all(0 < score < 1 for score in labels.values())
        assert listener.listen(None) == (None, None, None)

    def test_unusable_sounds_are_told(self, app, prototypical, tmp_path):
        listener = app.Listener(prototypical)
        for name, reason in write_broken_clips(tmp_path / "broken").items():
            with pytest.raises(app.gr.Error, match=reason.split(";")[0]):
                listener.listen(str(tmp_path / "broken" / name))
