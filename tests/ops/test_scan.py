# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Every implementation of the selective scan against its definition in float64: values, gradients, extremes, errors."""

import ctypes

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scan_cases import (
    IMPLEMENTATIONS,
    NATIVE,
    define_scan,
    gradients_of,
    implementation,
    make_inputs,
    relative_error,
)

from hf_audio_ssm.ops import cpu, selective_scan


# Of the largest value: rounding of float32 sums over a few thousand steps.
TOLERANCE = 2e-5
# One rounding of the result: the state is float32.
LOW_PRECISION = {torch.bfloat16: 2**-8, torch.float16: 2**-11}


def check(inputs, reverse=False, tolerance=TOLERANCE, gradient_tolerance=None):
    """Every implementation: what is expected, which takes longer than they do, is computed once."""
    expected, expected_gradients = gradients_of(define_scan, inputs, reverse=reverse)
    for name in IMPLEMENTATIONS:
        with implementation(name) as backend:
            output, gradients = gradients_of(selective_scan, inputs, reverse=reverse, backend=backend)
        assert output.dtype == inputs["hidden_states"].dtype, name
        assert relative_error(output, expected) < tolerance, name
        for argument, gradient in gradients.items():
            assert gradient.dtype == inputs[argument].dtype, (name, argument)
            error = relative_error(gradient, expected_gradients[argument])
            assert error < (gradient_tolerance or tolerance), (name, argument)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    batch_size=st.integers(1, 5),
    length=st.one_of(st.integers(1, 12), st.integers(60, 68), st.integers(120, 200)),
    channels=st.integers(1, 40),
    state_size=st.integers(1, 64),
    reverse=st.booleans(),
    optional=st.booleans(),
    seed=st.integers(0, 99),
)
def test_values_and_gradients(batch_size, length, channels, state_size, reverse, optional, seed):
    check(make_inputs(batch_size, length, channels, state_size, optional, seed), reverse)


@pytest.mark.parametrize("state_size", [8, 16, 32, 64])
def test_long_sequences(state_size):
    check(make_inputs(batch_size=1, length=3000, channels=3, state_size=state_size))


def test_strides():
    inputs = make_inputs(batch_size=3, length=70, channels=20, state_size=5)
    wide = torch.randn(3, 70, 64)
    inputs["B"], inputs["C"] = wide[..., 7:12], wide[..., 30:35]
    inputs["hidden_states"] = torch.randn(3, 20, 70).transpose(1, 2)
    inputs["time_step"] = torch.randn(1, 70, 20).expand(3, 70, 20)
    inputs["gate"] = torch.randn(3, 140, 40)[:, ::2, ::2]
    inputs["A"] = -torch.rand(5, 20).T
    inputs["D"] = torch.randn(1).expand(20)
    check(inputs)


@pytest.mark.parametrize("dtype", list(LOW_PRECISION))
@pytest.mark.parametrize("channels", [16, 21])
def test_low_precision_keeps_a_float32_state(dtype, channels):
    inputs = make_inputs(batch_size=2, length=300, channels=channels, state_size=16)
    for argument in ("hidden_states", "time_step", "B", "C", "gate"):
        inputs[argument] = inputs[argument].to(dtype)
    # The gradients start from one that was rounded too.
    check(inputs, tolerance=LOW_PRECISION[dtype], gradient_tolerance=2 * LOW_PRECISION[dtype])


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize("dtype", list(LOW_PRECISION))
def test_conversion_of_every_value(name, dtype):
    """Without state, time step or gate, what comes out is D * x: every 16-bit pattern has to survive."""
    patterns = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype).reshape(1, 256, 256)
    inputs = make_inputs(1, 256, 256, 1, optional=False)
    inputs = {argument: tensor.to(dtype if tensor.dim() == 3 else tensor.dtype) for argument, tensor in inputs.items()}
    inputs.update(hidden_states=patterns, C=torch.zeros(1, 256, 1, dtype=dtype), D=torch.ones(256))
    # Not finite inputs make the state so: 0 * inf.
    finite = patterns.isfinite()
    inputs["hidden_states"] = torch.where(finite, patterns, 0)
    with implementation(name) as backend:
        output = selective_scan(**inputs, backend=backend)
    normal = finite & (patterns.abs() >= torch.finfo(dtype).tiny)
    assert torch.equal(output[normal], patterns[normal])
    if dtype == torch.float16:
        assert torch.equal(output[finite], patterns[finite])


