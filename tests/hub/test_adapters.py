# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Adapters: gradients with every kernel, and saving, loading and merging without a change of the logits."""

import peft
import pytest
import torch
from labelled_tones import save_encoder
from transformers import AutoModel, AutoModelForAudioClassification, Wav2Vec2Config, Wav2Vec2ForSequenceClassification

from hf_audio_ssm import SsastConfig, SsastForAudioClassification, ops
from hf_audio_ssm.hub.adapters import (
    ADAPTER_METHODS,
    adapter_config,
    load_adapted,
    merge_adapted,
    save_adapted,
)
from hf_audio_ssm.models import ENCODERS


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return str(save_encoder(tmp_path_factory.mktemp("encoder")))


def make_adapted(encoder: str, method: str = "lora", **options) -> peft.PeftModel:
    torch.manual_seed(0)
    labels = {0: "low", 1: "middle", 2: "high"}
    model = AutoModelForAudioClassification.from_pretrained(encoder, num_labels=3, id2label=labels)
    options = {} if method == "ia3" else {"r": 4, **options}
    adapted = peft.get_peft_model(model, adapter_config(model, method, **options))
    # Adapters start as if they were not there.
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad and "magnitude" not in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return adapted


def make_inputs() -> torch.Tensor:
    return torch.randn(2, 32, 128, generator=torch.Generator().manual_seed(0))


WAYS = [(method, {}) for method in ADAPTER_METHODS] + [("lora", {"bias": "all"})]


@pytest.mark.parametrize(("method", "options"), WAYS)
@pytest.mark.parametrize("backend", ops.available_backends())
def test_every_adapter_gets_gradients(encoder, method, options, backend, monkeypatch):
    monkeypatch.setenv("HF_AUDIO_SSM_BACKEND", backend)
    model = make_adapted(encoder, method, **options)
    model(input_values=make_inputs(), labels=torch.tensor([0, 2])).loss.backward()
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    for name, parameter in trained.items():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    adapters = [name for name in trained if "classifier" not in name]
    for target in ENCODERS["ssamba"].lora_target_modules:
        matching = [name for name in adapters if f".{target}." in name]
        # Both directions of each of the two layers have their own x_proj and dt_proj.
        modules = {name.split(f".{target}.")[0] for name in matching}
        assert len(modules) == (4 if target in ("x_proj", "dt_proj") else 2), target
    assert any("classifier" in name for name in trained)


@pytest.mark.parametrize(("method", "options"), WAYS)
@pytest.mark.parametrize("model_type", ["ssamba", "ssast"])
def test_save_load_and_merge(model_type, method, options, tmp_path):
    model = make_adapted(str(save_encoder(tmp_path / "encoder", model_type)), method, **options).eval()
    with torch.no_grad():
        expected = model(input_values=make_inputs()).logits
        assert (expected - model.get_base_model().classifier(torch.zeros(2, 32))).abs().max() > 1e-3
        save_adapted(model, tmp_path / "adapters")
        loaded = load_adapted(tmp_path / "adapters").eval()
        assert loaded.config.id2label == {0: "low", 1: "middle", 2: "high"}
        torch.testing.assert_close(loaded(input_values=make_inputs()).logits, expected, atol=1e-6, rtol=0)
        merged = merge_adapted(loaded)
        torch.testing.assert_close(merged(make_inputs()).logits, expected, atol=1e-5, rtol=0)
        merged.save_pretrained(tmp_path / "merged")
        reloaded = AutoModelForAudioClassification.from_pretrained(tmp_path / "merged").eval()
        torch.testing.assert_close(reloaded(make_inputs()).logits, expected, atol=1e-5, rtol=0)


def test_merging_an_adapted_encoder(encoder):
    model = AutoModel.from_pretrained(encoder).eval()
    adapted = peft.get_peft_model(model, adapter_config(model, init_lora_weights=False)).eval()
    with torch.no_grad():
        expected = adapted(make_inputs()).pooler_output
        torch.testing.assert_close(merge_adapted(adapted)(make_inputs()).pooler_output, expected, atol=1e-5, rtol=0)


def test_training_goes_on_with_loaded_adapters(encoder, tmp_path):
    save_adapted(make_adapted(encoder), tmp_path)
    model = load_adapted(tmp_path, is_trainable=True)
    model(input_values=make_inputs(), labels=torch.tensor([0, 2])).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
    assert not any(parameter.requires_grad for parameter in load_adapted(tmp_path).parameters())


def test_loading_the_base_by_hand(encoder, tmp_path):
    model = make_adapted(encoder).eval()
    model.save_pretrained(tmp_path)
    base = AutoModelForAudioClassification.from_pretrained(encoder, num_labels=3)
    loaded = peft.PeftModel.from_pretrained(base, tmp_path).eval()
    torch.testing.assert_close(loaded(input_values=make_inputs()).logits, model(input_values=make_inputs()).logits)


def test_adapters_and_drop_path_in_training_mode(encoder):
    # The encoder is not frozen as a whole: it trains, and so drops paths.
    assert make_adapted(encoder).train().get_base_model().base_model.training


def test_bad_arguments_are_refused(encoder):
    model = AutoModelForAudioClassification.from_pretrained(encoder)
    with pytest.raises(ValueError, match="`method` must be one of lora, dora, rslora, ia3, got 'qlora'"):
        adapter_config(model, "qlora")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    other = Wav2Vec2ForSequenceClassification(
        Wav2Vec2Config(**sizes, conv_dim=[8], conv_stride=[2], conv_kernel=[2], num_conv_pos_embeddings=2,
                       num_conv_pos_embedding_groups=1)
    )  # fmt: skip
    with pytest.raises(ValueError, match="`target_modules` must be given for a model of type 'wav2vec2'"):
        adapter_config(other)
    assert adapter_config(other, target_modules=["q_proj"]).target_modules == {"q_proj"}


@pytest.mark.parametrize("method", ADAPTER_METHODS)
def test_ssast(method):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    model = SsastForAudioClassification(SsastConfig(**sizes, max_length=32, num_labels=3))
    adapted = peft.get_peft_model(model, adapter_config(model, method))
    adapted(input_values=make_inputs(), labels=torch.tensor([0, 2])).loss.backward()
    for target in ENCODERS["ssast"].lora_target_modules:
        trained = [p for name, p in adapted.named_parameters() if f".{target}." in name and p.requires_grad]
        assert trained
        assert all(parameter.grad is not None for parameter in trained)
