# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Adapters keep the labels, the head and the task of their classifier, whoever saves and whoever loads them."""

import copy
import json
import pickle
import shutil
from pathlib import Path

import peft
import pytest
import torch
from transformers import AutoModelForAudioClassification, AutoModelForAudioFrameClassification, pipeline

from hf_audio_ssm import (
    SsambaConfig,
    SsambaFeatureExtractor,
    SsambaForAudioClassification,
    SsambaForAudioFrameClassification,
)
from hf_audio_ssm.hub.adapters import adapter_config, load_adapted, save_adapted
from hf_audio_ssm.models.heads.adapter_labels import CLASSIFIER_CONFIG


BASE_LABELS = {0: "yes", 1: "no", 2: "stop"}
HEADS = {
    "as many labels": {"id2label": {0: "seven", 1: "eight", 2: "nine"}},
    "other labels": {"id2label": {0: "one", 1: "two", 2: "three", 3: "four"}},
    "one label less": {"id2label": {0: "left", 1: "right"}, "classifier_type": "attentive"},
    "many at once": {"id2label": {0: "seven", 1: "eight", 2: "nine"}, "problem_type": "multi_label_classification"},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4, "max_length": 64, "frames_per_label": 16}
    SsambaForAudioClassification(SsambaConfig(**sizes, id2label=BASE_LABELS)).save_pretrained(folder)
    SsambaFeatureExtractor(max_length=64).save_pretrained(folder)
    return str(folder)


def make_model(base: str, model_class=SsambaForAudioClassification, **fields):
    saved = {name: value for name, value in SsambaConfig.from_pretrained(base).to_dict().items() if name != "label2id"}
    fields = {**saved, **fields}
    label2id = {name: int(index) for index, name in fields["id2label"].items()}
    config = SsambaConfig.from_dict({**fields, "label2id": label2id})
    return model_class.from_pretrained(base, config=config, ignore_mismatched_sizes=True).eval()


def make_config(model, by_hand: bool) -> peft.PeftConfig:
    options = {"r": 2, "init_lora_weights": False}
    if by_hand:
        return peft.LoraConfig(target_modules=["in_proj"], modules_to_save=["classifier"], **options)
    return adapter_config(model, **options)


def save_by_transformers(model, folder: Path) -> torch.nn.Module:
    model.add_adapter(make_config(model, by_hand=True))
    model.save_pretrained(folder)
    return model


def save_by_peft(model, folder: Path, by_hand: bool = False) -> torch.nn.Module:
    adapted = peft.get_peft_model(model, make_config(model, by_hand))
    adapted.save_pretrained(folder)
    return adapted


def save_by_us(model, folder: Path) -> torch.nn.Module:
    adapted = peft.get_peft_model(model, make_config(model, by_hand=False))
    save_adapted(adapted, folder)
    return adapted


WAYS_TO_SAVE = {
    "save_adapted": save_by_us,
    "PEFT": save_by_peft,
    "PEFT with its own configuration": lambda model, folder: save_by_peft(model, folder, by_hand=True),
    "transformers": save_by_transformers,
}
WAYS_TO_LOAD = {
    "load_adapted": load_adapted,
    "Auto class": AutoModelForAudioClassification.from_pretrained,
    "class": SsambaForAudioClassification.from_pretrained,
    "pipeline": lambda folder: pipeline("audio-classification", model=str(folder)).model,
}


def logits_of(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_values=torch.linspace(-1, 1, 64 * 128).reshape(1, 64, 128)).logits


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("way", WAYS_TO_SAVE)
def test_labels_and_head_come_with_the_adapters(base, tmp_path, way, head):
    saved = WAYS_TO_SAVE[way](make_model(base, **HEADS[head]), tmp_path)
    expected = logits_of(saved)
    for load in WAYS_TO_LOAD.values():
        loaded = load(tmp_path)
        assert loaded.config.id2label == HEADS[head]["id2label"]
        assert loaded.config.label2id == {name: index for index, name in HEADS[head]["id2label"].items()}
        assert loaded.config.problem_type == HEADS[head].get("problem_type")
        torch.testing.assert_close(logits_of(loaded), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("way", ["save_adapted", "PEFT", "PEFT with its own configuration"])
def test_loaders_of_peft(base, tmp_path, way):
    def load_automatically():
        return peft.AutoPeftModel.from_pretrained(str(tmp_path), import_allowlist=["hf_audio_ssm"])

    def load_on_the_base():
        return peft.PeftModel.from_pretrained(SsambaForAudioClassification.from_pretrained(base), tmp_path)

    saved = WAYS_TO_SAVE[way](make_model(base, **HEADS["as many labels"]), tmp_path)
    for load in (load_automatically, load_on_the_base):
        loaded = load()
        assert loaded.config.id2label == HEADS["as many labels"]["id2label"]
        torch.testing.assert_close(logits_of(loaded), logits_of(saved), atol=1e-5, rtol=0)
    # A head of another size cannot be made once the adapters are in place.
    WAYS_TO_SAVE[way](make_model(base, **HEADS["other labels"]), tmp_path)
    for load in (load_automatically, load_on_the_base):
        with pytest.raises(
            ValueError, match=r"^The adapters are those of a classifier of 4 labels, but the model has 3: load"
        ):
            load()


def test_adapters_without_labels_are_refused_where_the_base_would_lend_its_own(base, tmp_path):
    """Saved before labels were, or by code that is not the package's."""
    save_by_peft(make_model(base, **HEADS["as many labels"]), tmp_path)
    forget_labels(tmp_path)
    with pytest.raises(ValueError, match=r"hold a classifier, but not its labels. Load them by `peft.PeftModel"):
        AutoModelForAudioClassification.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"hold a classifier, but not its labels"):
        pipeline("audio-classification", model=str(tmp_path))
    with pytest.raises(ValueError, match=r"hold a classifier, but not its labels"):
        load_adapted(tmp_path)
    loaded = peft.PeftModel.from_pretrained(make_model(base, **HEADS["as many labels"]), tmp_path)
    assert loaded.config.id2label == HEADS["as many labels"]["id2label"]