@pytest.mark.parametrize("name", NATIVE)
def test_rounding_to_low_precision(name):
    """The result's rounding is torch's: to nearest, ties to even, overflow to infinity."""
    values = torch.cat([torch.randn(4000) * 10.0**power for power in range(-8, 9)])
    values = torch.cat(
        [values, torch.tensor([65504.0, 65519.0, 65520.0, 1 + 2**-11, 1 + 3 * 2**-11, 2**-25, 3 * 2**-25])]
    )
    values = values[: len(values) // 16 * 16]
    for dtype in LOW_PRECISION:
        ones = torch.ones(1, 1, len(values), dtype=dtype)
        zeros = torch.zeros(1, 1, 1, dtype=dtype)
        with implementation(name) as backend:
            output = selective_scan(ones, ones, -torch.ones(len(values), 1), zeros, zeros, values, backend=backend)
        assert torch.equal(output.flatten(), values.to(dtype))


@pytest.mark.parametrize("name", NATIVE)
def test_exponential_within_two_units_in_the_last_place(name):
    values = torch.cat(
        [torch.linspace(-126, 0, 1 << 21), -torch.logspace(-30, 2, 1 << 18, dtype=torch.float64).float()]
    )
    results = torch.empty_like(values)
    isa = cpu._ISAS.index(name.removeprefix("cpu-"))
    assert cpu._library.hf_audio_ssm_exp2(values.data_ptr(), results.data_ptr(), len(values), isa) == 0
    exact = torch.exp2(values.double())
    errors = (results.double() - exact).abs()
    units = torch.exp2(torch.floor(torch.log2(exact)) - 23)
    # Subnormal parts count as 0.
    assert (errors <= 2 * units + 2**-126).all()
    special = torch.tensor([-127.5, -150.0, -1e4, -1e30, float("nan"), 0.0, -0.0, -1e-40] * 2)
    results = torch.empty_like(special)
    cpu._library.hf_audio_ssm_exp2(special.data_ptr(), results.data_ptr(), 16, isa)
    assert torch.equal(results[:4], torch.zeros(4))
    assert results[4].isnan()
    assert torch.equal(results[5:8], torch.ones(3))


@pytest.mark.parametrize("A", [-1e-7, -1e-3, -30.0, -1e4, -1e30])
@pytest.mark.parametrize("time_step", [-1e4, -30.0, 0.0, 30.0, 1e4])
def test_extreme_memories(A, time_step):
    """From a state that never forgets to one that always does, from dt = 0 to dt far beyond softplus's overflow."""
    inputs = make_inputs(batch_size=1, length=200, channels=17, state_size=3)
    inputs["A"] = inputs["A"] * -A
    inputs["time_step"] = inputs["time_step"] + time_step
    check(inputs)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_time_steps_near_the_largest_number(name):
    inputs = make_inputs(batch_size=1, length=3, channels=2, state_size=2)
    inputs["time_step"] = torch.full((1, 3, 2), 1e30)
    with implementation(name) as backend:
        output = selective_scan(**inputs, backend=backend)
    assert relative_error(output, define_scan(**inputs)) < TOLERANCE


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_finite_inputs_spread_as_far_as_the_recurrence_does(name, value):
    inputs = make_inputs(batch_size=2, length=100, channels=18, state_size=4)
    with implementation(name) as backend:
        clean = selective_scan(**inputs, backend=backend)
        inputs["hidden_states"][1, 70, 5] = value
        output = selective_scan(**inputs, backend=backend)
    reached = torch.zeros(output.shape, dtype=torch.bool)
    reached[1, 70:, 5] = True
    assert torch.equal(output[~reached], clean[~reached])
    assert not output[1, 70, 5].isfinite()
    assert torch.equal(output.isfinite(), define_scan(**inputs).isfinite())


@pytest.mark.parametrize("reverse", [False, True])
def test_reference_gradients_in_float64(reverse):
    inputs = make_inputs(batch_size=1, length=66, channels=2, state_size=2)
    arguments = [tensor.double().requires_grad_() for tensor in inputs.values()]
    assert torch.autograd.gradcheck(
        lambda *values: selective_scan(**dict(zip(inputs, values, strict=True)), reverse=reverse), arguments
    )


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_runs_are_bitwise_equal_and_so_are_numbers_of_threads(name):
    inputs = make_inputs(batch_size=2, length=150, channels=40, state_size=16)
    before = torch.get_num_threads()
    results = {}
    with implementation(name) as backend:
        for threads in (1, 1, 2, 2, 3, 3, 7, 7):
            torch.set_num_threads(threads)
            try:
                results.setdefault(threads, []).append(gradients_of(selective_scan, inputs, backend=backend))
            finally:
                torch.set_num_threads(before)
    first, first_gradients = results[1][0]
    for (output, gradients), (again, gradients_again) in results.values():
        assert torch.equal(output, again)
        assert all(torch.equal(gradients[argument], gradients_again[argument]) for argument in gradients)
        # Only sums over channels depend on how threads share them.
        if backend == "cpu":
            assert torch.equal(output, first)
        assert all(relative_error(gradients[name], first_gradients[name]) < TOLERANCE for name in gradients)


@pytest.mark.skipif(not NATIVE, reason="the native kernels were not built")
def test_positive_rates_are_refused():
    inputs = make_inputs()
    inputs["A"][3, 1] = 0.5
    with pytest.raises(ValueError, match="A has positive values"):
        selective_scan(**inputs, backend="cpu")


@pytest.mark.skipif(not NATIVE, reason="the native kernels were not built")
def test_an_instruction_set_that_does_not_exist_is_refused():
    assert cpu._library.hf_audio_ssm_exp2(ctypes.c_void_p(), ctypes.c_void_p(), 0, 99) == 1


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("hidden_states", torch.zeros(2, 70), r"hidden_states has shape \(2, 70\)"),
        ("hidden_states", torch.zeros(2, 0, 19), r"hidden_states has shape \(2, 0, 19\)"),
        ("hidden_states", torch.zeros(2, 70, 19, dtype=torch.int64), "hidden_states has dtype torch.int64"),
        ("A", torch.zeros(18, 16), r"A has shape \(18, 16\): expected \(channels, state\) with 19"),
        ("B", torch.zeros(2, 70, 15), r"B has shape \(2, 70, 15\): expected \(2, 70, 16\)"),
        ("C", torch.zeros(2, 71, 16), r"C has shape"),
        ("D", torch.zeros(1), r"D has shape"),
        ("gate", torch.zeros(1, 70, 19), r"gate has shape"),
        ("time_step", torch.zeros(2, 70, 1), r"time_step has shape"),
        ("time_step_bias", torch.zeros(18), r"time_step_bias has shape"),
        ("gate", torch.zeros(2, 70, 19, device="meta"), r"gate is on meta: expected cpu"),
    ],
)
def test_inputs_that_do_not_fit_are_named(argument, value, message):
    with pytest.raises(ValueError, match=message):
        selective_scan(**{**make_inputs(), argument: value})


def test_an_empty_batch():
    inputs = make_inputs(batch_size=0)
    for backend in ("reference", *(["cpu"] if NATIVE else [])):
        output, gradients = gradients_of(selective_scan, inputs, backend=backend)
        assert output.shape == inputs["hidden_states"].shape
        assert not gradients["A"].any()
