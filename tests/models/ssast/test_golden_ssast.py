# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The original SSAST's numbers, from its checkpoints alone, with eager attention and with SDPA."""

import pytest
import torch
import torch.nn.functional as F
from golden import (
    SSAST_FINE_TUNING_CASES,
    SSAST_PRETRAINING_CASES,
    TOLERANCE,
    load_case,
    mask_of,
    relative_error,
)

from hf_audio_ssm import SsastForAudioClassification, SsastForPreTraining, SsastModel
from hf_audio_ssm.conversion.ssast import convert
from hf_audio_ssm.models.patch_encoder.patch_tokens import adapt_position_embeddings


@pytest.fixture(params=["eager", "sdpa"])
def attention(request):
    return request.param


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    converted = {}
    for name in (*SSAST_FINE_TUNING_CASES, *SSAST_PRETRAINING_CASES):
        case, checkpoint, _, _ = load_case(name, "ssast")
        sizes = {"num_attention_heads": case["num_heads"], "max_length": case["input_tdim"]}
        converted[name] = convert(checkpoint, folder / name, **sizes)
    return converted


@pytest.mark.parametrize("name", SSAST_FINE_TUNING_CASES)
def test_fine_tuned(name, folders, attention):
    _, _, inputs, expected = load_case(name, "ssast")
    model = SsastForAudioClassification.from_pretrained(folders[name], attn_implementation=attention)
    with torch.no_grad():
        encoded = model.ssast(inputs["fbank"])
        assert relative_error(encoded.last_hidden_state, expected["last_hidden_state"]) < TOLERANCE
        assert relative_error(model(inputs["fbank"]).logits, expected["logits_avgtok"]) < TOLERANCE
        model.config.pooling = "cls"
        assert relative_error(model(inputs["fbank"]).logits, expected["logits_cls"]) < TOLERANCE


@pytest.mark.parametrize("name", SSAST_FINE_TUNING_CASES)
def test_pretrained_positions_adapt_to_fine_tuning(name, folders):
    """The original stores what its own rule makes of the pretrained positions: for each of the two grids, ours."""
    case, _, inputs, _ = load_case(name, "ssast")
    pretrained = SsastModel.from_pretrained(folders[case["pretrained_case"]])
    fine_tuned = SsastModel.from_pretrained(folders[name])
    stored, grid = pretrained.embeddings.position_embeddings, fine_tuned.config.patch_grid(case["input_tdim"])
    adapted = adapt_position_embeddings(stored, pretrained.config.position_grid, grid)
    assert relative_error(adapted, fine_tuned.embeddings.position_embeddings) < TOLERANCE


@pytest.mark.parametrize("name", SSAST_PRETRAINING_CASES)
def test_pretrained(name, folders, attention):
    _, _, inputs, expected = load_case(name, "ssast")
    model = SsastForPreTraining.from_pretrained(folders[name], attn_implementation=attention)
    mask = mask_of(inputs["mask_index"], 128)
    with torch.no_grad():
        encoded = model.ssast(inputs["fbank"], bool_masked_pos=mask)
        outputs = model(inputs["fbank"], bool_masked_pos=mask)
    assert relative_error(encoded.last_hidden_state, expected["last_hidden_state_masked"]) < TOLERANCE
    for part in ("nce", "mse", "accuracy", "loss"):
        assert relative_error(getattr(outputs, part), expected[part]) < TOLERANCE