def forget_labels(folder: Path) -> None:
    (folder / CLASSIFIER_CONFIG).unlink()
    fields = json.loads((folder / "adapter_config.json").read_text())
    if fields["auto_mapping"]:
        del fields["auto_mapping"]["id2label"]
    (folder / "adapter_config.json").write_text(json.dumps(fields))


def test_adapters_without_a_head_have_the_labels_of_the_base(base, tmp_path):
    model = SsambaForAudioClassification.from_pretrained(base)
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["in_proj"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path)
    forget_labels(tmp_path)
    for load in WAYS_TO_LOAD.values():
        loaded = load(tmp_path)
        assert loaded.config.id2label == BASE_LABELS
        torch.testing.assert_close(logits_of(loaded), logits_of(adapted), atol=1e-5, rtol=0)


def test_training_goes_on_only_with_the_same_labels(base, tmp_path):
    save_by_peft(make_model(base, **HEADS["as many labels"]), tmp_path)
    model = make_model(base)
    with pytest.raises(ValueError, match="adapters to be trained are those of a classifier of other labels"):
        peft.PeftModel.from_pretrained(model, tmp_path, is_trainable=True)
    loaded = load_adapted(tmp_path, is_trainable=True)
    loaded.save_pretrained(tmp_path / "again")
    assert load_adapted(tmp_path / "again").config.id2label == HEADS["as many labels"]["id2label"]


def test_models_with_adapters_are_copied_and_pickled(base, tmp_path):
    adapted = peft.get_peft_model(make_model(base), make_config(None, by_hand=True)).eval()
    for again in (copy.deepcopy(adapted), pickle.loads(pickle.dumps(adapted))):
        torch.testing.assert_close(logits_of(again), logits_of(adapted))
        again.config.id2label = HEADS["as many labels"]["id2label"]
        again.save_pretrained(tmp_path)
        assert load_adapted(tmp_path).config.id2label == HEADS["as many labels"]["id2label"]
    assert adapted.config.id2label == BASE_LABELS
    assert not hasattr(adapted.unload(), "peft_config")


@pytest.mark.parametrize("way", WAYS_TO_SAVE)
def test_adapters_of_frames_stay_those_of_frames(base, tmp_path, way):
    saved = WAYS_TO_SAVE[way](make_model(base, SsambaForAudioFrameClassification), tmp_path)
    for load in (load_adapted, AutoModelForAudioFrameClassification.from_pretrained):
        loaded = load(tmp_path)
        assert logits_of(loaded).shape == (1, 4, 3)
        torch.testing.assert_close(logits_of(loaded), logits_of(saved), atol=1e-5, rtol=0)
    for load in (
        AutoModelForAudioClassification.from_pretrained,
        lambda folder: pipeline("audio-classification", model=str(folder)),
    ):
        with pytest.raises(
            ValueError, match="are those of a SsambaForAudioFrameClassification, not of a SsambaForAudioC"
        ):
            load(tmp_path)


def test_pipeline_says_that_it_takes_the_feature_extractor_of_the_base(base, tmp_path, caplog):
    save_by_peft(make_model(base), tmp_path)
    AutoModelForAudioClassification.from_pretrained(tmp_path)
    assert "feature extractor" not in caplog.text
    SsambaFeatureExtractor(max_length=100).save_pretrained(tmp_path)
    AutoModelForAudioClassification.from_pretrained(tmp_path)
    assert "`pipeline` takes the base model's unless it is given `feature_extractor=" in caplog.text


def test_base_folders_that_look_like_names_on_the_hub_are_saved_as_folders(base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(base, "outputs/base")
    save_by_peft(make_model("outputs/base"), tmp_path / "adapters")
    saved = json.loads((tmp_path / "adapters" / "adapter_config.json").read_text())
    assert saved["base_model_name_or_path"] == "./outputs/base"
    assert load_adapted("adapters").config.id2label == BASE_LABELS
