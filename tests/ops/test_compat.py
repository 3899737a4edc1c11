# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What the kernels use beyond public interfaces: hooks that do nothing, newer versions of torch, code of older checkpoints."""

import dataclasses
import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from scan_cases import relative_error
from torch import nn
from transformers.utils import output_capturing
from warm_python import run_python

from hf_audio_ssm import SsambaConfig, SsambaModel, ops
from hf_audio_ssm.ops import backends, compat, cpu


OLDER_CODE = Path(__file__).parents[1] / "fixtures" / "checkpoints" / "code"
needs_layers = pytest.mark.skipif(not cpu.has_layer(), reason="needs the native kernel and AVX2")


def make_model(model_class=SsambaModel, config_class=SsambaConfig, **arguments):
    torch.manual_seed(0)
    settings = {"hidden_size": 8, "num_hidden_layers": 4, "state_size": 4, "num_mel_bins": 16, "max_length": 64}
    return model_class(config_class(**settings, **arguments)).eval()


def inputs(batch_size=2):
    return torch.linspace(-1, 1, batch_size * 64 * 16).reshape(batch_size, 64, 16).sin()


@pytest.fixture
def layer_calls(monkeypatch) -> list[bytes]:
    """The layers that run in native code."""
    made, own = [], backends._BACKENDS["cpu"]
    kernels = dataclasses.replace(own.layers, run=lambda call: (made.append(call), own.layers.run(call)))
    monkeypatch.setitem(backends._BACKENDS, "cpu", dataclasses.replace(own, layers=kernels))
    return made


def test_hooks_that_capture_nothing_do_not_count():
    module = nn.Linear(2, 2)
    output_capturing.install_output_capuring_hook(module, "hidden_states", 0)
    assert compat.is_untouched(module)
    token = output_capturing._active_collector.set({"hidden_states": []})
    try:
        assert not compat.is_untouched(module)
    finally:
        output_capturing._active_collector.reset(token)
    # Those of other modules always count, beside such hooks as well.
    module.register_forward_hook(lambda *arguments: None)
    assert not compat.is_untouched(module)


def test_hooks_count_where_what_they_read_is_unknown(monkeypatch):
    module = nn.Linear(2, 2)
    output_capturing.install_output_capuring_hook(module, "hidden_states", 0)
    monkeypatch.delattr(output_capturing, "_active_collector")
    assert not compat.is_untouched(module)


def test_a_newer_torch_gets_public_functions_alone(monkeypatch):
    """Nothing that is private is called, and the results are the same, with gradients and without."""
    model, input_values = make_model(), inputs()

    def run():
        model.zero_grad()
        with torch.no_grad():
            alone = model(input_values).last_hidden_state
        output = model(input_values).last_hidden_state
        (output * torch.linspace(-1, 1, output.numel()).reshape(output.shape).cos()).sum().backward()
        return [alone, output.detach(), *(parameter.grad.clone() for parameter in model.parameters())]

    expected = run()

    def fail(*arguments):
        raise AssertionError("a private function was called")

    monkeypatch.setattr(compat, "IS_TESTED", False)
    monkeypatch.delattr(compat, "FakeTensor")
    monkeypatch.delattr(compat, "nn_module")
    for name in ("_tracing_state", "_count_dispatch_modes", "_count_function_modes", "_transform"):
        monkeypatch.setattr(compat, name, fail)
    monkeypatch.setattr(compat, "multiply_by_onednn", fail)
    for found, wanted in zip(run(), expected, strict=True):
        assert relative_error(found, wanted) < 1e-5


def test_a_newer_torch_is_reported_once(tmp_path):
    script = (
        "import torch; torch.__version__ = '99.0.1+cpu'; from hf_audio_ssm import ops; x = torch.ones(1, 4, 2); "
        "print([ops.selective_scan(x, x, -torch.ones(2, 2), x, x).shape for _ in range(2)])"
    )
    result = run_python(["-c", script], tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("torch.Size([1, 4, 2])") == 2
    newest = ".".join(map(str, compat.NEWEST_TESTED_TORCH))
    assert result.stderr.count(f"torch 99.0.1+cpu is newer than torch {newest}") == 1


@pytest.fixture
def older_code(monkeypatch) -> ModuleType:
    """The code that version 0.1 saved beside checkpoints."""
    package = ModuleType("older_code")
    package.__path__ = [str(OLDER_CODE)]
    monkeypatch.setitem(sys.modules, "older_code", package)
    yield importlib.import_module("older_code.modeling_ssamba")
    for name in [name for name in sys.modules if name.startswith("older_code.")]:
        del sys.modules[name]


@needs_layers
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_code_of_older_checkpoints_runs_whole_layers(older_code, layer_calls):
    """It passes the name of a module whose hooks are to be ignored, which is decided here now."""
    model = make_model(older_code.SsambaModel, older_code.SsambaConfig)
    current = make_model()
    current.load_state_dict(model.state_dict())
    with torch.no_grad():
        found = model(inputs()).last_hidden_state
        assert len(layer_calls) == 4
        assert torch.equal(found, current(inputs()).last_hidden_state)
        layer_calls.clear()
        states = model(inputs(), output_hidden_states=True).hidden_states
        expected = current(inputs(), output_hidden_states=True).hidden_states
        assert all(torch.equal(*both) for both in zip(states, expected, strict=True))
        layer_calls.clear()
        assert torch.equal(model(inputs()).last_hidden_state, found)
        assert len(layer_calls) == 4


@needs_layers
def test_the_argument_of_older_code_changes_nothing():
    model, hidden_states = make_model(), torch.randn(1, 9, 8)
    with torch.no_grad():
        expected = ops.bidirectional_layers(model.layers, hidden_states, True)
        for extra in (("anything",), (None,)):
            assert torch.equal(ops.bidirectional_layers(model.layers, hidden_states, True, None, *extra), expected)
            assert not ops.pairs_pay(model.layers[:2], hidden_states, None, *extra)
        model.layers[0].register_forward_hook(lambda *arguments: None)
        # The hook's own module is named: it counts nevertheless.
        assert ops.bidirectional_layers(model.layers, hidden_states, True, idle_hooks=__name__) is None
