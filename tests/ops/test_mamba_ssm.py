# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The adapter to mamba-ssm's compiled kernels, with stand-ins for them that check how they are called and do what they do."""

import dataclasses
import sys
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from scan_cases import SelectiveSSM, define_mixing, define_scan, gradients_of, make_inputs, relative_error
from torch import nn

from hf_audio_ssm import SsambaConfig, SsambaForAudioClassification
from hf_audio_ssm.ops import backends, bidirectional_mixing, mamba_ssm, reference, selective_scan, triton


TOLERANCE = 2e-5


def check_operands(u, delta, A, B, C, D, z, delta_bias):
    """As the C++ functions of mamba-ssm 2 check them."""
    batch_size, channels, length = u.shape
    assert batch_size > 0
    state_size = A.shape[1]
    assert u.dtype == delta.dtype == B.dtype == C.dtype
    assert A.dtype == D.dtype == delta_bias.dtype == torch.float32
    assert delta.shape == u.shape
    assert A.shape == (channels, state_size)
    assert state_size <= 256
    assert B.shape == C.shape == (batch_size, 1, state_size, length)
    assert D.shape == delta_bias.shape == (channels,)
    assert z is None
    assert all(tensor.is_contiguous() for tensor in (u, delta, A, B, C, D, delta_bias))


def in_our_layout(u, delta, A, B, C, D, delta_bias):
    x, dt, B, C = (value.transpose(1, 2) for value in (u, delta, B.squeeze(1), C.squeeze(1)))
    return (x, dt, None, delta_bias, A, B, C, D, *[None] * 8, None)


class SelectiveScanCuda(ModuleType):
    """The arguments and results of the compiled module's two functions."""

    calls = 0

    def fwd(self, u, delta, A, B, C, D, z, delta_bias, delta_softplus):
        check_operands(u, delta, A, B, C, D, z, delta_bias)
        assert delta_softplus is True
        self.calls += 1
        output, states = reference._forward(*in_our_layout(u, delta, A, B, C, D, delta_bias), 1.0, False, True)
        return [output.transpose(1, 2).contiguous(), states]

    def bwd(self, u, delta, A, B, C, D, z, delta_bias, dout, x, out, dz, delta_softplus, recompute_out_z):
        check_operands(u, delta, A, B, C, D, z, delta_bias)
        assert out is None
        assert dz is None
        assert (delta_softplus, recompute_out_z) == (True, False)
        assert dout.shape == u.shape
        assert dout.dtype == u.dtype
        assert dout.is_contiguous()
        tensors = in_our_layout(u, delta, A, B, C, D, delta_bias)
        grad_x, grad_dt, grad_bias, grad_A, grad_B, grad_C, grad_D = reference._backward(
            dout.transpose(1, 2), x, *tensors, 1.0, False
        )
        sequences = [value.transpose(1, 2) for value in (grad_x, grad_dt, grad_B, grad_C)]
        return [*sequences[:2], grad_A, *(value.unsqueeze(1) for value in sequences[2:]), grad_D, grad_bias]


class CausalConv1d(ModuleType):
    calls = 0

    def causal_conv1d_fn(self, x, weight, bias=None, seq_idx=None, initial_states=None, activation=None):
        assert activation == "silu"
        assert len(x) > 0
        assert weight.shape == (x.shape[1], weight.shape[1])
        assert 2 <= weight.shape[1] <= 4
        assert x.is_contiguous()
        self.calls += 1
        padded = F.pad(x.float(), (weight.shape[1] - 1, 0))
        return F.silu(F.conv1d(padded, weight.unsqueeze(1), bias, groups=len(weight))).to(x.dtype)


@pytest.fixture
def modules(monkeypatch):
    """The stand-ins in their place, and a rule that lets them run on the CPU."""
    found = {
        "selective_scan_cuda": SelectiveScanCuda("selective_scan_cuda"),
        "causal_conv1d": CausalConv1d("causal_conv1d"),
        "causal_conv1d_cuda": ModuleType("causal_conv1d_cuda"),
    }
    for name, module in found.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(mamba_ssm, "_has_gpu", lambda: True)
    for cached in (mamba_ssm.unavailable_because, mamba_ssm._has_causal_conv1d):
        cached.cache_clear()
    yield found
    for cached in (mamba_ssm.unavailable_because, mamba_ssm._has_causal_conv1d):
        cached.cache_clear()


@pytest.fixture
def on_the_cpu(modules, monkeypatch):
    own = backends._BACKENDS["mamba_ssm"]
    anywhere = backends.Backend("mamba_ssm", own.scan, own.convolution, lambda device_type, dtype: True)
    monkeypatch.setitem(backends._BACKENDS, "mamba_ssm", anywhere)
    return modules


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("optional", [False, True])
def test_scan(reverse, optional, on_the_cpu):
    inputs = make_inputs(batch_size=2, length=70, channels=5, state_size=6, optional=optional)
    output, gradients = gradients_of(selective_scan, inputs, reverse=reverse, backend="mamba_ssm")
    expected, expected_gradients = gradients_of(define_scan, inputs, reverse=reverse)
    assert on_the_cpu["selective_scan_cuda"].calls == 2
    assert relative_error(output, expected) < TOLERANCE
    assert all(relative_error(gradients[name], expected_gradients[name]) < TOLERANCE for name in inputs)


def test_empty_batches(on_the_cpu):
    """A grid without programs is an error of CUDA's."""
    inputs = {name: value[:0] if value.dim() == 3 else value for name, value in make_inputs(length=5).items()}
    output, gradients = gradients_of(selective_scan, inputs, backend="mamba_ssm")
    assert output.shape == inputs["hidden_states"].shape
    assert not gradients["A"].any()
    states, weight = inputs["hidden_states"], torch.ones(19, 4)
    outputs = mamba_ssm.convolution(states, weight, None, weight, None, False)
    assert [tuple(one.shape) for one in outputs] == [(0, 5, 19)] * 2
    assert on_the_cpu["selective_scan_cuda"].calls == on_the_cpu["causal_conv1d"].calls == 0