def loss_as_the_original(weights: dict[str, torch.Tensor], case: dict, fbank: torch.Tensor, mask_index: torch.Tensor):
    """The original's loss, written out on its own checkpoint's tensors: one clip and one masked patch after the other."""
    patch, depth, heads = (case["fshape"], case["tshape"]), case["depth"], case["num_heads"]
    strides = (case["fstride"], case["tstride"])

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-6)

    def linear(x, name):
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    losses = []
    for clip, masked in zip(fbank, mask_index, strict=True):
        image = clip.T[None, None]
        tokens = F.conv2d(image, weights["v.patch_embed.proj.weight"], weights["v.patch_embed.proj.bias"], strides)
        tokens = tokens[0].flatten(1).T.clone()
        tokens[masked] = weights["mask_embed"][0, 0]
        x = torch.cat((weights["v.cls_token"][0], weights["v.dist_token"][0], tokens)) + weights["v.pos_embed"][0]
        for layer in range(depth):
            block = f"v.blocks.{layer}"
            q, k, v = linear(norm(x, f"{block}.norm1"), f"{block}.attn.qkv").view(len(x), 3, heads, -1).unbind(1)
            scores = torch.einsum("qhd,khd->hqk", q, k) / q.shape[-1] ** 0.5
            x = x + linear(torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).flatten(1), f"{block}.attn.proj")
            x = x + linear(F.gelu(linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1")), f"{block}.mlp.fc2")
        tokens = norm(x, "v.norm")[2:][masked]
        truth = F.unfold(image, patch, stride=strides)[0].T[masked]
        matches = linear(linear(tokens, "cpredlayer.0").relu(), "cpredlayer.2")
        reconstruction = linear(linear(tokens, "gpredlayer.0").relu(), "gpredlayer.2")
        nce = F.cross_entropy(truth @ matches.T, torch.arange(len(masked)))
        losses.append(nce + 10 * F.mse_loss(reconstruction, truth))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("name", SSAST_PRETRAINING_CASES)
def test_gradients(name, folders, attention):
    case, checkpoint, inputs, expected = load_case(name, "ssast")
    weights = {
        key.removeprefix("module."): tensor.double() if tensor.is_floating_point() else tensor
        for key, tensor in torch.load(checkpoint, weights_only=True).items()
    }
    for tensor in weights.values():
        tensor.requires_grad_(tensor.is_floating_point())
    loss = loss_as_the_original(weights, case, inputs["fbank"].double(), inputs["mask_index"])
    assert relative_error(loss.float(), expected["loss"]) < TOLERANCE
    loss.backward()

    model = SsastForPreTraining.from_pretrained(folders[name], attn_implementation=attention)
    model(inputs["fbank"], bool_masked_pos=mask_of(inputs["mask_index"], 128)).loss.backward()
    gradients = {name: parameter.grad.double() for name, parameter in model.named_parameters()}
    for layer in range(case["depth"]):
        for kind in ("weight", "bias"):
            parts = [gradients.pop(f"ssast.layers.{layer}.attention.{part}_proj.{kind}") for part in "qkv"]
            # The keys' bias adds the same to every score of a query: its gradient is zero but for rounding.
            actual, wanted = torch.cat(parts), weights[f"v.blocks.{layer}.attn.qkv.{kind}"].grad
            assert (actual - wanted).abs().max() < 1e-4 * wanted.abs().max()
    names = {
        "discriminative_head.dense": "cpredlayer.0",
        "discriminative_head.decoder": "cpredlayer.2",
        "generative_head.dense": "gpredlayer.0",
        "generative_head.decoder": "gpredlayer.2",
        "ssast.embeddings.patch_embeddings.projection": "v.patch_embed.proj",
        "ssast.embeddings.position_embeddings": "v.pos_embed",
        "ssast.embeddings.distillation_token": "v.dist_token",
        "ssast.embeddings.cls_token": "v.cls_token",
        "ssast.embeddings.mask_token": "mask_embed",
        "ssast.layernorm": "v.norm",
        "ssast.layers.": "v.blocks.",
        "attention.o_proj": "attn.proj",
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
    }
    for name, gradient in gradients.items():
        for own, original in names.items():
            name = name.replace(own, original)
        wanted = weights[name].grad
        # The contrastive head's last bias adds the same to every score: its gradient is zero but for rounding.
        assert (gradient - wanted).abs().max() < max(1e-4 * wanted.abs().max(), 1e-6), name
