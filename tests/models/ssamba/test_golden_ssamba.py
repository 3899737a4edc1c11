# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The original's numbers, from its checkpoints alone: layers, gradients and training steps, with every kernel."""

import pytest
import torch
from golden import (
    FINE_TUNING_CASES,
    PRETRAINING_CASES,
    TOLERANCE,
    TRAJECTORY_CASE,
    load_case,
    mask_of,
    relative_error,
)

from hf_audio_ssm import SsambaFeatureExtractor, SsambaForAudioClassification, SsambaForPreTraining, ops
from hf_audio_ssm.conversion.ssamba import ORIGINAL, convert
from hf_audio_ssm.models.patch_encoder.patch_tokens import adapt_position_embeddings
from hf_audio_ssm.models.ssamba import modeling_ssamba
from hf_audio_ssm.objectives.masked_patches import MaskedPatches


@pytest.fixture(params=["definition", *ops.available_backends("cpu", torch.float32)], autouse=True)
def backend(request, monkeypatch):
    """Runs each test with the plain definition and with every backend of the kernels that works here."""
    if request.param == "definition":
        monkeypatch.setattr(modeling_ssamba, "ops", None)
    else:
        monkeypatch.setenv("HF_AUDIO_SSM_BACKEND", request.param)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    converted = {}
    for name in (*FINE_TUNING_CASES, *PRETRAINING_CASES, TRAJECTORY_CASE):
        case, checkpoint, _, _ = load_case(name)
        converted[name] = convert(
            checkpoint, folder / name, unpaired=not case["if_bidirectional"], frequency_stride=case["fstride"]
        )
    return converted


@pytest.mark.parametrize("name", FINE_TUNING_CASES)
def test_fine_tuned(name, folders):
    _, _, inputs, expected = load_case(name)
    model = SsambaForAudioClassification.from_pretrained(folders[name])
    with torch.no_grad():
        encoded = model.ssamba(inputs["fbank"])
        assert relative_error(model.ssamba.embeddings(inputs["fbank"]), expected["embeddings"]) < TOLERANCE
        assert relative_error(encoded.last_hidden_state, expected["last_hidden_state"]) < TOLERANCE
        assert relative_error(model(inputs["fbank"]).logits, expected["logits_avgtok"]) < TOLERANCE
        model.config.pooling = "cls"
        assert relative_error(model(inputs["fbank"]).logits, expected["logits_cls"]) < TOLERANCE


@pytest.mark.parametrize("name", FINE_TUNING_CASES)
def test_pretrained_positions_adapt_to_fine_tuning(name, folders):
    case, _, _, expected = load_case(name)
    pretrained = SsambaForPreTraining.from_pretrained(folders[case["pretrained_case"]])
    config = SsambaForAudioClassification.config_class.from_pretrained(folders[name])
    stored = pretrained.ssamba.embeddings.position_embeddings
    adapted = adapt_position_embeddings(stored, pretrained.config.position_grid, config.patch_grid(case["input_tdim"]))
    assert relative_error(adapted, expected["pos_embed"]) < TOLERANCE


@pytest.mark.parametrize("name", PRETRAINING_CASES)
def test_pretrained_layers_and_losses(name, folders):
    case, _, inputs, expected = load_case(name)
    model = SsambaForPreTraining.from_pretrained(folders[name])
    mask = mask_of(inputs["mask_index"], 128)
    with torch.no_grad():
        embeddings = model.ssamba.embeddings(inputs["fbank"], mask)
        encoded = model.ssamba(inputs["fbank"], bool_masked_pos=mask, output_hidden_states=True)
        outputs = model(inputs["fbank"], bool_masked_pos=mask)
        extractor = SsambaFeatureExtractor(max_length=inputs["fbank"].shape[1])
        learned = MaskedPatches(model, extractor)(input_values=inputs["fbank"], bool_masked_pos=mask)
    assert torch.equal(learned.loss, outputs.loss)
    assert all(torch.equal(value, outputs[part]) for part, value in learned.metrics.items())
    assert relative_error(embeddings, expected["embeddings"]) < TOLERANCE
    assert relative_error(encoded.last_hidden_state, expected["last_hidden_state_masked"]) < TOLERANCE
    for part in ("nce", "mse", "accuracy", "loss"):
        assert relative_error(getattr(outputs, part), expected[part]) < TOLERANCE

    # The complete stream after each layer, or pair, is the original's residual and output together, scaled.
    hidden, residual = expected["layer_hidden_masked"], expected["layer_residual_masked"]
    if case["if_bidirectional"]:
        sums = hidden + residual
        for pair in range(case["depth"] // 2):
            stream = (sums[2 * pair] + sums[2 * pair + 1].flip(1)) / 2 ** (pair + 1)
            assert relative_error(encoded.hidden_states[2 * pair + 2], stream) < TOLERANCE
    else:
        for layer in range(case["depth"]):
            assert relative_error(encoded.hidden_states[layer + 1], hidden[layer] + residual[layer]) < TOLERANCE


@pytest.mark.parametrize("name", PRETRAINING_CASES)
def test_gradient_norms(name, folders):
    _, _, inputs, expected = load_case(name)
    model = SsambaForPreTraining.from_pretrained(folders[name])
    model(inputs["fbank"], bool_masked_pos=mask_of(inputs["mask_index"], 128)).loss.backward()
    checked = 0
    for key, parameter in model.named_parameters():
        norm = expected[f"grad_norm.{ORIGINAL.original_name(key)}"].item()
        # The contrastive head's last bias adds the same to every score: its gradient is zero but for rounding.
        assert parameter.grad.norm().item() == pytest.approx(norm, rel=1e-3, abs=1e-6), key
        checked += 1
    assert checked == sum(key.startswith("grad_norm.") for key in expected)


def test_training_trajectory(folders):
    case, _, inputs, expected = load_case(TRAJECTORY_CASE)
    model = SsambaForPreTraining.from_pretrained(folders[TRAJECTORY_CASE], drop_path_rate=case["drop_path_rate"])
    extractor = SsambaFeatureExtractor(max_length=model.config.max_length)
    objective = MaskedPatches(model, extractor).train()
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-3, betas=(0.95, 0.999), weight_decay=5e-8)
    steps = []
    for fbank, mask_index in zip(inputs["fbank"], inputs["mask_index"], strict=True):
        outputs = objective(input_values=fbank, bool_masked_pos=mask_of(mask_index, 64))
        steps.append(torch.stack([outputs.loss, *outputs.metrics.values()]).detach())
        optimizer.zero_grad()
        outputs.loss.backward()
        optimizer.step()
    for part, values in zip(("loss", "nce", "mse", "accuracy"), torch.stack(steps, dim=1), strict=True):
        assert relative_error(values, expected[part]) < 1e-3
