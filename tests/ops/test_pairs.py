# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
The two layers of a pair at once: what that computes, when the model does it, and hooks and adapters. The reference, one layer
after the other, stands in for a backend that has kernels for pairs; Triton's are in `test_triton_kernels.py`.
"""

import dataclasses

import peft
import pytest
import torch
from scan_cases import SelectiveSSM, relative_error
from torch import nn

from hf_audio_ssm import SsambaConfig, SsambaForAudioClassification, SsambaModel
from hf_audio_ssm.ops import backends, bidirectional_mixing, bidirectional_mixing_pair, reference


@pytest.fixture
def pairs_run(monkeypatch) -> list[str]:
    """Gives the reference kernels for pairs, and lists the calls of them."""
    calls = []

    def scan(*arguments):
        calls.append("scan")
        first, second, *settings = arguments
        return reference.scan(first, *settings)[0], reference.scan(second, *settings)[0], None

    def convolution(*layers):
        calls.append("convolution")
        return [reference.convolution(*arguments) for arguments in layers]

    pairs = backends.Pairs(scan, convolution, lambda *arguments: True)
    own = dataclasses.replace(backends._BACKENDS["reference"], pairs=pairs)
    monkeypatch.setitem(backends._BACKENDS, "reference", own)
    monkeypatch.setenv("HF_AUDIO_SSM_BACKEND", "reference")
    return calls


def make_layers(channels=5, **arguments) -> nn.ModuleList:
    """Both directions' modules of two layers."""
    torch.manual_seed(0)
    return nn.ModuleList(
        nn.ModuleList(SelectiveSSM(channels, state_size=4, rank=2, **arguments) for _ in range(2)) for _ in range(2)
    )


def one_by_one(projected_states, layers, **arguments):
    return [
        bidirectional_mixing(states, *own, reverse, **arguments)
        for states, own, reverse in zip(projected_states, layers, (False, True), strict=True)
    ]


def run(function, projected_states, layers, **arguments):
    leaves = [states.detach().requires_grad_() for states in projected_states]
    outputs = function(leaves, layers, **arguments)
    total = sum(
        (output * torch.linspace(-1, 1, output.numel()).reshape(output.shape).cos()).sum() for output in outputs
    )
    return [*(output.detach() for output in outputs), *torch.autograd.grad(total, [*leaves, *layers.parameters()])]


@pytest.mark.parametrize("clip_shapes", [None, ((2, 4), (1, 7))])
def test_both_layers_at_once(pairs_run, clip_shapes):
    layers = make_layers()
    shape = (2, 9, 10) if clip_shapes is None else (1, 15, 10)
    projected = [torch.randn(shape) for _ in range(2)]
    found = run(bidirectional_mixing_pair, projected, layers, clip_shapes=clip_shapes)
    groups = 1 if clip_shapes is None else 2
    assert pairs_run == ["convolution", "scan"] * groups
    expected = run(one_by_one, projected, layers, clip_shapes=clip_shapes)
    assert len(pairs_run) == 2 * groups
    assert all(relative_error(*both) < 1e-6 for both in zip(found, expected, strict=True))


def test_layers_that_differ_run_one_after_the_other(pairs_run):
    projected = [torch.randn(2, 9, 10) for _ in range(2)]
    different_states, different_kernels = make_layers(), make_layers()
    different_states[1] = nn.ModuleList(SelectiveSSM(5, state_size=3, rank=1) for _ in range(2))
    different_kernels[1] = nn.ModuleList(SelectiveSSM(5, state_size=4, kernel_size=3) for _ in range(2))
    for layers, calls in ((different_states, ["convolution"]), (different_kernels, ["scan"])):
        found = run(bidirectional_mixing_pair, projected, layers)
        assert pairs_run == calls
        expected = run(one_by_one, projected, layers)
        assert all(relative_error(*both) < 1e-6 for both in zip(found, expected, strict=True))
        pairs_run.clear()
    longer = [projected[0], torch.randn(2, 11, 10)]
    shapes = [tuple(output.shape) for output in bidirectional_mixing_pair(longer, make_layers())]
    assert (shapes, pairs_run) == ([(2, 9, 5), (2, 11, 5)], [])


