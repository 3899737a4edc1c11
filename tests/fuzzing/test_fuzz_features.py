# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Whatever the feature extractor is given: finite values of the right shape, or one line that names the argument; at once."""

import resource
import time
import warnings

import numpy as np
import pytest
import torch
from fuzzing import check_examples, many_examples
from hypothesis import strategies as st

from hf_audio_ssm import SsambaFeatureExtractor


RATE = 16000
EXTRACTOR = SsambaFeatureExtractor(max_length=12, num_mel_bins=8)

DTYPES = [
    "f2",
    "f4",
    "f8",
    ">f4",
    "i1",
    "i2",
    ">i2",
    "i4",
    "i8",
    "u1",
    "u2",
    "u4",
    "u8",
    "?",
    "c8",
    "U3",
    "O",
    "M8[s]",
    "S2",
]
LENGTHS = st.one_of(st.integers(0, 5), st.integers(390, 410), st.integers(0, 1200))
# No clips: only the shape is looked at.
HUGE = [(10**9, 1), (5 * 10**8, 2), (1000, 1000, 1000), (10**9, 0), (0, 10**9), (10**8, 70)]


@st.composite
def arrays(draw):
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(
        st.one_of(st.tuples(LENGTHS), st.tuples(st.integers(0, 4), LENGTHS), st.tuples(LENGTHS, st.integers(0, 4)))
    )
    shape = draw(st.one_of(st.just(shape), st.sampled_from([(), (2, 2, 500), (20, 20), (70, 80)])))
    generator = np.random.default_rng(draw(st.integers(0, 3)))
    scale = draw(st.sampled_from([0, 1e-30, 0.1, 1, 30000, 1e25, 1e300]))
    values = np.asarray(generator.standard_normal(shape)) * np.float64(scale)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = np.clip(values, max(limits.min, -(2.0**62)), min(limits.max, 2.0**62))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        array = (
            np.asarray(values).astype("i8").astype(dtype) if dtype.kind in "iuM" else np.asarray(values).astype(dtype)
        )
    if array.size and dtype.kind == "f" and draw(st.booleans()):
        array.flat[-1] = draw(st.sampled_from([np.nan, np.inf, -np.inf, 0.5]))
    layout = draw(st.sampled_from(["as it is", "reversed", "read-only", "strided"]))
    if array.ndim and layout in ("reversed", "strided"):
        array = array[:: -1 if layout == "reversed" else 2]
    array = np.array(array) if layout == "as it is" else np.asarray(array)
    array.flags.writeable = layout != "read-only"
    return array


def as_tensor(array):
    try:
        return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("=")))
    except TypeError:
        return array


CLIPS = st.one_of(arrays(), arrays().map(as_tensor), arrays().map(np.ndarray.tolist))
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.just(object()),
    st.dictionaries(st.sampled_from(["array", "path"]), st.lists(st.floats(width=32), max_size=3)),
    st.sampled_from([torch.zeros(3, device="meta"), torch.zeros(3).to_sparse(), range(500), iter([0.1])]),
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=2))
NESTED = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4), max_leaves=12)
INPUTS = st.one_of(CLIPS, st.lists(CLIPS, max_size=4), st.lists(st.one_of(CLIPS, ODD), max_size=3), ODD, NESTED)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "padding": st.sampled_from([True, False, "longest", "max_length", "do_not_pad", "left", None, 3]),
        "truncation": st.sampled_from([True, False, None, "longest_first"]),
        "max_length": st.sampled_from([1, 3, 12, 100, 0, -1, 16000, 10**12, "8", 2.0, None]),
        "return_tensors": st.sampled_from(["pt", "np", None, "tf", 7]),
        "return_attention_mask": st.sampled_from([True, False, None, "yes"]),
        "sampling_rate": st.sampled_from([RATE, 16000.0, 8000, 44100, 0, -1, 1, 1e12, float("nan"), "16000", [RATE]]),
        "resample": st.booleans(),
        "device": st.sampled_from([None, "cpu", "meta", "cuda:7", "toaster", 3]),
    },
)


def check_call(example):
    raw_speech, options = example
    options = {"sampling_rate": RATE, **options}
    start = time.perf_counter()
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            features = EXTRACTOR(raw_speech, **options)
    except (ValueError, TypeError) as error:
        message = str(error)
        assert "\n" not in message
        assert len(message) < 1000
        assert "`" in message
    else:
        length = options.get("max_length") or EXTRACTOR.max_length
        for values in features["input_values"]:
            values = np.asarray(values)
            assert values.dtype == np.float32
            assert values.ndim == 2
            assert values.shape[1] == 8
            assert len(values) >= 1
            assert not options.get("truncation", True) or len(values) <= length
            assert np.isfinite(values).all()
    assert time.perf_counter() - start < 20


@many_examples
def test_any_input(num_examples):
    check_examples(num_examples, check_call, st.tuples(INPUTS, OPTIONS))


@many_examples
def test_arrays_of_any_shape_and_type(num_examples):
    """No memory for what only seems to be there; values as of the same numbers in another form."""

    def check(example):
        array, as_list = example
        check_call((array, {}))
        if array.ndim == 1 and array.dtype.kind == "f" and array.size:
            one, other = (
                outcome(form) for form in (array, torch.tensor(array.astype("f8").tolist(), dtype=torch.float64))
            )
            np.testing.assert_array_equal(one, other)
            if as_list:
                np.testing.assert_array_equal(one, outcome([array]))

    check_examples(num_examples, check, st.tuples(arrays(), st.booleans()))


def outcome(clip):
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return EXTRACTOR(clip, sampling_rate=RATE, return_tensors="np").input_values
    except ValueError:
        return "refused"


@pytest.mark.parametrize("dtype", ["f4", "i2", "u1", "O", "U1"])
def test_arrays_that_claim_to_be_huge(dtype):
    for shape in HUGE:
        array = np.broadcast_to(np.zeros((), dtype), shape)
        check_call((array, {}))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(10**9,), (1, 10**9), (5 * 10**8, 2)])
def test_long_recordings_are_read_without_copies(shape):
    array = np.broadcast_to(np.int16(7), shape)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert EXTRACTOR([array], sampling_rate=RATE, return_tensors="np").input_values.shape == (1, 12, 8)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000
