# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Audio in the units, scales, types and shapes that other libraries use: right, or one line that says what was meant."""

import json
import time
import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from hf_audio_ssm import SsambaFeatureExtractor
from hf_audio_ssm.models.filter_bank import feature_extraction_ssamba as module


RATE = 16000


@pytest.fixture
def extractor():
    return SsambaFeatureExtractor(max_length=128, num_mel_bins=16)


def noise(num_samples: int, scale: float = 0.1, seed: int = 0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).standard_normal(num_samples)).astype(np.float32)


def pcm(num_samples: int, dtype=np.int16, scale: float = 0.1) -> np.ndarray:
    return (noise(num_samples, scale) * np.iinfo(dtype).max).astype(dtype)


def call(extractor, clips, **options):
    return extractor(clips, **{"sampling_rate": RATE, "return_tensors": "np", **options}).input_values


def refuse(extractor, clips, message, **options):
    with pytest.raises((ValueError, TypeError), match=message) as error:
        call(extractor, clips, **options)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


@pytest.fixture
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# An argument shared with other feature extractors in another unit


@pytest.mark.parametrize("max_length", [16000, 8000, np.int64(16000), 160000])
def test_max_length_in_samples_is_told(extractor, max_length):
    with pytest.warns(
        UserWarning, match=r"`max_length` counts frames of 10 ms, not samples.*own 128 frames"
    ) as record:
        values = call(extractor, noise(16000), max_length=max_length, truncation=True)
    assert values.shape[1] == max_length
    assert record[0].filename == __file__
    meant = 1 + (max_length - 400) // 160
    assert f"pass `max_length={meant}`" in str(record[0].message)
    assert "\n" not in str(record[0].message)


@pytest.mark.parametrize("max_length", [1, 5])
def test_max_length_in_seconds_is_told(extractor, max_length):
    meant = 100 * max_length - 2
    with pytest.warns(UserWarning, match=rf"not seconds: {max_length} frames are .* pass `max_length={meant}`"):
        assert call(extractor, noise(48000), max_length=max_length).shape[1] == max_length


@pytest.mark.usefixtures("no_warning")
def test_reasonable_max_lengths_are_not_told(extractor):
    clip = noise(16000)
    for max_length in (98, 128, 256, 512, 600):
        assert call(extractor, clip, max_length=max_length).shape[1] == max_length
    # Cut, not padded; nothing is cut; a recording as long.
    assert call(extractor, clip, max_length=16000, padding="longest").shape[1] == 98
    assert call(extractor, noise(400), max_length=2).shape[1] == 2
    assert call(extractor, noise(160 * 1000), max_length=1000).shape[1] == 1000
    # Its own length, however long.
    assert call(SsambaFeatureExtractor(max_length=16000, num_mel_bins=16), clip).shape[1] == 16000


def test_max_length_in_samples_in_place_of_the_saved(extractor, tmp_path, recwarn):
    extractor.save_pretrained(tmp_path)
    assert SsambaFeatureExtractor.from_pretrained(tmp_path, max_length=1024).max_length == 1024
    assert not recwarn
    with pytest.warns(UserWarning, match=r"not samples: 16000 frames are 160 s.*128 frames.*`max_length=98`"):
        assert SsambaFeatureExtractor.from_pretrained(tmp_path, max_length=16000).max_length == 16000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"truncation": "do_not_truncate"}, "`truncation` must be a bool, got 'do_not_truncate'"),
        ({"truncation": None}, "`truncation` must be a bool, got None"),
        ({"return_attention_mask": "yes"}, "`return_attention_mask` must be a bool, got 'yes'"),
        ({"resample": "kaiser"}, "`resample` must be a bool"),
        ({"padding": "batch_longest"}, "`padding` must be a bool or one of"),
        ({"padding": None}, "`padding` must be a bool or one of"),
        ({"max_length": "16000"}, "`max_length` must be an integer of at least 1"),
        ({"max_length": 1.0}, "`max_length` must be an integer of at least 1"),
        ({"max_length": 10**12}, r"take \d+ GB, more than half of the \d+ GB of this machine"),
        ({"sampling_rate": 16}, "`sampling_rate` is 16, but this feature extractor expects audio sampled at 16000 Hz"),
        ({"sampling_rate": np.array([16000, 16000])}, "`sampling_rate` is array"),
        ({"sampling_rate": [16000]}, r"`sampling_rate` is \[16000\]"),
        ({"sampling_rate": 1, "resample": True}, "`sampling_rate` must be 100 to 2000000 Hz to be converted, got 1"),
        ({"sampling_rate": 1e12, "resample": True}, "`sampling_rate` must be 100 to 2000000 Hz to be converted"),
        ({"device": "cuda:99"}, "`device` must name a torch device of this machine, got 'cuda:99'"),
        ({"device": "meta"}, "`device` must be one that computes, got 'meta'"),
    ],
)
def test_shared_arguments_with_other_values(extractor, arguments, message):
    refuse(extractor, noise(2000), message, **arguments)


def test_arguments_that_only_others_take(extractor):
    for argument in ("pad_to_multiple_of", "do_normalize"):
        with pytest.raises(TypeError, match=argument):
            call(extractor, noise(2000), **{argument: 1})