@pytest.mark.filterwarnings("ignore:LoRA adapter added to ConvNd layer with groups")
@pytest.mark.parametrize("target", ["x_proj", "dt_proj", "conv1d"])
def test_adapters_on_one_of_the_layers_act_and_learn(pairs_run, target):
    layers = make_layers(channels=4)
    config = peft.LoraConfig(r=4, target_modules=[target], init_lora_weights=False)
    peft.inject_adapter_in_model(config, layers[1])
    projected = [torch.randn(2, 9, 8) for _ in range(2)]
    layers.requires_grad_(True)
    found = run(bidirectional_mixing_pair, projected, layers)
    assert "scan" in pairs_run
    expected = run(one_by_one, projected, layers)
    assert all(relative_error(*both) < 1e-5 for both in zip(found, expected, strict=True))
    assert all(value.any() for value in found)


def test_gradients_in_float64():
    layers = make_layers(channels=1).double()
    projected = [torch.randn(1, 3, 2, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    parameters = dict(layers.named_parameters())

    def mix(first, second, *values):
        swapped = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(
            Mixing(layers), {f"layers.{name}": own for name, own in swapped.items()}, ((first, second),)
        )

    assert torch.autograd.gradcheck(mix, (*projected, *parameters.values()))


class Mixing(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, projected_states):
        return tuple(bidirectional_mixing_pair(projected_states, self.layers))


@pytest.mark.parametrize("index", [0, 1])
def test_states_that_do_not_fit_are_refused(index):
    projected = [torch.zeros(1, 3, 10), torch.zeros(1, 3, 10)]
    projected[index] = torch.zeros(1, 3, 9)
    with pytest.raises(ValueError, match=r"projected_states has shape \(1, 3, 9\): expected \(batch, length, 10\)"):
        bidirectional_mixing_pair(projected, make_layers())


def make_model(num_hidden_layers=4, **arguments):
    torch.manual_seed(0)
    config = SsambaConfig(
        hidden_size=8,
        num_hidden_layers=num_hidden_layers,
        state_size=4,
        num_mel_bins=16,
        max_length=64,
        num_labels=3,
        **arguments,
    )
    return SsambaForAudioClassification(config)


def train(model, **arguments):
    """The logits, and the gradients by name."""
    torch.manual_seed(1)
    model.train()
    model.zero_grad()
    logits = model(torch.linspace(-1, 1, 2 * 64 * 16).reshape(2, 64, 16).sin(), **arguments).logits
    logits.square().sum().backward()
    return [logits.detach(), *(parameter.grad for parameter in model.parameters() if parameter.requires_grad)]


def train_one_by_one(model, monkeypatch):
    with monkeypatch.context() as context:
        without = dataclasses.replace(backends._BACKENDS["reference"], pairs=None)
        context.setitem(backends._BACKENDS, "reference", without)
        return train(model)


@pytest.mark.parametrize("checkpointing", [None, False, True], ids=["no checkpoints", "not reentrant", "reentrant"])
def test_training(pairs_run, checkpointing, monkeypatch):
    """Stochastic depth draws the same numbers whether the layers run at once or one by one."""
    model = make_model(drop_path_rate=0.5)
    expected = train_one_by_one(model, monkeypatch)
    assert not pairs_run
    if checkpointing is not None:
        model.activation_checkpointing_enable({"use_reentrant": checkpointing})
    found = train(model)
    # Checkpoints run each pair again.
    assert pairs_run == ["convolution", "scan"] * 2 * (1 if checkpointing is None else 2)
    assert all(relative_error(*both) < 1e-5 for both in zip(found, expected, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_inference_and_autocast(pairs_run, dtype):
    model, input_values = make_model().eval(), torch.randn(2, 64, 16)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        found = model(input_values).logits
        assert pairs_run == ["convolution", "scan"] * 2
        # Layers whose outputs are recorded are called.
        expected = model(input_values, output_hidden_states=True)
        assert len(expected.hidden_states) == 5
        assert len(pairs_run) == 4
    assert relative_error(found, expected.logits) < 16 * torch.finfo(dtype).eps


def test_packed_clips(pairs_run):
    model = make_model().eval()
    clips = [torch.randn(frames, 16) for frames in (64, 32, 64)]
    lengths = torch.tensor([len(clip) for clip in clips])
    padded = nn.utils.rnn.pad_sequence(clips, batch_first=True)
    mask = torch.arange(64) < lengths[:, None]
    with torch.no_grad():
        found = model(padded, attention_mask=mask).logits
        assert pairs_run == ["convolution", "scan"] * 2 * 2
        expected = torch.cat([model(clip[None]).logits for clip in clips])
    assert relative_error(found, expected) < 1e-5


def test_lora_on_all_projections(pairs_run, monkeypatch):
    targets = ["in_proj", "x_proj", "dt_proj", "out_proj"]
    config = peft.LoraConfig(r=2, target_modules=targets, init_lora_weights=False)
    model = peft.get_peft_model(make_model(), config)
    expected = train_one_by_one(model, monkeypatch)
    found = train(model)
    assert pairs_run == ["convolution", "scan"] * 2
    assert all(relative_error(*both) < 1e-5 for both in zip(found, expected, strict=True))
    assert all(value.any() for value in found)


@pytest.mark.parametrize("name", ["", ".mixer", ".mixer.backward_ssm"])
def test_hooks_of_a_module_that_would_not_be_called_keep_its_pair_apart(pairs_run, name):
    model = make_model().eval()
    input_values = torch.randn(2, 64, 16)
    called = []
    with torch.no_grad():
        expected = model(input_values).logits
        pairs_run.clear()
        module = model.get_submodule(f"ssamba.layers.3{name}")
        module.register_forward_hook(lambda *arguments: called.append(1))
        found = model(input_values).logits
    assert pairs_run == ["convolution", "scan"]
    assert relative_error(found, expected) < 1e-5
    assert called == [1]


def test_hidden_states_keep_pairs_apart_only_where_they_are_asked_for(pairs_run):
    model = make_model().eval()
    input_values = torch.randn(2, 64, 16)
    with torch.no_grad():
        states = model(input_values, output_hidden_states=True).hidden_states
        assert len(states) == 5
        assert not pairs_run
        model(input_values)
    assert pairs_run == ["convolution", "scan"] * 2


def test_hooks_on_projections_act(pairs_run):
    model = make_model(num_hidden_layers=2).eval()
    input_values = torch.randn(2, 64, 16)
    projection = model.ssamba.layers[1].mixer.out_proj
    hook = projection.register_forward_hook(lambda module, inputs, output: 2 * output)
    with torch.no_grad():
        found = model(input_values).logits
        hook.remove()
        projection.weight *= 2
        expected = model(input_values).logits
    assert pairs_run == ["convolution", "scan"] * 2
    assert relative_error(found, expected) < 1e-5


def test_single_layers_have_no_pairs(pairs_run):
    make_model(paired_layers=False).eval()(torch.randn(2, 64, 16))
    assert not pairs_run


def test_pairs_that_do_not_pay(pairs_run, monkeypatch):
    asked = []
    own = backends._BACKENDS["reference"]
    pairs = dataclasses.replace(own.pairs, pay=lambda *arguments: asked.append(arguments))
    monkeypatch.setitem(backends._BACKENDS, "reference", dataclasses.replace(own, pairs=pairs))
    model = make_model(num_hidden_layers=2)
    model(torch.randn(2, 64, 16))
    assert asked == [(2, 5, 16, 4, torch.device("cpu"))]
    assert not pairs_run


def test_compiles_and_exports_without_asking_for_sizes(pairs_run, monkeypatch):
    """With any length: a question about it would fix it. A sum along time stands in for the scan, whose graph is large."""

    def cumulate(tensors, scale, reverse, save_states):
        first, second, gate = tensors
        ahead, back = (second, first) if reverse else (first, second)
        total = (ahead.x * ahead.dt.mean(-1, keepdim=True)).cumsum(1) - back.x.flip(1).cumsum(1).flip(1)
        return scale * total * gate, None

    def cumulate_pair(first, second, *settings):
        pairs_run.append("scan")
        return cumulate(first, *settings)[0], cumulate(second, *settings)[0], None

    own = backends._BACKENDS["reference"]
    pairs = dataclasses.replace(own.pairs, scan=cumulate_pair, pay=lambda *arguments: pytest.fail("asked for sizes"))
    monkeypatch.setitem(backends._BACKENDS, "reference", dataclasses.replace(own, scan=cumulate, pairs=pairs))
    model = make_model(num_hidden_layers=2).eval()
    layers = Layers(model.ssamba)
    example, other = torch.randn(2, 5, 8), torch.randn(3, 7, 8)
    with torch.no_grad():
        compiled = torch.compile(layers, fullgraph=True, backend="eager", dynamic=True)
        dimensions = ({0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO},)
        exported = torch.export.export(layers, (example,), dynamic_shapes=dimensions).module()
        assert "scan" in pairs_run
        first, second = model.ssamba.layers
        for states in (example, other):
            expected = second(states, first(states)[0])[0]
            assert relative_error(compiled(states), expected) < 1e-5
            assert relative_error(exported(states), expected) < 1e-5


class Layers(nn.Module):
    def __init__(self, model: SsambaModel):
        super().__init__()
        self.model = model

    def forward(self, hidden_states):
        return self.model.run_layers(hidden_states, None)
