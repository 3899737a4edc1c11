# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What exporters get from the reference backend: PyTorch's own operators, which compute the same."""

import pytest
import torch
from scan_cases import NATIVE, SelectiveSSM, define_scan, gradients_of, make_inputs, relative_error
from torch import nn

from hf_audio_ssm import SsambaConfig, SsambaForAudioClassification
from hf_audio_ssm.ops import bidirectional_mixing, reference
from hf_audio_ssm.ops.operators import Direction, ScanTensors


def make_model(num_hidden_layers=2):
    torch.manual_seed(0)
    config = SsambaConfig(
        hidden_size=8,
        num_hidden_layers=num_hidden_layers,
        state_size=4,
        num_mel_bins=16,
        max_length=640,
        num_labels=3,
    )
    return SsambaForAudioClassification(config).eval()


@pytest.mark.parametrize("length", [1, 2, 31, 32, 33, 70, 1100])
@pytest.mark.parametrize("reverse", [False, True])
def test_the_definition_for_exporters(length, reverse, monkeypatch):
    """With levels for this length alone, and with those for any."""

    def scan(hidden_states, time_step, A, B, C, D, gate, time_step_bias):
        direction = Direction(hidden_states, time_step, None, time_step_bias, A, B, C, D)
        return reference.define_scan(ScanTensors(direction, None, gate), 1.0, reverse)

    inputs = {name: value.double() for name, value in make_inputs(2, length, channels=3, state_size=4).items()}
    expected, expected_gradients = gradients_of(define_scan, inputs, reverse=reverse)
    for is_fixed in (True, False):
        monkeypatch.setattr(reference.compat, "is_fixed", lambda size, is_fixed=is_fixed: is_fixed)
        output, gradients = gradients_of(scan, inputs)
        assert relative_error(output, expected) < 1e-12, is_fixed
        assert all(relative_error(gradients[name], expected_gradients[name]) < 1e-10 for name in inputs), is_fixed


def test_a_model_is_exported_without_operators_of_its_own(monkeypatch):
    model, input_values = make_model(), torch.randn(3, 640, 16)
    with torch.no_grad():
        native = model(input_values).logits
    monkeypatch.setenv("HF_AUDIO_SSM_BACKEND", "reference")
    with torch.no_grad():
        expected = model(input_values).logits
        exported = torch.export.export(model, (), {"input_values": input_values})
    assert not [node.target for node in exported.graph.nodes if "hf_audio_ssm" in str(node.target)]
    logits = exported.module()(input_values=input_values).logits
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits, native, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not NATIVE, reason="the native kernels were not built")
def test_other_backends_are_exported_as_operators():
    model, input_values = make_model(), torch.randn(1, 640, 16)
    exported = torch.export.export(model, (), {"input_values": input_values})
    own = {str(node.target) for node in exported.graph.nodes if "hf_audio_ssm" in str(node.target)}
    assert own == {"hf_audio_ssm.scan_cpu.default", "hf_audio_ssm.convolution_cpu.default"}


class Mixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.ssms = nn.ModuleList(SelectiveSSM(8) for _ in range(2))

    def forward(self, projected_states):
        return bidirectional_mixing(projected_states, *self.ssms, backend="reference")


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
def test_a_traced_mixer_takes_any_length():
    """By `torch.jit.trace`, which exporters of other formats start from."""
    mixer = Mixer().eval()
    with torch.no_grad():
        traced = torch.jit.trace(mixer, torch.randn(2, 40, 16))
        assert "hf_audio_ssm::" not in str(traced.inlined_graph)
        for length in (1, 33, 40, 300):
            projected_states = torch.randn(2, length, 16)
            assert relative_error(traced(projected_states), mixer(projected_states)) < 1e-5


def test_autocast_does_not_round_what_is_exported():
    mixer, projected_states = Mixer().eval(), torch.randn(2, 40, 16)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        expected = mixer(projected_states)
        found = torch.export.export(mixer, (projected_states,)).module()(projected_states)
    assert relative_error(found, expected) < 1e-5


@pytest.mark.slow
def test_onnx(monkeypatch, tmp_path):
    """A runtime without this package computes the same."""
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    monkeypatch.setenv("HF_AUDIO_SSM_BACKEND", "reference")
    model, input_values = make_model(), torch.randn(3, 640, 16)
    file = tmp_path / "model.onnx"
    shapes = {"input_values": {0: torch.export.Dim("batch")}}
    torch.onnx.export(model, (), file, kwargs={"input_values": input_values[:2]}, dynamic_shapes=shapes, dynamo=True)
    session = runtime.InferenceSession(file)
    with torch.no_grad():
        expected = model(input_values).logits
    (logits,) = session.run(None, {session.get_inputs()[0].name: input_values.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=1e-4, atol=1e-5)