@pytest.mark.parametrize("has_mamba_ssm", [False, True])
def test_what_triton_cannot_serve(has_mamba_ssm, modules, monkeypatch):
    """The same logits and gradients by the next backend, mamba-ssm's or the reference. CPU tensors pass for those of a GPU."""
    if not has_mamba_ssm:
        monkeypatch.setitem(sys.modules, "selective_scan_cuda", None)
    monkeypatch.delenv(backends.BACKEND_VARIABLE, raising=False)
    monkeypatch.setattr(triton, "unavailable_because", lambda: "a first kernel failed")
    on_a_gpu = {
        name: dataclasses.replace(own, supports=lambda device_type, dtype, own=own: own.supports("cuda", dtype))
        for name, own in backends._BACKENDS.items()
    }
    monkeypatch.setattr(backends, "_BACKENDS", on_a_gpu)
    torch.manual_seed(0)
    config = SsambaConfig(hidden_size=8, num_hidden_layers=2, num_mel_bins=16, max_length=64, num_labels=3)
    model = SsambaForAudioClassification(config).eval()
    input_values = torch.randn(2, 64, 16)

    def train():
        logits = model(input_values).logits
        return [logits.detach(), *torch.autograd.grad(logits.square().sum(), list(model.parameters()))]

    found, calls = train(), modules["selective_scan_cuda"].calls
    # Two directions of two layers, and again in the backward pass.
    assert calls == (8 if has_mamba_ssm else 0)
    monkeypatch.setenv(backends.BACKEND_VARIABLE, "reference")
    assert all(relative_error(*both) < TOLERANCE for both in zip(found, train(), strict=True))
    assert modules["selective_scan_cuda"].calls == calls


@pytest.mark.parametrize("kernel_size", [4, 6])
@pytest.mark.parametrize("reverse", [False, True])
def test_mixing(kernel_size, reverse, on_the_cpu):
    """A size that causal-conv1d does not have is computed by torch."""
    torch.manual_seed(0)
    mixer = nn.ModuleList(SelectiveSSM(5, 8, kernel_size=kernel_size) for _ in range(2))
    states = torch.randn(2, 30, 10, requires_grad=True)
    leaves = [states, *mixer.parameters()]
    output = bidirectional_mixing(states, *mixer, reverse=reverse, backend="mamba_ssm")
    gradients = torch.autograd.grad(output.square().sum(), leaves)
    expected = define_mixing(states, *mixer, reverse=reverse)
    expected_gradients = torch.autograd.grad(expected.square().sum(), leaves)
    assert on_the_cpu["causal_conv1d"].calls == (2 if kernel_size == 4 else 0)
    assert relative_error(output, expected) < TOLERANCE
    assert all(relative_error(*pair) < TOLERANCE for pair in zip(gradients, expected_gradients, strict=True))


def test_low_precision(on_the_cpu):
    inputs = make_inputs(batch_size=1, length=40, channels=5, state_size=6)
    for argument in ("hidden_states", "time_step", "B", "C", "gate"):
        inputs[argument] = inputs[argument].bfloat16()
    output, gradients = gradients_of(selective_scan, inputs, backend="mamba_ssm")
    expected, expected_gradients = gradients_of(define_scan, inputs)
    assert output.dtype == torch.bfloat16
    # The kernel rounds its result, and its gradient's start, by itself.
    assert relative_error(output, expected) < 2**-7
    assert all(gradient.dtype == inputs[name].dtype for name, gradient in gradients.items())
    assert all(relative_error(gradients[name], expected_gradients[name]) < 2**-6 for name in inputs)


def test_compiles_without_graph_breaks(on_the_cpu):
    inputs = make_inputs(batch_size=1, length=10, channels=3, state_size=4)
    compiled = torch.compile(
        lambda **arguments: selective_scan(**arguments, backend="mamba_ssm"), fullgraph=True, backend="aot_eager"
    )
    assert relative_error(compiled(**inputs), define_scan(**inputs)) < TOLERANCE


def test_runs_where_the_compiled_module_is(modules):
    assert mamba_ssm.unavailable_because() is None
    assert mamba_ssm.supports("cuda", torch.float16)
    assert not mamba_ssm.supports("cpu", torch.float32)
    assert not mamba_ssm.supports("cuda", torch.float64)


def test_a_package_without_its_compiled_module_is_not_used(modules, monkeypatch):
    """mamba_ssm itself can be imported without it."""
    monkeypatch.setitem(sys.modules, "mamba_ssm", ModuleType("mamba_ssm"))
    monkeypatch.setitem(sys.modules, "selective_scan_cuda", None)
    assert "selective_scan_cuda" in mamba_ssm.unavailable_because()
    assert not mamba_ssm.supports("cuda", torch.float32)


def test_convolutions_without_causal_conv1d(modules, monkeypatch):
    monkeypatch.setitem(sys.modules, "causal_conv1d_cuda", None)
    x, weight, bias = torch.randn(1, 9, 3), torch.randn(3, 4), torch.randn(3)
    for reverse in (False, True):
        found = mamba_ssm.convolution(x, weight, bias, -weight, None, reverse)
        expected = reference.convolution(x, weight, bias, -weight, None, reverse)
        assert all(relative_error(*pair) < TOLERANCE for pair in zip(found, expected, strict=True))
    assert modules["causal_conv1d"].calls == 0
