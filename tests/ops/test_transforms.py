# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The transforms of `torch.func`, and forward-mode differentiation, of scans and models: what loops and backward passes give."""

import functools

import pytest
import torch
from scan_cases import make_inputs, relative_error
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

from hf_audio_ssm import SsambaConfig, SsambaForAudioClassification, ops
from hf_audio_ssm.ops.linear import _Multiplication, call_linear


BACKENDS = ops.available_backends("cpu", torch.float32)


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch) -> str:
    monkeypatch.setenv("HF_AUDIO_SSM_BACKEND", request.param)
    return request.param


@functools.cache
def make_model() -> SsambaForAudioClassification:
    torch.manual_seed(0)
    config = SsambaConfig(
        hidden_size=8,
        num_hidden_layers=2,
        state_size=4,
        num_mel_bins=8,
        patch_size=4,
        frequency_stride=4,
        time_stride=4,
        max_length=16,
        num_labels=3,
    )
    return SsambaForAudioClassification(config).eval()


def make_spectrograms(clips: int = 3) -> torch.Tensor:
    return torch.linspace(-1, 1, clips * 16 * 8).mul(37).sin().view(clips, 16, 8)


def call(parameters, spectrograms):
    return functional_call(make_model(), parameters, (spectrograms,)).logits


def parameters_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in model.named_parameters()}


def test_gradients_of_each_clip(backend):
    """As differential privacy and influence functions need them."""
    model, spectrograms, labels = make_model(), make_spectrograms(), torch.tensor([0, 2, 1])

    def loss(parameters, spectrogram, label):
        return nn.functional.cross_entropy(call(parameters, spectrogram[None]), label[None])

    found = vmap(grad(loss), in_dims=(None, 0, 0))(parameters_of(model), spectrograms, labels)
    for clip in range(3):
        expected = torch.autograd.grad(
            nn.functional.cross_entropy(model(spectrograms[clip, None]).logits, labels[clip, None]),
            list(model.parameters()),
        )
        for own, wanted in zip(found.values(), expected, strict=True):
            torch.testing.assert_close(own[clip], wanted, rtol=1e-4, atol=1e-6)


def test_ensembles(backend):
    model, spectrograms = make_model(), make_spectrograms()
    stacked = {name: torch.stack([value, 1.2 * value]) for name, value in parameters_of(model).items()}
    found = vmap(call, in_dims=(0, None))(stacked, spectrograms)
    for index in range(2):
        expected = call({name: value[index] for name, value in stacked.items()}, spectrograms)
        torch.testing.assert_close(found[index], expected, rtol=1e-4, atol=1e-5)


def test_jacobians(backend):
    model, spectrograms = make_model(), make_spectrograms(1)
    function = functools.partial(call, parameters_of(model))
    leaf = spectrograms.clone().requires_grad_()
    expected = torch.stack([torch.autograd.grad(logit, leaf, retain_graph=True)[0] for logit in model(leaf).logits[0]])
    for transform in (jacrev, jacfwd):
        torch.testing.assert_close(transform(function)(spectrograms)[0], expected, rtol=1e-4, atol=1e-6)
    direction = torch.randn_like(spectrograms)
    tangent = (expected * direction).flatten(1).sum(1)
    torch.testing.assert_close(jvp(function, (spectrograms,), (direction,))[1][0], tangent, rtol=1e-4, atol=1e-6)
    (pulled,) = vjp(function, spectrograms)[1](torch.tensor([[1.0, 0.0, 0.0]]))
    torch.testing.assert_close(pulled, expected[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("gradients", [False, True])
def test_dual_tensors(backend, gradients):
    """Without gradients too, where kernels that see no tangents would drop them."""
    model, spectrograms = make_model(), make_spectrograms(1)
    direction = torch.randn_like(spectrograms)
    expected = jvp(functools.partial(call, parameters_of(model)), (spectrograms,), (direction,))
    with forward_ad.dual_level(), torch.set_grad_enabled(gradients):
        logits, tangent = forward_ad.unpack_dual(model(forward_ad.make_dual(spectrograms, direction)).logits)
        torch.testing.assert_close((logits, tangent), expected, rtol=1e-4, atol=1e-6)


def test_second_derivatives_by_transforms():
    inputs = {name: value.double() for name, value in make_inputs(1, 5, channels=2, state_size=2).items()}
    x = inputs.pop("hidden_states")
    found = hessian(lambda x: ops.selective_scan(x, **inputs).square().sum())(x)
    # The output is linear in x: the derivatives of its square are those of two of its Jacobians.
    jacobian = jacrev(lambda x: ops.selective_scan(x, **inputs))(x).flatten(3).flatten(0, 2)
    torch.testing.assert_close(found.flatten(3).flatten(0, 2), 2 * jacobian.T @ jacobian)


def test_scans_in_batches(backend):
    inputs = make_inputs(3, 20, channels=4, state_size=3)
    x = inputs.pop("hidden_states")
    states = torch.stack([x, 2 * x, -x])
    found = vmap(lambda x: ops.selective_scan(x, **inputs))(states)
    for index in range(3):
        assert relative_error(found[index], ops.selective_scan(states[index], **inputs)) < 1e-5


def test_gradients_in_batches(backend):
    """Of a forward pass outside the transform: the operators' own rule, and one line for autograd's older way."""
    inputs = make_inputs(1, 6, channels=3, state_size=2)
    x = inputs.pop("hidden_states").requires_grad_()
    output = ops.selective_scan(x, **inputs)
    weights = torch.eye(18).view(18, 1, 6, 3)

    def pull(weight):
        return torch.autograd.grad(output, x, weight, retain_graph=True)[0]

    torch.testing.assert_close(vmap(pull)(weights), torch.stack([pull(weight) for weight in weights]))
    with pytest.raises(NotImplementedError, match=r"use `torch.func.jacrev`"):
        torch.autograd.grad(output, x, weights, is_grads_batched=True)


def test_linear_modules(backend):
    module, inputs = nn.Linear(5, 4), torch.randn(6, 3, 5)
    found = vmap(lambda one: call_linear(module, one))(inputs)
    torch.testing.assert_close(found, module(inputs))
    weights = torch.randn(2, 3, 4)
    leaf = inputs[0].clone().requires_grad_()
    for function in (lambda one: call_linear(module, one), lambda one: _multiply(module, one)):
        output = function(leaf)
        (found,) = torch.autograd.grad(output, leaf, weights, is_grads_batched=True)
        torch.testing.assert_close(found, weights @ module.weight)
        torch.testing.assert_close(jacrev(function)(inputs[0]), jacrev(module)(inputs[0]))


def _multiply(module: nn.Linear, inputs: torch.Tensor) -> torch.Tensor:
    return _Multiplication.apply(inputs, module.weight, module.bias)