# Scales


@pytest.mark.parametrize(
    "form",
    [
        lambda samples: samples.tolist(),
        lambda samples: tuple(samples.tolist()),
        lambda samples: [samples.tolist()],
        lambda samples: [noise(400), samples.tolist()],
        lambda samples: [np.stack([samples, samples]).tolist()],
        lambda samples: json.loads(json.dumps(samples.tolist())),
        lambda samples: list(samples.astype(np.int64)),
        lambda samples: [int(x) for x in samples.clip(-1, 1)],
    ],
)
def test_integers_in_lists_are_refused(extractor, form):
    refuse(
        extractor,
        form(pcm(2000)),
        "is a list of integers of at most .*, whose full scale is unknown.*dtype=numpy.int16",
    )


@pytest.mark.usefixtures("no_warning")
def test_typed_integers_are_scaled_in_every_container(extractor):
    samples = pcm(2000)
    expected = call(extractor, samples)
    for form in (
        list(samples),
        [samples],
        torch.from_numpy(samples),
        list(torch.from_numpy(samples)),
        pa.array(samples),
        pa.chunked_array([samples[:900], samples[900:]]),
        pd.Series(samples),
        pd.Series(samples, dtype="Int16").to_numpy(),
        memoryview(samples).obj,
    ):
        np.testing.assert_array_equal(call(extractor, form), expected)
    assert np.isfinite(call(extractor, [0] * 2000)).all()


def test_containers_without_a_scale_are_refused(extractor):
    samples = pcm(2000)
    refuse(extractor, samples.astype(np.int64), "their own scale is unknown")
    refuse(extractor, torch.from_numpy(samples).long(), "their own scale is unknown")
    refuse(extractor, pd.Series(samples.tolist()), "their own scale is unknown")
    refuse(extractor, pa.array(samples.tolist()), "their own scale is unknown")
    refuse(extractor, pa.array([samples.tolist()] * 3), "dtype object")
    refuse(extractor, pd.Series([1, None], dtype="Int16"), "1 samples that are NaN")
    refuse(extractor, np.array([samples, samples[:9]], dtype=object), "dtype object")
    refuse(extractor, {"array": samples.tolist(), "sampling_rate": RATE}, '"array" entry')
    refuse(extractor, json.dumps(samples.tolist()), "must hold audio samples")
    refuse(extractor, samples.tobytes() * 1000, "must hold audio samples")


@pytest.mark.parametrize("dtype", [np.float32, np.float64, torch.float32])
def test_integers_cast_to_floats_are_told(extractor, dtype):
    samples = pcm(2000, scale=0.003)
    loud = torch.from_numpy(samples).to(dtype) if isinstance(dtype, torch.dtype) else samples.astype(dtype)
    for clips in (loud, [noise(2000), loud], loud.tolist()):
        with pytest.warns(UserWarning, match="root mean square is above 2; full scale is 1.*32768") as record:
            call(extractor, clips)
        assert len(record) == 1
        assert record[0].filename == __file__
    with pytest.warns(UserWarning, match="root mean square"):
        extractor.compute_mean_std([loud], sampling_rate=RATE)


@pytest.mark.usefixtures("no_warning")
def test_loud_audio_is_not_told(extractor):
    time = np.arange(RATE) / RATE
    for clip in (
        np.sign(np.sin(time * 600)),
        1.9 * np.sin(time * 600),
        noise(RATE, scale=1.0),
        0.5 + noise(RATE) + 100,
    ):
        call(extractor, clip)


# Shapes


