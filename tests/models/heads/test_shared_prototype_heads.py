# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The heads whose classes share prototypes, protobin and cgp, against NumPy."""

import numpy as np
import pytest
import torch
from huggingface_hub.dataclasses import strict

from hf_audio_ssm import SsambaConfig, SsastConfig
from hf_audio_ssm.models.heads.cgp_head import CgpHead
from hf_audio_ssm.models.heads.protobin_head import ProtobinHead


@strict
class ConfigWithoutPrefix(SsambaConfig):
    num_prefix_tokens = 0


def make_head(head_class, config_class=SsambaConfig, **fields):
    torch.manual_seed(0)
    config = config_class(**{"hidden_size": 8, "num_hidden_layers": 4, "num_labels": 3, "num_prototypes": 5, **fields})
    head = head_class(config).eval()
    for parameter in head.parameters():
        parameter.data.normal_()
    return head


def arrays(head) -> dict[str, np.ndarray]:
    return {name: value.double().numpy() for name, value in head.state_dict().items()}


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_protobin_by_numpy():
    head = make_head(ProtobinHead)
    head.binary_prototypes.data[0, :2] = torch.tensor([0.0, -0.0])
    features = torch.randn(2, 1 + 6, 8)
    weights = arrays(head)
    # The sign of zero is 1.
    signs = np.where(weights["binary_prototypes"] >= 0, 1, -1)
    for clip in range(2):
        patches = features[clip, 1:].double().numpy()
        scores = [
            max(patch @ sign / np.linalg.norm(patch) / np.linalg.norm(sign) for patch in patches) for sign in signs
        ]
        expected = weights["binary_dense.weight"] @ scores + weights["binary_dense.bias"]
        np.testing.assert_allclose(head(features)[clip].detach(), expected, rtol=1e-4, atol=1e-5)


def test_gradients_pass_the_signs_straight_through():
    head, features = make_head(ProtobinHead), torch.randn(2, 1 + 6, 8)
    head(features).sum().backward()
    gradient = head.binary_prototypes.grad.clone()
    # The same function of real prototypes, at the place of the signs.
    signs = head.binary_prototypes.detach().sign().requires_grad_()
    similarity = torch.nn.functional.cosine_similarity(features[:, 1:, None], signs, dim=-1)
    head.binary_dense(similarity.amax(dim=1)).sum().backward()
    torch.testing.assert_close(gradient, signs.grad)


@pytest.mark.parametrize("config_class", [SsambaConfig, SsastConfig, ConfigWithoutPrefix])
def test_cgp_by_numpy(config_class):
    head = make_head(CgpHead, config_class)
    prefix, layers = head.config.num_prefix_tokens, 4 if config_class is SsastConfig else 2
    features, weights = torch.randn(2, layers, prefix + 6, 8), arrays(head)
    gate = np.exp(weights["gate"]) / np.exp(weights["gate"]).sum()
    prototypes = unit(weights["gated_prototypes"])
    for clip in range(2):
        tokens = features[clip].double().numpy()
        patches = sum(gate[layer] * unit(tokens[layer, prefix:]) for layer in range(layers))
        similarity = patches @ prototypes.T
        summary = similarity.mean(axis=0)
        if prefix:
            summary = (
                sum(gate[layer] * unit(tokens[layer, :prefix].mean(axis=0)) for layer in range(layers)) @ prototypes.T
            )
        read = np.concatenate((similarity.min(axis=0), summary, similarity.max(axis=0)))
        expected = weights["gated_dense.weight"] @ read + weights["gated_dense.bias"]
        np.testing.assert_allclose(head(features)[clip].detach(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("head_class", "config_class"),
    [(ProtobinHead, SsambaConfig), (CgpHead, SsambaConfig), (CgpHead, ConfigWithoutPrefix)],
)
def test_masked_patches_do_not_count(head_class, config_class):
    head = make_head(head_class, config_class)
    prefix = head.config.num_prefix_tokens
    shape = (2, 2, prefix + 6, 8) if head_class is CgpHead else (2, prefix + 6, 8)
    features, mask = torch.randn(shape), torch.tensor([[True] * 6, [True, False, True, True, False, False]])
    logits = head(features, mask)
    torch.testing.assert_close(logits[:1], head(features[:1]))
    kept = [*range(prefix), *(prefix + index for index in (0, 2, 3))]
    torch.testing.assert_close(logits[1:], head(features[1:, ..., kept, :]))


@pytest.mark.parametrize(("head_class", "expected"), [(ProtobinHead, 12_950_527), (CgpHead, 23_490_539)])
def test_published_sizes(head_class, expected):
    """Of 10 000 prototypes, 768 channels, 12 layers and 527 classes."""
    # The papers' number of prototypes is no multiple of the classes.
    with torch.device("meta"):
        head = head_class(SsastConfig.base(num_labels=1, num_prototypes=10_000))
    # A class more is a row more of the linear layer, and a bias.
    more = 526 * (1 + sum(p.shape[1] for name, p in head.named_parameters() if name.endswith("dense.weight")))
    assert sum(parameter.numel() for parameter in head.parameters()) + more == expected


@pytest.mark.parametrize("head_class", [ProtobinHead, CgpHead])
def test_dropout(head_class):
    assert make_head(head_class).dropout.p == 0.2
    assert make_head(head_class, classifier_dropout=0.0).dropout.p == 0.0
