# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The bidirectional time mixing against its definition with flips, and what adapters, hooks and quantizers do to it."""

import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scan_cases import (
    IMPLEMENTATIONS,
    SelectiveSSM,
    define_mixing,
    implementation,
    relative_error,
)
from torch import nn

from hf_audio_ssm.ops import bidirectional_mixing


TOLERANCE = 2e-5


def make_mixer(channels=19, seed=0, **arguments):
    torch.manual_seed(seed)
    return nn.ModuleDict({name: SelectiveSSM(channels, **arguments) for name in ("forward_ssm", "backward_ssm")})


def run(function, mixer, projected_states, **arguments):
    """The result and the gradients of a fixed weighted sum of it by name."""
    projected_states = projected_states.detach().requires_grad_()
    output = function(projected_states, mixer["forward_ssm"], mixer["backward_ssm"], **arguments)
    weight = torch.linspace(-1, 1, output.numel()).reshape(output.shape).cos()
    leaves = {name: parameter for name, parameter in mixer.named_parameters() if parameter.requires_grad}
    gradients = torch.autograd.grad((output * weight).sum(), [projected_states, *leaves.values()])
    return output.detach(), dict(zip(["projected_states", *leaves], gradients, strict=True))


def check(name, mixer, projected_states, reverse=False):
    with implementation(name) as backend:
        output, gradients = run(bidirectional_mixing, mixer, projected_states, reverse=reverse, backend=backend)
    mixer.double()
    expected, expected_gradients = run(define_mixing, mixer, projected_states.double(), reverse=reverse)
    mixer.float()
    assert relative_error(output, expected) < TOLERANCE
    for parameter, gradient in gradients.items():
        assert relative_error(gradient, expected_gradients[parameter]) < TOLERANCE, parameter
    return gradients


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    batch_size=st.integers(1, 3),
    length=st.one_of(st.integers(1, 9), st.integers(60, 140)),
    channels=st.integers(1, 40),
    state_size=st.sampled_from([1, 5, 8, 16, 32]),
    rank=st.sampled_from([1, 3, 12, 24, 31]),
    kernel_size=st.integers(1, 6),
    conv_bias=st.booleans(),
    padded=st.booleans(),
    reverse=st.booleans(),
)
def test_values_and_gradients(
    name, batch_size, length, channels, state_size, rank, kernel_size, conv_bias, padded, reverse
):
    mixer = make_mixer(
        channels, state_size=state_size, rank=rank, kernel_size=kernel_size, conv_bias=conv_bias, padded=padded
    )
    check(name, mixer, torch.randn(batch_size, length, 2 * channels), reverse)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_reversed_mixing_is_the_mixing_of_reversed_time(name):
    mixer, projected_states = make_mixer(), torch.randn(2, 100, 38)
    ssms = mixer["forward_ssm"], mixer["backward_ssm"]
    with implementation(name) as backend, torch.no_grad():
        flipped = bidirectional_mixing(projected_states.flip(1), *ssms, backend=backend).flip(1)
        output = bidirectional_mixing(projected_states, *ssms, reverse=True, backend=backend)
    assert relative_error(output, flipped) < 1e-6


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision(name, dtype):
    mixer, projected_states = make_mixer(), torch.randn(2, 100, 38)
    ssms = mixer["forward_ssm"], mixer["backward_ssm"]
    with implementation(name) as backend, torch.no_grad():
        expected = bidirectional_mixing(projected_states, *ssms, backend=backend)
        mixer.to(dtype)
        output = bidirectional_mixing(projected_states.to(dtype), *ssms, backend=backend)
    assert output.dtype == dtype
    assert relative_error(output, expected) < 8 * torch.finfo(dtype).eps


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_autocast(name):
    """Projections run in bfloat16, the state stays float32, and float32 parameters get float32 gradients."""
    mixer, projected_states = make_mixer(), torch.randn(2, 100, 38)
    with implementation(name) as backend:
        expected, _ = run(bidirectional_mixing, mixer, projected_states, backend=backend)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output, gradients = run(bidirectional_mixing, mixer, projected_states, backend=backend)
    assert 0 < relative_error(output, expected) < 0.02
    assert all(gradient.dtype == torch.float32 for gradient in gradients.values())
    assert all(gradient.any() for gradient in gradients.values())


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.filterwarnings("ignore:LoRA adapter added to ConvNd layer with groups")
@pytest.mark.parametrize("target", ["x_proj", "dt_proj", "conv1d"])
def test_adapters_act_and_learn(name, target):
    """A kernel that read the weight underneath would neither see the adapter nor give it gradients."""
    mixer, projected_states = make_mixer(channels=12), torch.randn(2, 70, 24)
    with torch.no_grad():
        before = define_mixing(projected_states, mixer["forward_ssm"], mixer["backward_ssm"])
    # peft wants a rank that a convolution's groups divide.
    config = peft.LoraConfig(r=12, target_modules=[target], init_lora_weights=False)
    adapted = peft.inject_adapter_in_model(config, mixer)
    gradients = check(name, adapted, projected_states)
    learned = [parameter for parameter in gradients if "lora_" in parameter]
    assert len(learned) == 4
    assert all(gradients[parameter].any() for parameter in learned)
    with torch.no_grad():
        after = define_mixing(projected_states, mixer["forward_ssm"], mixer["backward_ssm"])
    assert not torch.allclose(before, after)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("target", ["x_proj", "dt_proj", "conv1d"])
def test_hooks_and_replaced_methods_act(name, target, padded):
    projected_states = torch.randn(1, 20, 38)

    def double_by_hook(module):
        module.register_forward_hook(lambda module, inputs, output: 2 * output)

    def double_by_method(module):
        # What accelerate's hooks do.
        original = module.forward
        module.forward = lambda states: 2 * original(states)

    def double_by_weight(module):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter *= 2

    results = []
    for change in (double_by_hook, double_by_method, double_by_weight):
        mixer = make_mixer(padded=padded)
        change(mixer["forward_ssm"].get_submodule(target))
        with implementation(name) as backend, torch.no_grad():
            results.append(
                bidirectional_mixing(projected_states, mixer["forward_ssm"], mixer["backward_ssm"], backend=backend)
            )
    assert relative_error(results[0], results[2]) < TOLERANCE
    assert relative_error(results[1], results[2]) < TOLERANCE


def test_projections_that_are_not_plain_linear_modules_are_called():
    class Doubled(nn.Linear):
        def forward(self, states):
            return 2 * super().forward(states)

    mixer, projected_states = make_mixer(), torch.randn(1, 20, 38)
    expected = make_mixer()
    for name in mixer:
        doubled = Doubled(3, 19)
        doubled.load_state_dict(mixer[name].dt_proj.state_dict())
        mixer[name].dt_proj = doubled
        with torch.no_grad():
            expected[name].dt_proj.weight *= 2
            expected[name].dt_proj.bias *= 2
    with torch.no_grad():
        output, wanted = (
            bidirectional_mixing(projected_states, modules["forward_ssm"], modules["backward_ssm"])
            for modules in (mixer, expected)
        )
    assert relative_error(output, wanted) < TOLERANCE


@pytest.mark.parametrize("shape", [(20, 38), (1, 0, 38), (1, 20, 37)])
def test_states_that_do_not_fit_are_refused(shape):
    mixer = make_mixer()
    with pytest.raises(ValueError, match=r"projected_states has shape .*expected \(batch, length, 38\)"):
        bidirectional_mixing(torch.zeros(shape), mixer["forward_ssm"], mixer["backward_ssm"])