def memory_of(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


HUGE = {
    "samples first": lambda: np.broadcast_to(np.float32(0.1), (10**9, 1)),
    "stereo": lambda: np.broadcast_to(np.float32(0.1), (5 * 10**8, 2)),
    "stereo of integers": lambda: np.broadcast_to(np.int16(7), (5 * 10**8, 2)),
    "tensor": lambda: torch.tensor(0.1).expand(5 * 10**8, 2),
    "picture": lambda: np.broadcast_to(np.uint8(9), (20000, 20000, 3)),
    "picture in a list": lambda: [np.broadcast_to(np.uint8(9), (30000, 33000))],
    "square": lambda: [np.broadcast_to(0.1, (31623, 31623))],
    "channels first": lambda: [noise(400), np.broadcast_to(0.1, (2, 2, 10**8))],
    "last of many": lambda: [noise(400)] * 1000 + [np.broadcast_to(0.1, (10, 10, 10**7))],
    "objects": lambda: np.broadcast_to(np.array(None), (10**9,)),
    "strings": lambda: np.broadcast_to(np.array("a"), (10**9,)),
    "complex": lambda: np.broadcast_to(np.complex64(1), (10**9,)),
    "empty": lambda: np.zeros((10**9, 0), np.float32),
    "more than memory": lambda: np.broadcast_to(np.float32(0.1), (10**8, 70)),
}


@pytest.mark.parametrize("case", HUGE)
def test_shapes_are_refused_before_work(extractor, case):
    clips = HUGE[case]()
    start = time.perf_counter()
    assert memory_of(lambda: refuse(extractor, clips, "raw_speech")) < 2**20
    assert time.perf_counter() - start < 2


def test_batches_beyond_memory(extractor, monkeypatch):
    monkeypatch.setattr(module, "MEMORY", 24e9)
    picture = np.broadcast_to(np.float32(0.1), (31623, 31623))
    refuse(
        SsambaFeatureExtractor(), picture, "31623 clips of 1024 frames take 21 GB.*pass fewer clips in `raw_speech`"
    )
    many = np.broadcast_to(np.float32(0.1), (10**8, 70))
    refuse(extractor, many, "100000000 clips of 1 frames take", padding="longest")
    assert call(extractor, picture[:2]).shape == (2, 128, 16)


def test_an_array_like_is_refused_by_its_shape(extractor):
    class Lazy:
        shape, ndim = (10**9, 2), 2

        def __array__(self, *args, **kwargs):
            raise AssertionError("read")

        def __len__(self):
            return self.shape[0]

    refuse(extractor, Lazy(), "reads as 1000000000 clips of 2 samples; a multi-channel clip belongs in a list")


@pytest.mark.parametrize("form", [np.asarray, torch.from_numpy, np.ndarray.tolist, list, tuple])
def test_stereo_with_samples_first(extractor, form):
    refuse(extractor, form(np.stack([noise(1000)] * 2, axis=1)), "a multi-channel clip belongs in a list")


def test_shapes_that_look_alike(extractor):
    assert call(extractor, np.stack([noise(1000)] * 2)).shape[0] == 2
    assert call(extractor, [np.stack([noise(1000)] * 2, axis=1)]).shape[0] == 1
    assert call(extractor, [np.stack([noise(9)] * 2, axis=1)] * 500, padding=True).shape == (500, 1, 16)
    assert call(extractor, [noise(9), noise(8)] * 300, padding=True).shape[0] == 600
    assert call(extractor, [[[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]] * 500, padding=True).shape[0] == 500
    refuse(extractor, [noise(400), [[0.1, 0.2], [0.1]]], r"`raw_speech\[1\]` must be an array of numbers")
    nested = []
    nested.append(nested)
    refuse(extractor, nested, "raw_speech")


def test_tensors_without_values(extractor):
    refuse(extractor, torch.zeros(1000, device="meta"), "must be a dense tensor, got a tensor without data")
    refuse(extractor, torch.zeros(1000).to_sparse(), "must be a dense tensor, got a tensor of layout torch.sparse_coo")


@pytest.mark.parametrize("truncation", [True, False])
@pytest.mark.parametrize("shape", [(10000,), (2, 10000), (10000, 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_long_clips_are_read_in_pieces(extractor, truncation, shape, dtype, monkeypatch):
    clip = noise(20000)[: np.prod(shape)].reshape(shape)
    clip = pcm(20000)[: np.prod(shape)].reshape(shape) if dtype is np.int16 else clip.astype(dtype)
    options = {"truncation": truncation, "padding": "longest", "max_length": 20}
    expected = call(extractor, [clip], **options)
    monkeypatch.setattr(module, "LONG_CLIP_SAMPLES", 100)
    monkeypatch.setattr(module, "PIECE_SAMPLES", 999)
    for form in (clip, torch.from_numpy(clip), clip[::-1][::-1]):
        np.testing.assert_allclose(call(extractor, [form], **options), expected, atol=2e-4)
    bad = clip.astype(np.float32).copy()
    bad[..., -1] = np.nan
    refuse(extractor, [bad], r"`raw_speech\[0\]` holds \d+ samples that are NaN or infinite", **options)


def test_memory_follows_what_is_used(extractor):
    clip = np.broadcast_to(np.float64(0.1), (3 * 10**7,))
    assert memory_of(lambda: call(extractor, clip)) < 100 * 2**20


# Settings


@pytest.mark.parametrize(
    "settings",
    [
        {"sampling_rate": 10**9},
        {"sampling_rate": True},
        {"num_mel_bins": 10**9},
        {"num_mel_bins": "128"},
        {"max_length": 1e3},
        {"mean": float("nan")},
        {"mean": 10**400},
        {"mean": None},
        {"std": 0},
        {"std": True},
        {"padding_value": float("inf")},
        {"padding_value": "0"},
        {"feature_size": 0},
        {"padding_side": "centre"},
        {"do_normalize": "false"},
        {"return_attention_mask": 2},
        {"mel_filters": [1.0]},
        {"window": "hann"},
        {"normalize": "x"},
        {"__class__": "x"},
    ],
)
def test_settings_out_of_range_are_named(settings, tmp_path):
    (name,) = settings
    SsambaFeatureExtractor().save_pretrained(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    for make in (lambda: SsambaFeatureExtractor(**settings), lambda: SsambaFeatureExtractor.from_pretrained(tmp_path)):
        with pytest.raises(ValueError, match=f"`{name}`") as error:
            make()
        assert "\n" not in str(error.value)


def test_a_configuration_that_is_no_mapping():
    with pytest.raises(ValueError, match="must be a mapping, got list"):
        SsambaFeatureExtractor.from_dict([1, 2])
