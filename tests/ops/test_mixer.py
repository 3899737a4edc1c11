# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The whole mixer: with shared buffers or without, with hooks or without, it computes what the definition computes."""

import threading

import pytest
import torch
from torch import nn

from hf_audio_ssm import SsambaConfig, SsambaForAudioClassification, ops
from hf_audio_ssm.models.ssamba import modeling_ssamba
from hf_audio_ssm.models.ssamba.modeling_ssamba import SsambaMixer, SsambaModel
from hf_audio_ssm.ops import memory
from hf_audio_ssm.ops import mixer as mixer_module


needs_kernel = pytest.mark.skipif("cpu" not in ops.available_backends(), reason="the native kernel was not built")


def make_mixer(dtype=torch.float32, **arguments) -> SsambaMixer:
    torch.manual_seed(0)
    config = SsambaConfig(hidden_size=24, num_hidden_layers=2, state_size=8, num_mel_bins=16, **arguments)
    model = SsambaModel(config).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.layers[0].mixer


def define(mixer: nn.Module, hidden_states: torch.Tensor, reverse: bool, monkeypatch) -> torch.Tensor:
    with monkeypatch.context() as context, torch.no_grad():
        context.setattr(modeling_ssamba, "ops", None)
        return mixer(hidden_states, reverse=reverse)


@pytest.fixture
def buffers_used(monkeypatch) -> list[int]:
    """Lets every length run in shared buffers, and counts the clips that do."""
    monkeypatch.setattr(mixer_module, "LARGE_BYTES", 0)
    monkeypatch.setattr(mixer_module, "CLIPS_BYTES", 1 << 16)
    monkeypatch.setattr(memory, "BLOCK_BYTES", 1 << 14)
    clips, mix = [], mixer_module._mix_in_buffers

    def mix_and_count(kernels, mixer, hidden_states, reverse, output):
        clips.append(len(hidden_states))
        mix(kernels, mixer, hidden_states, reverse, output)

    monkeypatch.setattr(mixer_module, "_mix_in_buffers", mix_and_count)
    return clips


@needs_kernel
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2), (torch.float16, 4e-3)]
)
def test_shared_buffers(reverse, use_bias, dtype, tolerance, buffers_used, monkeypatch):
    mixer = make_mixer(dtype, use_bias=use_bias)
    with ops.shared_buffers():
        for length in (300, 77, 1, 700):
            hidden_states = torch.randn(2, length, 24, dtype=dtype)
            expected = define(mixer, hidden_states, reverse, monkeypatch)
            with torch.no_grad():
                first, second = (mixer(hidden_states, reverse=reverse) for _ in range(2))
            assert torch.equal(first, second)
            assert first.dtype == dtype
            assert (first - expected).abs().max() <= tolerance * expected.abs().max()
    assert sum(buffers_used) == 2 * 2 * 4
    assert set(buffers_used) == {1, 2}


@needs_kernel
def test_buffers_end_with_the_forward_pass(buffers_used):
    model = SsambaForAudioClassification(SsambaConfig(hidden_size=16, num_hidden_layers=2, max_length=64)).eval()
    with torch.no_grad():
        model.bfloat16()(torch.randn(1, 64, 128))
    assert buffers_used
    assert getattr(memory._local, "buffers", None) is None


@needs_kernel
def test_several_threads_at_once(buffers_used, monkeypatch):
    mixer, inputs = make_mixer(), torch.randn(4, 2, 200, 24)
    expected = [define(mixer, hidden_states, False, monkeypatch) for hidden_states in inputs]
    results = [None] * 4

    def run(index):
        with ops.shared_buffers(), torch.no_grad():
            for _ in range(20):
                results[index] = mixer(inputs[index])

    threads = [threading.Thread(target=run, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result, wanted in zip(results, expected, strict=True):
        torch.testing.assert_close(result, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["in_proj", "out_proj", "forward_ssm.x_proj", "backward_ssm.dt_proj"])
def test_hooks_are_called_and_may_change_the_result(name, buffers_used, monkeypatch):
    mixer, hidden_states = make_mixer(), torch.randn(2, 50, 24)
    mixer.get_submodule(name).register_forward_hook(lambda module, inputs, output: 2 * output)
    expected = define(mixer, hidden_states, False, monkeypatch)
    with torch.no_grad():
        torch.testing.assert_close(mixer(hidden_states), expected, rtol=1e-4, atol=1e-5)
    assert not buffers_used


class Doubled(nn.Module):
    """Stands for an adapter: a module in the place of a linear one."""

    def __init__(self, base: nn.Linear):
        super().__init__()
        self.base = base
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, inputs):
        return self.scale * self.base(inputs)


@pytest.mark.parametrize("backend", ops.available_backends("cpu", torch.float32))
@pytest.mark.parametrize("name", ["in_proj", "out_proj", "x_proj", "dt_proj"])
def test_adapters_act_and_get_gradients(name, backend, buffers_used, monkeypatch):
    monkeypatch.setenv("HF_AUDIO_SSM_BACKEND", backend)
    mixer, hidden_states = make_mixer(), torch.randn(2, 50, 24)
    owners = [mixer] if name in ("in_proj", "out_proj") else [mixer.forward_ssm, mixer.backward_ssm]
    for owner in owners:
        setattr(owner, name, Doubled(getattr(owner, name)))
    expected = define(mixer, hidden_states, True, monkeypatch)
    with torch.no_grad():
        torch.testing.assert_close(mixer(hidden_states, reverse=True), expected, rtol=1e-4, atol=1e-5)
    assert not buffers_used
    mixer(hidden_states, reverse=True).square().sum().backward()
    for owner in owners:
        assert getattr(owner, name).scale.grad.abs() > 0


def test_gradients_pass_where_they_are_wanted(buffers_used):
    mixer, hidden_states = make_mixer(), torch.randn(2, 50, 24, requires_grad=True)
    mixer(hidden_states).sum().backward()
    assert hidden_states.grad.abs().max() > 0
    assert all(parameter.grad is not None for parameter in mixer.parameters())
    assert not buffers_used
