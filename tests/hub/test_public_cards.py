# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Cards are public: strings of others are text in them, and they name no places on this machine."""

from pathlib import Path

import peft
import pytest
import torch
from hub_server import card_errors
from huggingface_hub import ModelCard

from hf_audio_ssm import (
    SsambaConfig,
    SsambaFeatureExtractor,
    SsambaForAudioClassification,
    SsambaForPreTraining,
)
from hf_audio_ssm.hub.adapters import adapter_config, save_adapted
from hf_audio_ssm.hub.cards import Results, classifier_card, pretrained_card, read_base_model
from hf_audio_ssm.hub.names import public_name, public_text


SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4, "max_length": 64}


@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("org/clips", "org/clips"),
        ("org/clips:en@test", "org/clips:en@test"),
        ("outputs/run", "outputs/run"),
        ("../clips", "../clips"),
        ("/home/ada/clips", "clips"),
        ("/home/ada/clips/", "clips"),
        ("/home/ada/clips/*.parquet", "*.parquet"),
        ("~/clips", "clips"),
        ("file:///home/ada/clips", "clips"),
        ("C:\\Users\\ada\\my clips", "my clips"),
        ("\\\\server\\ada\\clips", "clips"),
        ("/", "a folder"),
        ("/home/ada/..", "a folder"),
    ],
)
def test_names_of_places(name, public):
    assert public_name(name) == public
    assert public_name(public) == public


def test_places_below_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert public_name(str(tmp_path / "outputs" / "run")) == "outputs/run"
    assert public_name(str(tmp_path)) == tmp_path.name


def test_texts():
    text = "noise_dir /home/ada/noise, gain 3 dB/s and 1/2; see https://example.org/a/b, /m/09x0r"
    assert public_text(text) == "noise_dir noise, gain 3 dB/s and 1/2; see https://example.org/a/b, 09x0r"
    assert public_text("C:\\Users\\ada\\x.wav; ~/y.wav") == "x.wav; y.wav"


def make_card(tmp_path: Path, **changes) -> str:
    labels = {0: "<img src=x onerror=alert(1)>", 1: "a\n\n# b", 2: "/m/09x0r", 3: "low_pass *x*"}
    model = SsambaForAudioClassification(
        SsambaConfig(**SIZES, id2label=labels, problem_type="single_label_classification")
    )
    source = str(tmp_path / "clips")
    results = Results({"accuracy": 0.5}, "test", source, 8, [f"Silence comes from {tmp_path}/silence."])
    return str(
        classifier_card(
            model_name=str(tmp_path / "outputs"),
            model=model,
            feature_extractor=SsambaFeatureExtractor(max_length=64),
            base_model=read_base_model(str(tmp_path / "base")),
            data=source,
            num_clips={"train": 8},
            training={"Augmentation": f"noise_dir {tmp_path}/noise"},
            results=results,
            **changes,
        )
    )


def test_card_of_a_classifier(tmp_path):
    card = make_card(tmp_path)
    assert str(tmp_path) not in card
    assert "&lt;img src=x onerror=alert(1)&gt;, a\\\\n\\\\n\\# b, /m/09x0r, low_pass \\*x\\*." in card
    assert "| Data | clips: 8 train clips |" in card
    assert "| Started from | base |" in card
    assert "| Augmentation | noise_dir noise |" in card
    assert "8 test clips of clips. Silence comes from silence." in card
    assert ModelCard(card).data.eval_results[0].dataset_name == "test clips of clips"
    assert card_errors(card) == []


def test_card_of_a_pretrained_model(tmp_path):
    card = str(
        pretrained_card(
            "./run/best",
            SsambaForPreTraining(SsambaConfig(**SIZES)),
            SsambaFeatureExtractor(max_length=64),
            None,
            sources=[str(tmp_path / "a"), "org/b", "c<b>"],
            training={"Seed": 3},
            results=Results({"mse": 0.5}, "validation", f"{tmp_path}/a", 7),
        )
    )
    assert str(tmp_path) not in card
    assert "| Data | a, org/b, c&lt;b&gt; |" in card


def test_card_of_a_base_model_is_quoted_without_its_markup(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "README.md").write_text(
        "---\nlicense: [mit]\nlicense_name: 'a\\x1b[31m <b>'\nbase_model: [/home/ada/model, {a: b}, org/first]\n---\n# Base\n"
        "## Licence and credit\n<script>alert(1)</script> by ![me](https://example.org/p.png) of <https://example.org>\n"
    )
    base = read_base_model(str(tmp_path / "base"))
    assert (base.on_hub, base.license) == ("org/first", None)
    assert (
        "> &lt;script>alert(1)&lt;/script> by [me](https://example.org/p.png) of <https://example.org>"
        in make_card(tmp_path)
    )


@pytest.mark.parametrize(
    "content", ["---\n- a\n---\n", "---\na: [\n---\n", "---\na: &a [*a]\n---\n", "", "\x00", "---\n" * 9]
)
def test_cards_of_base_models_that_are_none(tmp_path, content):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "README.md").write_text(content)
    assert read_base_model(str(tmp_path / "base")).license is None
    assert "license:" not in make_card(tmp_path)


def test_card_of_adapters(tmp_path):
    """PEFT names the folder of the base model in the metadata and in a tag."""
    torch.manual_seed(0)
    SsambaForAudioClassification(SsambaConfig(**SIZES)).save_pretrained(tmp_path / "base")
    model = SsambaForAudioClassification.from_pretrained(tmp_path / "base")
    save_adapted(peft.get_peft_model(model, adapter_config(model, r=2)), tmp_path / "adapters")
    card = (tmp_path / "adapters" / "README.md").read_text()
    assert str(tmp_path) not in card
    assert ModelCard(card).data.tags == ["lora", "transformers"]
