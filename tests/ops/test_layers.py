# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Whole layers in native code compute what their modules define, and the modules are called where that matters."""

import dataclasses
import threading

import hypothesis
import pytest
import torch
from hypothesis import strategies
from torch import nn

from hf_audio_ssm import SsambaConfig, ops
from hf_audio_ssm.models.ssamba.modeling_ssamba import SsambaModel
from hf_audio_ssm.ops import backends, cpu, layers


pytestmark = pytest.mark.skipif(not cpu.has_layer(), reason="needs the native kernel and AVX2")
ISAS = [isa for isa in (cpu.available_isas() if cpu.is_available() else ()) if isa != "baseline"]


def make_model(dtype=torch.float32, **arguments) -> SsambaModel:
    torch.manual_seed(0)
    settings = {"hidden_size": 24, "num_hidden_layers": 4, "state_size": 8, "num_mel_bins": 16} | arguments
    model = SsambaModel(SsambaConfig(**settings)).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def run(model: SsambaModel, inputs: torch.Tensor, clip_shapes=None) -> torch.Tensor:
    return model.run_layers(inputs, clip_shapes)


@pytest.fixture
def define(monkeypatch):
    """Calls a function with plain PyTorch in the kernels' place."""

    def call(function):
        with monkeypatch.context() as context, torch.no_grad():
            context.setenv("HF_AUDIO_SSM_BACKEND", "reference")
            return function()

    return call


@pytest.fixture
def calls(monkeypatch) -> list[bytes]:
    """The layers that run in native code."""
    made, own = [], backends._BACKENDS["cpu"]
    kernels = dataclasses.replace(own.layers, run=lambda call: (made.append(call), own.layers.run(call)))
    monkeypatch.setitem(backends._BACKENDS, "cpu", dataclasses.replace(own, layers=kernels))
    return made


@pytest.fixture(params=ISAS)
def isa(request, monkeypatch):
    monkeypatch.setattr(cpu, "_isa", cpu._ISAS.index(request.param))


