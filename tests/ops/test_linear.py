# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Linear modules called through the kernels' package: what torch computes, forward and backward."""

import pytest
import torch
from torch import nn

from hf_audio_ssm.ops.linear import call_linear


@pytest.mark.parametrize("shape", [(1, 1, 7), (3, 5, 12), (2, 513, 192), (1, 1000, 33), (0, 4, 8)])
@pytest.mark.parametrize("out_features", [1, 44, 97])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_values_and_gradients(shape, out_features, bias, dtype):
    torch.manual_seed(0)
    module = nn.Linear(shape[-1], out_features, bias=bias, dtype=dtype)
    inputs = torch.randn(shape, dtype=dtype, requires_grad=True)
    grad = torch.randn(*shape[:-1], out_features, dtype=dtype)
    results = []
    for call in (module, lambda tensor: call_linear(module, tensor)):
        output = call(inputs)
        results.append((output, *torch.autograd.grad(output, [inputs, *module.parameters()], grad)))
        with torch.no_grad():
            results[-1] += (call(inputs),)
    for expected, actual in zip(*results, strict=True):
        assert actual.dtype == dtype
        scale = 1e-5 if dtype == torch.float32 else 1e-2 if dtype == torch.bfloat16 else 1e-12
        torch.testing.assert_close(actual, expected, rtol=scale, atol=scale * (1 + shape[1]) ** 0.5)


def test_strided_inputs_and_gradients():
    module = nn.Linear(16, 24)
    inputs = torch.randn(16, 50, 3).permute(2, 1, 0).requires_grad_()
    grad = torch.randn(1, 1, 24).expand(3, 50, 24)
    expected = torch.autograd.grad(module(inputs), [inputs, *module.parameters()], grad)
    actual = torch.autograd.grad(call_linear(module, inputs), [inputs, *module.parameters()], grad)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_frozen_weights_get_no_gradient():
    module = nn.Linear(8, 4).requires_grad_(False)
    inputs = torch.randn(2, 3, 8, requires_grad=True)
    call_linear(module, inputs).sum().backward()
    assert module.weight.grad is None
    torch.testing.assert_close(inputs.grad, module.weight.sum(0).expand_as(inputs))


def test_second_derivatives_are_refused():
    module, inputs = nn.Linear(8, 4), torch.randn(2, 3, 8, requires_grad=True)
    (grad,) = torch.autograd.grad(call_linear(module, inputs).square().sum(), inputs, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()
