# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The one loader: every kind of checkpoint for every task, and its rule for weights that are missing or unknown."""

import json
import logging
import shutil
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ASTConfig

from hf_audio_ssm import (
    SsambaConfig,
    SsambaFeatureExtractor,
    SsambaForAudioClassification,
    SsambaForAudioFrameClassification,
    SsambaForPreTraining,
    SsambaModel,
    SsastConfig,
    SsastForAudioClassification,
    annotate,
)
from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.hub.adapters import adapter_config, load_adapted, push_adapted, save_adapted
from hf_audio_ssm.hub.loading import load_checkpoint, load_config, load_encoder, load_feature_extractor, load_model
from hf_audio_ssm.hub.weights import TASKS, EncoderWeightsError


LABELS = {0: "low", 1: "middle", 2: "high"}
CLASSES = {
    "encoder": SsambaModel,
    "pretraining": SsambaForPreTraining,
    "audio-classification": SsambaForAudioClassification,
    "audio-frame-classification": SsambaForAudioFrameClassification,
}


def make_model(task: str = "audio-classification", **fields):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4, "max_length": 64, "frames_per_label": 16}
    return CLASSES[task](SsambaConfig(**{**sizes, "id2label": LABELS, **fields})).eval()


def save(folder: Path, task: str = "audio-classification", **fields) -> Path:
    make_model(task, **fields).save_pretrained(folder)
    SsambaFeatureExtractor(max_length=64).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    """A checkpoint saved for each task."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return {task: save(folder / task, task) for task in TASKS}


def change_weights(folder: Path, change) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def make_inputs() -> torch.Tensor:
    return torch.randn(2, 64, 128, generator=torch.Generator().manual_seed(0))


def same(loaded, expected) -> None:
    """Of both the logits, or the tokens."""
    with torch.no_grad():
        pair = [model.eval()(input_values=make_inputs()) for model in (loaded, expected)]
    name = "logits" if "logits" in pair[0] else "last_hidden_state"
    torch.testing.assert_close(pair[0][name], pair[1][name], atol=1e-5, rtol=0)


class TestTasks:
    @pytest.mark.parametrize("task", TASKS)
    def test_a_checkpoint_of_the_task(self, checkpoints, task):
        model, feature_extractor = load_checkpoint(checkpoints[task], task)
        assert type(model) is CLASSES[task]
        assert not model.training
        assert feature_extractor.max_length == 64
        expected = CLASSES[task].from_pretrained(checkpoints[task])
        assert all(torch.equal(weight, expected.state_dict()[name]) for name, weight in model.state_dict().items())

    @pytest.mark.parametrize("task", TASKS)
    def test_the_encoder_of_any_checkpoint(self, checkpoints, task, caplog):
        """Without a word of heads."""
        logging.getLogger("transformers").addHandler(caplog.handler)
        try:
            encoder, _ = load_encoder(checkpoints[task])
        finally:
            logging.getLogger("transformers").removeHandler(caplog.handler)
        assert type(encoder) is SsambaModel
        assert "UNEXPECTED" not in caplog.text
        same(encoder, CLASSES[task].from_pretrained(checkpoints[task]).base_model)

    def test_a_linear_classifier_of_clips_labels_frames(self, checkpoints):
        model = load_model(checkpoints["audio-classification"], "audio-frame-classification")
        expected = make_model().classifier.state_dict()
        assert all(torch.equal(weight, expected[name]) for name, weight in model.classifier.state_dict().items())

    def test_a_classifier_of_frames_does_not_label_clips(self, checkpoints, tmp_path):
        """Its weights would fit, but were trained on shorter clips."""
        frames = checkpoints["audio-frame-classification"]
        with pytest.raises(InputError, match="no trained classifier: it labels frames, for `annotate`") as caught:
            load_checkpoint(frames, "audio-classification")
        assert str(caught.value).isprintable()
        # One that is trained anew may begin with it.
        assert load_model(frames, "audio-classification", new_head=True).num_labels == 3

    def test_pretraining_is_no_classification(self, checkpoints):
        for task in ("audio-classification", "audio-frame-classification"):
            with pytest.raises(InputError, match="has no trained"):
                load_checkpoint(checkpoints["pretraining"], task)
        for task in ("encoder", "audio-classification"):
            with pytest.raises(InputError, match="has no trained pretraining heads"):
                load_checkpoint(checkpoints[task], "pretraining")

    def test_dtype_and_device(self, checkpoints):
        model, _ = load_checkpoint(str(checkpoints["encoder"]), device="meta", dtype=torch.float16)
        assert (model.dtype, model.device.type) == (torch.float16, "meta")

    def test_revision_and_token(self, hub, monkeypatch):
        model = make_model()
        model.push_to_hub("org/model", revision="second", private=True)
        SsambaFeatureExtractor(max_length=64).push_to_hub("org/model", revision="second")
        with pytest.raises(InputError, match="`model` 'org/model' cannot be loaded: "):
            load_checkpoint("org/model", "audio-classification")
        monkeypatch.delenv("HF_TOKEN")
        with pytest.raises(InputError, match="`model` 'org/model' cannot be loaded: "):
            load_checkpoint("org/model", "audio-classification", revision="second")
        loaded, _ = load_checkpoint("org/model", "audio-classification", revision="second", token="hf_of_ada")
        same(loaded, model)


class TestRefused:
    @pytest.mark.parametrize("task", TASKS)
    @pytest.mark.parametrize("new_head", [False, True])
    def test_missing_weights_of_the_encoder(self, checkpoints, tmp_path, task, new_head):
        shutil.copytree(checkpoints["audio-classification"], tmp_path / "copy")
        change_weights(tmp_path / "copy", lambda weights: weights.pop("ssamba.layers.1.mixer.in_proj.weight"))
        with pytest.raises(EncoderWeightsError, match=r"lacks fitting weights of the encoder: .*1\.mixer\.in_proj"):
            load_model(tmp_path / "copy", task, new_head=new_head)

    def test_weights_of_other_shapes(self, checkpoints, tmp_path):
        shutil.copytree(checkpoints["encoder"], tmp_path / "copy")
        change_weights(tmp_path / "copy", lambda weights: weights.update({"layernorm.weight": torch.ones(8)}))
        with pytest.raises(EncoderWeightsError, match=r"of the encoder: layernorm\.weight \(8, expected 16\)$"):
            load_model(tmp_path / "copy")

    @pytest.mark.parametrize("task", TASKS)
    @pytest.mark.parametrize("name", ["ssamba.layers.2.mixer.D", "decoder.weight"])
    def test_unknown_weights(self, checkpoints, tmp_path, task, name):
        shutil.copytree(checkpoints[task], tmp_path / "copy")
        change_weights(tmp_path / "copy", lambda weights: weights.update({name: torch.ones(2)}))
        shown = name.removeprefix("ssamba.") if task == "encoder" else name
        with pytest.raises(InputError, match=rf"holds weights that {CLASSES[task].__name__} does not have: .*{shown}"):
            load_model(tmp_path / "copy", task)

    @pytest.mark.parametrize(
        ("saved", "task", "message"),
        [
            (
                "encoder",
                "audio-classification",
                "no trained classifier: classifier.dense.bias, .*; fine-tune it first",
            ),
            ("pretraining", "audio-classification", "no trained classifier: classifier.dense.bias"),
            ("pretraining", "audio-frame-classification", "no trained head for labels along time: classifier.dense"),
            ("audio-classification", "pretraining", "no trained pretraining heads: discriminative_head"),
        ],
    )
    def test_a_head_that_nobody_trained(self, checkpoints, saved, task, message):
        with pytest.raises(InputError, match=f"`model` '.*' has {message}"):
            load_checkpoint(checkpoints[saved], task)
        model = load_model(checkpoints[saved], task, new_head=True)
        same(model.base_model, load_model(checkpoints[saved]))

    def test_heads_of_another_kind_or_size(self, checkpoints, tmp_path):
        save(tmp_path / "attentive", classifier_type="attentive")
        config = load_config(tmp_path / "attentive")
        config.classifier_type = "linear"
        with pytest.raises(InputError, match="no trained classifier: classifier.query do not fit"):
            load_model(tmp_path / "attentive", "audio-classification", config=config)
        config = load_config(checkpoints["audio-classification"])
        config.num_labels = 5
        with pytest.raises(InputError, match=r"classifier.dense.weight \(3 x 16, expected 5 x 16\) do not fit"):
            load_model(checkpoints["audio-classification"], "audio-classification", config=config)
        model = load_model(checkpoints["audio-classification"], "audio-classification", config=config, new_head=True)
        assert model.classifier.dense.out_features == 5

    def test_what_cannot_be_loaded(self, checkpoints, tmp_path):
        with pytest.raises(InputError, match="`task` must be one of encoder, .*, got 'singing'"):
            load_checkpoint(checkpoints["encoder"], "singing")
        with pytest.raises(InputError, match=r"^--model x/y/z cannot be loaded: there is no such folder$"):
            load_checkpoint("x/y/z", called="--model x/y/z")
        ASTConfig().save_pretrained(tmp_path / "other")
        with pytest.raises(
            InputError, match="is a model of type 'audio-spectrogram-transformer', expected ssamba or ss"
        ):
            load_checkpoint(tmp_path / "other")
        make_model("encoder").save_pretrained(tmp_path / "alone")
        with pytest.raises(InputError, match=f"`model` '{tmp_path / 'alone'}' cannot be loaded: "):
            load_checkpoint(tmp_path / "alone")


def adapt(base: Path, task: str, **options) -> peft.PeftModel:
    """Adapters, and a head where there is one, as if trained."""
    torch.manual_seed(1)
    model = CLASSES[task].from_pretrained(base)
    adapted = peft.get_peft_model(model, adapter_config(model, r=2, init_lora_weights=False, **options)).eval()
    for name, parameter in adapted.named_parameters():
        if "modules_to_save" in name:
            torch.nn.init.normal_(parameter)
    return adapted


SAVERS = [save_adapted, peft.PeftModel.save_pretrained]


@pytest.mark.parametrize("saver", SAVERS)
class TestAdapters:
    @pytest.mark.parametrize("task", ["encoder", "audio-classification", "audio-frame-classification"])
    @pytest.mark.parametrize("base", ["pretraining", "audio-classification"])
    def test_of_each_task(self, checkpoints, tmp_path, saver, task, base):
        adapted = adapt(checkpoints[base], task)
        saver(adapted, tmp_path / "adapters")
        assert type(load_adapted(tmp_path / "adapters").get_base_model()) is CLASSES[task]
        model, feature_extractor = load_checkpoint(tmp_path / "adapters", task)
        assert type(model) is CLASSES[task]
        assert not model.training
        assert model.config.id2label == LABELS
        assert feature_extractor.max_length == 64
        same(model, adapted)
        same(load_encoder(tmp_path / "adapters")[0], adapted.get_base_model().base_model)

    def test_a_task_named_to_peft(self, checkpoints, tmp_path, saver):
        adapted = adapt(checkpoints["pretraining"], "encoder", task_type="FEATURE_EXTRACTION")
        saver(adapted, tmp_path)
        same(load_checkpoint(tmp_path)[0], adapted.get_base_model())

    def test_of_an_encoder_have_no_classifier(self, checkpoints, tmp_path, saver):
        saver(adapt(checkpoints["audio-classification"], "encoder"), tmp_path)
        with pytest.raises(InputError, match="has no trained classifier: classifier.dense.bias"):
            load_checkpoint(tmp_path, "audio-classification")
        assert load_model(tmp_path, "audio-classification", new_head=True).classifier is not None

    def test_without_a_head(self, checkpoints, tmp_path, saver):
        saver(adapt(checkpoints["pretraining"], "audio-classification", modules_to_save=None), tmp_path)
        with pytest.raises(
            InputError, match=r"`model` '.*' \(adapters of '.*pretraining'\) has no trained classifier"
        ):
            load_checkpoint(tmp_path, "audio-classification")

    def test_of_another_model(self, checkpoints, tmp_path, saver):
        saver(adapt(checkpoints["audio-classification"], "encoder"), tmp_path)
        fields = json.loads((tmp_path / "adapter_config.json").read_text())
        fields["auto_mapping"]["base_model_class"] = "SsambaForAudioClassification"
        (tmp_path / "adapter_config.json").write_text(json.dumps(fields))
        with pytest.raises(InputError, match="does not belong to a SsambaForAudioClassification: it lacks base_model"):
            load_checkpoint(tmp_path, "audio-classification")


def test_adapters_of_frame_labels_annotate(checkpoints, tmp_path):
    adapted = adapt(checkpoints["pretraining"], "audio-frame-classification")
    save_adapted(adapted, tmp_path)
    block = {"array": torch.randn(16_000).numpy(), "sampling_rate": 16_000}
    scores = annotate([block], tmp_path).scores
    expected = annotate([block], adapted.merge_and_unload(), load_feature_extractor(tmp_path)).scores
    torch.testing.assert_close(torch.from_numpy(scores), torch.from_numpy(expected))


def test_adapters_with_labels_of_their_own(checkpoints, tmp_path):
    """Adapters of clips serve frames, too; another base, and a new head for other labels."""
    torch.manual_seed(1)
    base = SsastForAudioClassification(
        SsastConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, max_length=64)
    )
    base.save_pretrained(tmp_path / "base")
    base = SsastForAudioClassification.from_pretrained(
        tmp_path / "base", id2label=LABELS, ignore_mismatched_sizes=True
    )
    adapted = peft.get_peft_model(base, adapter_config(base, r=2, init_lora_weights=False)).eval()
    save_adapted(adapted, tmp_path / "adapters")
    frames = load_model(tmp_path / "adapters", "audio-frame-classification")
    assert frames.config.id2label == LABELS
    expected = adapted.get_base_model().classifier.modules_to_save["default"].dense.weight
    assert torch.equal(frames.classifier.dense.weight, expected)
    config = load_config(tmp_path / "adapters")
    config.num_labels = 7
    model = load_model(tmp_path / "adapters", "audio-classification", config=config, new_head=True)
    assert model.num_labels == 7
    same(model.base_model, load_model(tmp_path / "adapters"))


def test_pushed_adapters(hub):
    make_model("pretraining").push_to_hub("org/base")
    SsambaFeatureExtractor(max_length=64).push_to_hub("org/base")
    base = SsambaForAudioFrameClassification.from_pretrained("org/base", id2label=LABELS)
    adapted = peft.get_peft_model(base, adapter_config(base, r=2, init_lora_weights=False)).eval()
    push_adapted(adapted, "org/adapters", revision="first")
    model, _ = load_checkpoint("org/adapters", "audio-frame-classification", revision="first")
    same(model, adapted)