@hypothesis.settings(
    deadline=None, max_examples=20, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(
    batch_size=strategies.integers(1, 4),
    length=strategies.one_of(strategies.integers(1, 80), strategies.integers(300, 800)),
    hidden_size=strategies.integers(1, 70),
    state_size=strategies.sampled_from([1, 3, 16, 20]),
    conv_kernel=strategies.integers(1, 6),
    flags=strategies.tuples(*[strategies.booleans()] * 3),
    threads=strategies.integers(1, 2),
)
def test_layers(batch_size, length, hidden_size, state_size, conv_kernel, flags, threads, isa, define, calls):
    use_bias, use_conv_bias, paired = flags
    model = make_model(
        hidden_size=hidden_size,
        num_hidden_layers=2,
        state_size=state_size,
        conv_kernel=conv_kernel,
        use_bias=use_bias,
        use_conv_bias=use_conv_bias,
        paired_layers=paired,
    )
    inputs = torch.randn(batch_size, length, hidden_size)
    before, original = torch.get_num_threads(), inputs.clone()
    calls.clear()
    torch.set_num_threads(threads)
    try:
        with torch.no_grad(), ops.shared_buffers():
            first, second = (run(model, inputs) for _ in range(2))
        expected = define(lambda: run(model, inputs))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(first, second)
    assert torch.equal(inputs, original)
    torch.testing.assert_close(first, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    assert calls


def test_clips_in_turn(monkeypatch, define, calls):
    monkeypatch.setattr(layers, "CLIPS_BYTES", 1 << 16)
    model, inputs = make_model(), torch.randn(5, 150, 24)
    with torch.no_grad():
        result = run(model, inputs)
    torch.testing.assert_close(result, define(lambda: run(model, inputs)), rtol=1e-4, atol=1e-4)
    assert len(calls) == 3 * 4


def test_packed_clips(define, calls):
    model, inputs, clip_shapes = make_model(), torch.randn(1, 250, 24), ((2, 70), (1, 10), (4, 25))
    with torch.no_grad():
        result = run(model, inputs, clip_shapes)
        alone = run(model, inputs[:, 70:140])
        with pytest.raises(ValueError, match="clip_shapes=.* does not fit"):
            run(model, inputs, ((2, 70),))
    assert len(calls) == 3 * 4 + 4
    assert torch.equal(result[:, 70:140], alone)
    expected = define(lambda: run(model, inputs, clip_shapes))
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)


def test_strided_inputs(define):
    model, inputs = make_model(), torch.randn(24, 60, 3).permute(2, 1, 0)[:, ::2]
    with torch.no_grad():
        result = run(model, inputs)
    torch.testing.assert_close(result, define(lambda: run(model, inputs)), rtol=1e-4, atol=1e-4)


def test_number_of_threads_changes_nothing():
    model, inputs, before = make_model(), torch.randn(1, 700, 24), torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            with torch.no_grad():
                results.append(run(model, inputs))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_several_python_threads(define):
    model, inputs = make_model(), torch.randn(4, 2, 200, 24)
    expected = define(lambda: [run(model, hidden_states) for hidden_states in inputs])
    results = [None] * 4

    def work(index):
        with ops.shared_buffers(), torch.no_grad():
            for _ in range(10):
                results[index] = run(model, inputs[index])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result, wanted in zip(results, expected, strict=True):
        torch.testing.assert_close(result, wanted, rtol=1e-4, atol=1e-4)


def test_weights_changed_in_any_way_count():
    model, inputs = make_model(), torch.randn(1, 30, 24)
    with torch.no_grad():
        results = [run(model, inputs)]
        model.layers[1].mixer.in_proj.weight.data[3] += 1
        results.append(run(model, inputs))
        model.layers[0].mixer.out_proj.weight.mul_(2)
        results.append(run(model, inputs))
    assert not torch.equal(results[0], results[1])
    assert not torch.equal(results[1], results[2])


@pytest.mark.parametrize(
    ("name", "native"),
    [
        ("layers.1", 4),
        ("layers.1.norm", 3),
        ("layers.1.mixer", 3),
        ("layers.1.mixer.in_proj", 3),
        ("layers.1.mixer.out_proj", 3),
        ("layers.1.mixer.forward_ssm.x_proj", 3),
        ("layers.1.mixer.backward_ssm.dt_proj", 3),
    ],
)
def test_hooks_are_called_and_may_change_the_result(name, native, define, calls):
    model, inputs = make_model(), torch.randn(2, 40, 24)

    def double(module, arguments, output):
        return (2 * output[0], *output[1:]) if isinstance(output, tuple) else 2 * output

    model.get_submodule(name).register_forward_hook(double)
    with torch.no_grad():
        result = run(model, inputs)
    torch.testing.assert_close(result, define(lambda: run(model, inputs)), rtol=1e-4, atol=1e-4)
    assert len(calls) == native


class Doubled(nn.Module):
    """Stands for an adapter: a module in the place of a linear one."""

    def __init__(self, base: nn.Linear):
        super().__init__()
        self.base = base

    def forward(self, inputs):
        return 2 * self.base(inputs)


@pytest.mark.parametrize("name", ["in_proj", "out_proj", "forward_ssm.x_proj", "backward_ssm.dt_proj"])
def test_adapters_act(name, define, calls):
    model, inputs = make_model(), torch.randn(2, 40, 24)
    mixer = model.layers[2].mixer
    mixer.set_submodule(name, Doubled(mixer.get_submodule(name)))
    with torch.no_grad():
        result = run(model, inputs)
    torch.testing.assert_close(result, define(lambda: run(model, inputs)), rtol=1e-4, atol=1e-4)
    assert len(calls) == 3


def test_hidden_states_can_be_had(define):
    model, inputs = make_model(), torch.randn(1, 64, 16)
    with torch.no_grad():
        captured = model(inputs, output_hidden_states=True).hidden_states
    expected = define(lambda: model(inputs, output_hidden_states=True).hidden_states)
    assert len(captured) == len(expected) == 5
    for own, wanted in zip(captured, expected, strict=True):
        torch.testing.assert_close(own, wanted, rtol=1e-4, atol=1e-4)


def test_hidden_states_cost_nothing_afterwards(calls):
    """The hooks that they need stay on the layers."""
    model, inputs = make_model(), torch.randn(1, 64, 16)
    with torch.no_grad():
        expected = model(inputs).last_hidden_state
        assert len(calls) == 4
        captured = model(inputs, output_hidden_states=True).hidden_states
        calls.clear()
        assert torch.equal(model(inputs).last_hidden_state, expected)
        assert len(calls) == 4
        model.config.output_hidden_states = True
        again = model(inputs).hidden_states
        assert all(torch.equal(*states) for states in zip(captured, again, strict=True))
        (last,) = (state for state in model(inputs, output_hidden_states=[4]).hidden_states if state is not None)
        assert torch.equal(last, captured[4])
        calls.clear()
        model(inputs, output_hidden_states=False)
        assert len(calls) == 4
        model.layers[1].register_forward_hook(lambda module, arguments, output: (2 * output[0], *output[1:]))
        assert not torch.allclose(model(inputs, output_hidden_states=False).last_hidden_state, expected)


def test_the_modules_are_called_where_they_have_to_be(calls, monkeypatch):
    model, inputs = make_model(), torch.randn(1, 20, 24)
    run(model, inputs.requires_grad_()).sum().backward()
    assert inputs.grad.abs().max() > 0
    inputs = inputs.detach()
    with torch.no_grad():
        run(make_model(torch.bfloat16), inputs)
        run(make_model(torch.float64), inputs.double())
        run(model.train(), inputs)
        model.eval()
        with torch.autocast("cpu"):
            run(model, inputs)
        with monkeypatch.context() as context:
            context.setenv("HF_AUDIO_SSM_BACKEND", "reference")
            run(model, inputs)
        run(make_model(hidden_act="gelu"), inputs)
        model.layers[0].mixer.out_proj = nn.Linear(48, 25)
        with pytest.raises(RuntimeError, match="size"):
            run(model, inputs)
    assert not calls


@pytest.mark.parametrize("shape", [(1, 20, 23), (1, 0, 24), (20, 24)])
def test_wrong_shapes(shape):
    layer = make_model().layers[0]
    with torch.no_grad():
        with pytest.raises(ValueError, match=r"hidden_states has shape .*: expected \(batch, length, 24\)"):
            ops.bidirectional_layers([layer], torch.randn(shape), paired=False)
        with pytest.raises(ValueError, match=r"residual has shape .*: expected \(2, 20, 24\)"):
            ops.bidirectional_layer(layer, torch.randn(2, 20, 24), torch.randn(shape))
