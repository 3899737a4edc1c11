# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
import copy
import json
import math
import pickle
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.numpy import load_file
from transformers import ASTFeatureExtractor, AutoFeatureExtractor, BatchFeature
from transformers.utils import PaddingStrategy

import hf_audio_ssm  # noqa: F401  (registers with the Auto classes)
from hf_audio_ssm.models.filter_bank import feature_extraction_ssamba
from hf_audio_ssm.models.filter_bank import kaldi_filter_bank as filter_banks
from hf_audio_ssm.models.filter_bank.feature_extraction_ssamba import NORMALIZATION_PRESETS, SsambaFeatureExtractor


GOLDEN = Path(__file__).parents[2] / "fixtures" / "golden" / "fbank"
GOLDEN_NAMES = ["short_noise", "silence", "speech_espeak", "speech_slt", "sweep_dc"]
SAMPLING_RATE = 16000
MEL_FLOOR_LOG = math.log(1.1920928955078125e-07)
MODULE_LOGGER = feature_extraction_ssamba.logger


@pytest.fixture(scope="module")
def expected():
    return load_file(GOLDEN / "expected.safetensors")


def noise(num_samples, seed=0, scale=0.1):
    return (scale * np.random.default_rng(seed).standard_normal(num_samples)).astype(np.float32)


def extract(raw_speech, extractor=None, **kwargs):
    extractor = SsambaFeatureExtractor() if extractor is None else extractor
    return extractor(raw_speech, **{"sampling_rate": SAMPLING_RATE, "return_tensors": "np", **kwargs}).input_values


def kaldi_filter_bank(waveform, sampling_rate=SAMPLING_RATE, num_mel_bins=128):
    """The definition, in float64 and without any of the implementation's code: (frames, mel bins)."""
    length, shift = sampling_rate * 25 // 1000, sampling_rate * 10 // 1000
    size = 2 ** math.ceil(math.log2(length))
    waveform = waveform.astype(np.float64) - waveform.astype(np.float64).mean()
    frames = np.lib.stride_tricks.sliding_window_view(waveform, length)[::shift]
    frames = frames - frames.mean(axis=1, keepdims=True)
    frames = frames - 0.97 * np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    power = np.abs(np.fft.rfft(frames * np.hanning(length), size)) ** 2

    def mel(frequency):
        return 1127.0 * np.log1p(np.asarray(frequency) / 700.0)

    edges = np.linspace(mel(20.0), mel(sampling_rate / 2), num_mel_bins + 2)
    bins = mel(np.arange(size // 2 + 1) * sampling_rate / size)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.log(np.maximum(power @ np.maximum(0, np.minimum(rising, falling)), 1.1920928955078125e-07))


def assert_same_filter_bank(actual, expected):
    """
    Within 1e-3, in (frames, mel bins), or within what the rounding of float32's FFT is of the frame's loudest value (-110 dB):
    FFT libraries round differently from processor to processor, which is heard where a loud tone leaves nothing else.
    """
    assert actual.shape == expected.shape
    actual, expected = np.exp(actual.astype(np.float64)), np.exp(expected.astype(np.float64))
    assert (np.abs(actual - expected) <= 1e-3 * expected + 1e-11 * expected.max(axis=1, keepdims=True)).all()


# What the original computes


@pytest.mark.parametrize("name", GOLDEN_NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "int32"])
def test_filter_bank_matches_the_original(name, dtype, expected):
    waveform, rate = soundfile.read(GOLDEN / f"{name}.wav", dtype=dtype)
    extractor = SsambaFeatureExtractor(do_normalize=False, max_length=2000)
    features = extract(waveform, extractor, sampling_rate=rate, padding=False)[0]
    assert features.dtype == np.float32
    assert_same_filter_bank(features, expected[f"{name}.fbank"])


@pytest.mark.parametrize("name", ["speech_espeak", "sweep_dc"])
def test_input_values_match_the_original(name, expected):
    waveform, rate = soundfile.read(GOLDEN / f"{name}.wav", dtype="float32")
    features = extract(waveform, sampling_rate=rate)
    assert features.shape == (1, 1024, 128)
    mean, std = (NORMALIZATION_PRESETS["audioset"][key] for key in ("mean", "std"))
    assert_same_filter_bank(*(2 * std * values + mean for values in (features[0], expected[f"{name}.input_values"])))


@pytest.mark.parametrize("num_samples", [400, 559, 560, 16000, 163840 + 400])
def test_agrees_with_ast_feature_extractor(num_samples):
    waveform = noise(num_samples)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="At least one mel filter has all zero values")
        reference = ASTFeatureExtractor()
    centred = waveform - waveform.mean()
    reference = reference(centred, sampling_rate=SAMPLING_RATE, return_tensors="np").input_values
    np.testing.assert_allclose(extract(waveform), reference, rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    ("sampling_rate", "num_mel_bins"), [(8000, 64), (11025, 40), (16000, 20), (22050, 128), (44100, 512), (48000, 128)]
)
def test_other_rates_and_numbers_of_mel_bins(sampling_rate, num_mel_bins):
    extractor = SsambaFeatureExtractor(
        sampling_rate=sampling_rate, num_mel_bins=num_mel_bins, do_normalize=False, max_length=10000
    )
    waveform = noise(sampling_rate)
    features = extract(waveform, extractor, sampling_rate=sampling_rate, padding=False)[0]
    assert_same_filter_bank(features, kaldi_filter_bank(waveform, sampling_rate, num_mel_bins))


def test_blocks_do_not_show(monkeypatch):
    waveform = torch.from_numpy(noise(160 * 2000))
    lengths, blocks = [], []
    for start, block in filter_banks.log_mel_blocks(waveform[None], SAMPLING_RATE, 128):
        assert start == sum(lengths)
        lengths.append(block.shape[1])
        blocks.append(block.clone())
    assert max(lengths) == filter_banks.CPU_BLOCK_FRAMES < sum(lengths) == 1998
    monkeypatch.setattr(filter_banks, "CPU_BLOCK_FRAMES", 5000)
    ((start, whole),) = filter_banks.log_mel_blocks(waveform[None], SAMPLING_RATE, 128)
    torch.testing.assert_close(torch.cat(blocks, dim=1), whole, rtol=0, atol=1e-5)
    np.testing.assert_allclose(whole[0].numpy(), kaldi_filter_bank(waveform.numpy()), rtol=0, atol=5e-3)


def test_silence_gives_the_floor():
    features = extract(np.zeros(16000), SsambaFeatureExtractor(do_normalize=False), padding=False)
    np.testing.assert_allclose(features, np.full((1, 98, 128), MEL_FLOOR_LOG), rtol=1e-6)
    features = extract(np.zeros(16000))
    np.testing.assert_allclose(features[0, :98], (MEL_FLOOR_LOG + 4.2677393) / (2 * 4.5689974), rtol=1e-5)


def test_padding_comes_before_normalisation():
    features = extract(noise(16000))
    assert features.shape == (1, 1024, 128)
    np.testing.assert_allclose(features[0, 98:], 4.2677393 / (2 * 4.5689974), rtol=1e-6)
    features = extract(noise(16000), SsambaFeatureExtractor(do_normalize=False, padding_value=-3.0))
    assert (features[0, 98:] == -3.0).all()


# Input in all its forms


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble, ">f4", ">f8"])
def test_numpy_floats_are_taken_as_they_are(dtype):
    waveform = noise(8000).astype(np.float16)
    np.testing.assert_array_equal(extract(waveform.astype(dtype)), extract(waveform.astype(np.float32)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_torch_floats_are_taken_as_they_are(dtype):
    waveform = torch.from_numpy(noise(8000)).to(torch.bfloat16).to(torch.float16).to(dtype)
    features = extract(waveform, return_tensors="pt")
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, extract(waveform.float(), return_tensors="pt"), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", ["int8", "int16", ">i2", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_integers_are_scaled_by_their_full_scale(dtype, as_tensor):
    waveform = np.round(noise(8000) * 127).clip(-128, 127)
    info = np.iinfo(dtype)
    scale = (int(info.max) + 1) // (256 if info.min == 0 else 128)
    offset = 128 if info.min == 0 else 0
    samples = ((waveform + offset).astype(np.int64).astype(object) * scale).astype(dtype)
    if as_tensor:
        samples = torch.from_numpy(samples.astype(samples.dtype.newbyteorder("=")))
    np.testing.assert_allclose(extract(samples), extract((waveform / 128).astype(np.float32)), rtol=0, atol=1e-4)


def test_narrow_samples_in_64_bits_are_refused():
    with pytest.raises(ValueError, match=r"`raw_speech` holds torch.int64 samples of at most 1000.*int16"):
        extract(np.full(16000, 1000, dtype=np.int64))
    assert np.isfinite(extract(np.zeros(16000, dtype=np.int64))).all()


@pytest.mark.filterwarnings("ignore:.*root mean square:UserWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_multi_channel_clips_are_averaged(dtype):
    channels = np.stack([noise(8000, seed) * 1000 for seed in range(3)]).astype(dtype)
    scale = 32768 if dtype is np.int16 else 1
    mono = (channels.astype(np.float64) / scale).mean(axis=0)
    expected = extract(mono)
    for clip in (channels, channels.T, torch.from_numpy(channels), torch.from_numpy(channels).T):
        np.testing.assert_allclose(extract([clip]), expected, rtol=0, atol=1e-3)
    np.testing.assert_array_equal(extract([channels[:1]]), extract([channels[:1].T]))


def test_forms_of_a_batch_agree():
    batch = np.stack([noise(2000, seed) for seed in range(3)])
    expected = np.concatenate([extract(clip) for clip in batch])
    forms = [
        batch,
        batch.tolist(),
        list(batch),
        tuple(batch),
        torch.from_numpy(batch),
        list(torch.from_numpy(batch)),
        [batch[0], torch.from_numpy(batch[1]), batch[2].tolist()],
        np.asfortranarray(batch),
        batch[:, ::-1].copy()[:, ::-1],
    ]
    for form in forms:
        np.testing.assert_array_equal(extract(form), expected)


def test_forms_of_one_clip_agree():
    clip = noise(2000)
    for form in (
        clip,
        clip.tolist(),
        tuple(clip.tolist()),
        list(clip),
        list(torch.from_numpy(clip)),
        [clip],
        clip[None],
    ):
        np.testing.assert_array_equal(extract(form), extract(torch.from_numpy(clip)))


def test_input_stays_unchanged():
    clip = noise(2000)
    clip.flags.writeable = False
    tensor = torch.from_numpy(clip.copy()).requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        features = extract(clip)
        assert not extract(tensor, return_tensors="pt").requires_grad
    np.testing.assert_array_equal(tensor.detach().numpy(), clip)
    assert features.flags.writeable


def test_clips_do_not_depend_on_their_batch():
    clips = [noise(n, seed) for seed, n in enumerate([400, 4000, 100000, 200000, 16001])]
    together = extract(clips)
    for clip, features in zip(clips, together, strict=True):
        np.testing.assert_array_equal(extract(clip)[0], features)


def test_number_of_threads_and_global_settings_do_not_matter():
    clip = noise(50000)
    expected = extract(clip, return_tensors="pt")
    threads, default_dtype = torch.get_num_threads(), torch.get_default_dtype()
    try:
        torch.set_num_threads(3 - min(threads, 2))
        torch.set_default_dtype(torch.float64)
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16), torch.device("meta"):
            features = extract(clip, return_tensors="pt")
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(default_dtype)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-5)


def test_first_use_in_inference_mode_leaves_usable_constants():
    filter_banks._front_end_tensors.cache_clear()
    with torch.inference_mode():
        extract(noise(1000))
    window, bands = filter_banks._front_end_tensors(SAMPLING_RATE, 128, torch.device("cpu"))
    assert not window.is_inference()
    assert not any(weights.is_inference() for _, _, weights in bands)


# Options of a call


@pytest.mark.parametrize("padding", ["longest", True, PaddingStrategy.LONGEST])
def test_padding_to_the_longest(padding):
    features = SsambaFeatureExtractor()(
        [noise(2000), noise(5000)],
        sampling_rate=SAMPLING_RATE,
        padding=padding,
        return_tensors="np",
        return_attention_mask=True,
    )
    assert features.input_values.shape == (2, 29, 128)
    assert features.attention_mask.dtype == np.int32
    assert features.attention_mask.tolist() == [[1] * 11 + [0] * 18, [1] * 29]
    np.testing.assert_array_equal(features.input_values[0], extract(noise(2000), max_length=29)[0])


@pytest.mark.parametrize("padding", ["do_not_pad", False])
def test_no_padding(padding):
    assert extract([noise(2000), noise(2001)], padding=padding).shape == (2, 11, 128)
    ragged = extract([noise(2000), noise(5000)], padding=padding, return_tensors=None)
    assert [clip.shape for clip in ragged] == [(11, 128), (29, 128)]
    with pytest.raises(ValueError, match=r"`padding=.*` leaves clips of 11 to 29 frames"):
        extract([noise(2000), noise(5000)], padding=padding)


def test_truncation():
    clips = [noise(2000), noise(20000)]
    np.testing.assert_array_equal(extract(clips, max_length=20)[1], extract(clips, max_length=200)[1, :20])
    assert extract(clips, max_length=20, padding="longest").shape == (2, 20, 128)
    assert extract(clips, max_length=20, padding="longest", truncation=False).shape == (2, 123, 128)
    with pytest.raises(ValueError, match=r"`raw_speech\[1\]` has 123 frames, more than `max_length` \(20\)"):
        extract(clips, max_length=20, truncation=False)


def test_padding_on_the_left():
    clips = [noise(2000), noise(5000)]
    features = SsambaFeatureExtractor(padding_side="left", return_attention_mask=True)(
        clips, sampling_rate=SAMPLING_RATE, padding=True, return_tensors="np"
    )
    assert features.attention_mask.tolist() == [[0] * 18 + [1] * 11, [1] * 29]
    np.testing.assert_array_equal(features.input_values[0, 18:], extract(clips, padding=True)[0, :11])


@pytest.mark.parametrize("num_frames", [5, 12])
@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("do_normalize", [True, False])
def test_the_steps_of_a_call(num_frames, padding_side, do_normalize):
    extractor = SsambaFeatureExtractor(
        max_length=8, padding_value=-3.5, padding_side=padding_side, do_normalize=do_normalize
    )
    clip = noise(400 + 160 * (num_frames - 1))
    raw = extract(clip, SsambaFeatureExtractor(do_normalize=False), padding=False, truncation=False)[0]
    before = raw.copy()
    values = extractor.normalize(extractor.pad_frames(extractor.crop(raw)))
    assert np.array_equal(values, extract(clip, extractor)[0])
    assert np.array_equal(raw, before)
    assert extractor.normalized_padding == pytest.approx(
        (-3.5 - extractor.mean) / (2 * extractor.std) if do_normalize else -3.5
    )
    if num_frames < 8:
        assert (values == np.float32(extractor.normalized_padding)).all(axis=1).sum() == 3


def test_a_drawn_crop():
    extractor = SsambaFeatureExtractor(max_length=8)
    bank = np.arange(12 * 128, dtype=np.float32).reshape(12, 128)
    starts = {int(extractor.crop(bank, np.random.default_rng(seed))[0, 0]) // 128 for seed in range(40)}
    assert starts == set(range(5))
    assert np.array_equal(extractor.crop(bank), bank[:8])
    assert np.array_equal(extractor.crop(bank[:3], np.random.default_rng(0)), bank[:3])


def test_attention_mask_follows_setting_and_call():
    clip = noise(2000)
    call = {"sampling_rate": SAMPLING_RATE, "return_tensors": "pt"}
    assert list(SsambaFeatureExtractor()(clip, **call)) == ["input_values"]
    with_mask = SsambaFeatureExtractor(return_attention_mask=True)
    mask = with_mask(clip, **call).attention_mask
    assert mask.shape == (1, 1024)
    assert mask.sum() == 11
    assert "attention_mask" not in with_mask(clip, return_attention_mask=False, **call)


def test_kinds_of_returned_values():
    clips = [noise(2000), noise(5000)]
    extractor = SsambaFeatureExtractor(return_attention_mask=True)
    lists = extractor(clips, sampling_rate=SAMPLING_RATE)
    arrays = extractor(clips, sampling_rate=SAMPLING_RATE, return_tensors="np")
    tensors = extractor(clips, sampling_rate=SAMPLING_RATE, return_tensors="pt")
    for key in ("input_values", "attention_mask"):
        assert isinstance(lists[key], list)
        assert all(isinstance(row, np.ndarray) for row in lists[key])
        assert isinstance(arrays[key], np.ndarray)
        assert isinstance(tensors[key], torch.Tensor)
        np.testing.assert_array_equal(np.stack(lists[key]), arrays[key])
        np.testing.assert_array_equal(tensors[key].numpy(), arrays[key])


def test_resampling():
    seconds = np.arange(3 * 8000) / 8000
    tone = (0.3 * np.sin(2 * np.pi * 440 * seconds)).astype(np.float32)
    seconds = np.arange(3 * 16000) / 16000
    expected = extract((0.3 * np.sin(2 * np.pi * 440 * seconds)).astype(np.float32), padding=False)
    features = extract(tone, sampling_rate=8000, resample=True, padding=False)
    assert features.shape == expected.shape
    loud = expected > 0.0
    assert loud.sum() > 500
    np.testing.assert_allclose(features[loud], expected[loud], rtol=0, atol=0.02)
    stereo = np.stack([tone, tone], axis=1)
    np.testing.assert_array_equal(extract([stereo], sampling_rate=8000, resample=True, padding=False), features)
    np.testing.assert_array_equal(extract(tone, resample=True), extract(tone))


def test_resampling_without_soxr(monkeypatch):
    monkeypatch.setitem(sys.modules, "soxr", None)
    with pytest.raises(ImportError, match="`resample=True` needs the soxr package"):
        extract(noise(8000), sampling_rate=8000, resample=True)
    assert extract(noise(8000), resample=True).shape == (1, 1024, 128)


def test_missing_sampling_rate_gives_a_warning(monkeypatch):
    messages = []
    monkeypatch.setattr(MODULE_LOGGER, "warning", messages.append)
    extract(noise(2000))
    assert not messages
    extract(noise(2000), sampling_rate=None)
    assert "strongly recommended to pass the `sampling_rate`" in messages[0]


def test_an_hour_stays_whole():
    hour = np.zeros(3600 * 1600, dtype=np.float32)
    extractor = SsambaFeatureExtractor(sampling_rate=1600, num_mel_bins=8)
    features = extract(hour, extractor, sampling_rate=1600, padding=True, truncation=False)
    assert features.shape == (1, 359998, 8)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("matmul_precision", ["highest", "high"])
def test_cuda_agrees_with_the_cpu(matmul_precision):
    clips = [noise(n, seed) for seed, n in enumerate([400, 4000, 100000, 200000])]
    expected = extract(clips, return_tensors="pt")
    torch.set_float32_matmul_precision(matmul_precision)
    try:
        features = extract(clips, return_tensors="pt", device="cuda")
        on_device = extract([torch.from_numpy(clip).cuda() for clip in clips], return_tensors="pt")
    finally:
        torch.set_float32_matmul_precision("highest")
    assert features.device.type == on_device.device.type == "cuda"
    torch.testing.assert_close(features.cpu(), expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(on_device, features, rtol=0, atol=0)
    assert isinstance(extract(clips, device="cuda"), np.ndarray)


# Bad input

BAD_INPUTS = {
    "none": (None, TypeError, "`raw_speech` must be a NumPy array"),
    "number": (0.5, TypeError, "`raw_speech` must be a NumPy array.*got float 0.5"),
    "path": ("speech.wav", TypeError, "`raw_speech` must hold audio samples.*load_audio"),
    "pathlib": (Path("speech.wav"), TypeError, "load_audio"),
    "bytes": (b"RIFF", TypeError, "load_audio"),
    "list of paths": (["a.wav", "b.wav"], TypeError, r"`raw_speech\[0\]` must hold audio samples.*load_audio"),
    "dict": ({"array": noise(400), "sampling_rate": 16000}, TypeError, '"array" entry'),
    "list of dicts": ([{"array": noise(400)}], TypeError, r'`raw_speech\[0\]`.*"array" entry'),
    "generator": ((x for x in [0.0]), TypeError, "got generator"),
    "empty list": ([], ValueError, "`raw_speech` is an empty list"),
    "empty array": (np.zeros(0), ValueError, "`raw_speech` is empty"),
    "empty tensor": (torch.zeros(0), ValueError, "`raw_speech` is empty"),
    "empty clip": ([noise(400), []], ValueError, r"`raw_speech\[1\]` is empty"),
    "empty batch": (np.zeros((0, 16000)), ValueError, "`raw_speech` is an empty batch"),
    "batch of empty clips": (np.zeros((2, 0)), ValueError, r"`raw_speech\[0\]` is empty"),
    "0-d": (np.array(0.5), ValueError, "`raw_speech` has 0 dimensions"),
    "0-d tensor": (torch.tensor(0.5), ValueError, "`raw_speech` has 0 dimensions"),
    "0-d clip": ([noise(400), np.array(0.5)], ValueError, r"`raw_speech\[1\]` has 0 dimensions"),
    "3-D": (np.zeros((2, 2, 16000)), ValueError, r"`raw_speech` has 3 dimensions, shape \(2, 2, 16000\)"),
    "3-D tensor": (torch.zeros(2, 2, 16000), ValueError, "`raw_speech` has 3 dimensions"),
    "3-D clip": ([np.zeros((2, 2, 16000))], ValueError, r"`raw_speech\[0\]` has 3 dimensions"),
    "square clip": ([np.zeros((500, 500))], ValueError, r"`raw_speech\[0\]` has shape \(500, 500\)"),
    "samples first": (np.zeros((16000, 2)), ValueError, "a multi-channel clip belongs in a list"),
    "nan": (np.where(np.arange(16000) == 7, np.nan, 0.1), ValueError, "`raw_speech` holds 1 samples that are NaN"),
    "inf": ([noise(400), np.full(400, np.inf)], ValueError, r"`raw_speech\[1\]` holds 400 samples that are NaN"),
    "both infinities": (np.tile([np.inf, -np.inf], 500), ValueError, "1000 samples that are NaN or infinite"),
    "beyond float32": (np.full(16000, 1e300), ValueError, "NaN or infinite"),
    "overflowing sum": (np.full(16000, 3e38), ValueError, "samples too large for float32 sums"),
    "overflowing power": ([noise(400), noise(400) * 1e30], ValueError, r"`raw_speech\[1\]` holds samples too large"),
    "complex": (np.zeros(16000, dtype=np.complex64), TypeError, "real floats or integers.*complex64"),
    "complex tensor": (torch.zeros(16000, dtype=torch.complex64), TypeError, "complex64"),
    "bool": (np.zeros(16000, dtype=bool), TypeError, "got values of dtype bool"),
    "bool tensor": (torch.zeros(16000, dtype=torch.bool), TypeError, "torch.bool"),
    "strings": (np.array(["a", "b"]), TypeError, "real floats or integers"),
    "objects": (np.array([None, 1.0]), TypeError, "dtype object"),
    "list with none": ([0.1, None], TypeError, "dtype object"),
    "list of none": ([None, None], TypeError, "dtype object"),
    "ragged clip": ([[[0.1, 0.2], [0.1]]], ValueError, r"`raw_speech\[0\]` must be an array of numbers"),
}


@pytest.mark.filterwarnings("ignore:.*root mean square:UserWarning")
@pytest.mark.parametrize("case", BAD_INPUTS)
def test_bad_audio(case):
    raw_speech, error, message = BAD_INPUTS[case]
    with pytest.raises(error, match=message):
        extract(raw_speech)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sampling_rate": 8000}, "`sampling_rate` is 8000.*expects audio sampled at 16000 Hz.*resample=True"),
        ({"sampling_rate": "16000"}, "`sampling_rate` is '16000'"),
        ({"sampling_rate": None, "resample": True}, "`resample=True` needs `sampling_rate`"),
        ({"sampling_rate": 0, "resample": True}, "`sampling_rate` must be a finite positive number, got 0"),
        ({"max_length": 0}, "`max_length` must be an integer of at least 1, got 0"),
        ({"max_length": -5}, "`max_length`"),
        ({"max_length": 10.5}, "`max_length`"),
        ({"max_length": True}, "`max_length`"),
        (
            {"padding": "left"},
            r"`padding` must be a bool or one of \['longest', 'max_length', 'do_not_pad'\], got 'left'",
        ),
        ({"padding": 3}, "`padding`"),
        ({"return_tensors": "tf"}, '`return_tensors` must be "pt", "np" or None, got \'tf\''),
        ({"device": "toaster"}, "`device` must name a torch device of this machine, got 'toaster'"),
    ],
)
def test_bad_arguments_of_a_call(arguments, message):
    with pytest.raises(ValueError, match=message):
        extract(noise(2000), **arguments)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sampling_rate", 0),
        ("sampling_rate", 99),
        ("sampling_rate", "16000"),
        ("num_mel_bins", 0),
        ("num_mel_bins", 12.5),
        ("max_length", 0),
        ("max_length", None),
        ("mean", math.nan),
        ("mean", "0"),
        ("std", 0.0),
        ("std", -1.0),
        ("std", math.inf),
    ],
)
def test_bad_settings(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be .*, got {value!r}"):
        SsambaFeatureExtractor(**{name: value})


# Data sets


@pytest.mark.parametrize("name", NORMALIZATION_PRESETS)
def test_presets(name):
    extractor = SsambaFeatureExtractor.from_preset(name)
    for key, value in NORMALIZATION_PRESETS[name].items():
        assert getattr(extractor, key) == value
    extractor = SsambaFeatureExtractor.from_preset(name, max_length=64, return_attention_mask=True)
    assert (extractor.max_length, extractor.return_attention_mask) == (64, True)


def test_default_is_the_audioset_preset():
    assert SsambaFeatureExtractor().to_dict() == SsambaFeatureExtractor.from_preset("audioset").to_dict()


def test_unknown_preset():
    with pytest.raises(ValueError, match="`name` must be one of .*'esc50'.*, got 'esc'"):
        SsambaFeatureExtractor.from_preset("esc")


@pytest.mark.parametrize("include_padding", [False, True])
def test_mean_and_std_of_a_data_set(include_padding):
    clips = [noise(n, seed, scale=0.02 * (seed + 1)) for seed, n in enumerate([1000, 20000, 30000, 8000])]
    extractor = SsambaFeatureExtractor(max_length=100, mean=3.0, std=2.0)
    mean, std = extractor.compute_mean_std(
        (clip for clip in clips), sampling_rate=SAMPLING_RATE, include_padding=include_padding
    )
    plain = SsambaFeatureExtractor(max_length=100, do_normalize=False)
    if include_padding:
        values = extract(clips, plain).astype(np.float64).ravel()
    else:
        values = np.concatenate([extract(clip, plain, padding=False).ravel() for clip in clips]).astype(np.float64)
    assert mean == pytest.approx(values.mean(), rel=1e-9)
    assert std == pytest.approx(values.std(), rel=1e-9)
    assert (extractor.mean, extractor.std) == (3.0, 2.0)


def test_computed_mean_and_std_normalise_the_data_set():
    clips = [noise(20000, seed) for seed in range(3)]
    extractor = SsambaFeatureExtractor()
    mean, std = extractor.compute_mean_std(clips, sampling_rate=SAMPLING_RATE)
    values = extract(clips, SsambaFeatureExtractor(mean=mean, std=std), padding=False)
    assert values.mean() == pytest.approx(0.0, abs=1e-5)
    assert values.std() == pytest.approx(0.5, rel=1e-5)


def test_mean_and_std_take_what_a_call_takes():
    clip = noise(16000)
    extractor = SsambaFeatureExtractor()
    expected = extractor.compute_mean_std([clip], sampling_rate=SAMPLING_RATE)
    stereo = [torch.from_numpy(np.stack([clip, clip]))]
    assert extractor.compute_mean_std(stereo, sampling_rate=SAMPLING_RATE) == pytest.approx(expected, rel=1e-6)
    resampled = extractor.compute_mean_std([noise(8000)], sampling_rate=8000, resample=True)
    assert resampled != pytest.approx(expected, rel=1e-6)


def test_mean_and_std_refuse_bad_input():
    extractor = SsambaFeatureExtractor()
    with pytest.raises(ValueError, match="`clips` holds no clip"):
        extractor.compute_mean_std([], sampling_rate=SAMPLING_RATE)
    with pytest.raises(ValueError, match=r"`clips\[1\]` is empty"):
        extractor.compute_mean_std([noise(400), noise(0)], sampling_rate=SAMPLING_RATE)
    with pytest.raises(ValueError, match="`sampling_rate` is 8000"):
        extractor.compute_mean_std([noise(400)], sampling_rate=8000)
    with pytest.raises(TypeError, match=r"`clips\[0\]`.*load_audio"):
        extractor.compute_mean_std(["a.wav"], sampling_rate=SAMPLING_RATE)


# Saving, copying, workers

SETTINGS = {
    "feature_size": 1,
    "sampling_rate": 8000,
    "num_mel_bins": 64,
    "max_length": 77,
    "padding_value": -1.0,
    "do_normalize": False,
    "mean": -6.6268077,
    "std": 5.358466,
    "return_attention_mask": True,
}


def test_to_json_string_holds_the_settings_only():
    extractor = SsambaFeatureExtractor(**SETTINGS)
    extract(noise(2000), extractor, sampling_rate=8000)
    content = json.loads(extractor.to_json_string())
    assert content == {
        **SETTINGS,
        "feature_extractor_type": "SsambaFeatureExtractor",
        "padding_side": "right",
    }


@pytest.mark.parametrize("load", [SsambaFeatureExtractor, AutoFeatureExtractor])
def test_save_and_load(load, tmp_path):
    first = SsambaFeatureExtractor(**SETTINGS)
    saved = first.save_pretrained(tmp_path)[0]
    second = load.from_pretrained(tmp_path)
    assert type(second) is SsambaFeatureExtractor
    assert second.to_dict() == first.to_dict()
    again = second.save_pretrained(tmp_path / "again")[0]
    assert Path(again).read_text() == Path(saved).read_text()
    changed = load.from_pretrained(tmp_path, num_mel_bins=32)
    assert extract(noise(2000), changed, sampling_rate=8000).shape == (1, 77, 32)


def test_json_file_round_trip(tmp_path):
    first = SsambaFeatureExtractor(**SETTINGS)
    first.to_json_file(tmp_path / "feature_extractor.json")
    assert SsambaFeatureExtractor.from_json_file(tmp_path / "feature_extractor.json").to_dict() == first.to_dict()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_copies_compute_the_same(duplicate):
    extractor = SsambaFeatureExtractor(max_length=50)
    features = extract(noise(2000), extractor)
    np.testing.assert_array_equal(extract(noise(2000), duplicate(extractor)), features)


def test_data_loader_workers():
    extractor = SsambaFeatureExtractor(max_length=50)
    clips = [noise(2000, seed) for seed in range(4)]

    def collate(batch):
        return extractor(batch, sampling_rate=SAMPLING_RATE, return_tensors="pt").input_values

    loader = torch.utils.data.DataLoader(clips, batch_size=2, num_workers=2, collate_fn=collate)
    np.testing.assert_allclose(torch.cat(list(loader)).numpy(), extract(clips, extractor), rtol=0, atol=1e-6)


def test_window_and_mel_filters_follow_the_settings():
    extractor = SsambaFeatureExtractor()
    assert extractor.window.shape == (400,)
    assert extractor.mel_filters.shape == (257, 128)
    extractor.sampling_rate = 8000
    extractor.num_mel_bins = 40
    assert extractor.window.shape == (200,)
    assert extractor.mel_filters.shape == (129, 40)


def test_known_empty_filters_give_no_warning():
    filter_banks.kaldi_mel_filters.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (SsambaFeatureExtractor().mel_filters.max(axis=0) == 0).any()


# The inherited `pad`, as transformers tests it for its own feature extractors


@pytest.mark.parametrize("as_arrays", [False, True])
def test_pad(as_arrays):
    extractor = SsambaFeatureExtractor(return_attention_mask=True)
    lengths = list(range(400, 2000, 266))
    clips = [noise(length) if as_arrays else noise(length).tolist() for length in lengths]
    batch = BatchFeature({"input_values": clips})
    longest = extractor.pad(batch, padding="longest", return_tensors="np")
    assert longest.input_values.shape == (len(clips), lengths[-1])
    assert longest.input_values.dtype == np.float32
    assert longest.attention_mask.sum(-1).tolist() == lengths
    assert (longest.input_values[0, lengths[0] :] == extractor.padding_value).all()
    cut = extractor.pad(batch, padding="max_length", max_length=lengths[0], truncation=True, return_tensors="pt")
    assert cut.input_values.shape == cut.attention_mask.shape == (len(clips), lengths[0])
    multiple = extractor.pad(batch, padding="longest", pad_to_multiple_of=10)
    assert all(len(row) % 10 == 0 for row in multiple.input_values)
    with pytest.raises(ValueError, match="max_length"):
        extractor.pad(batch, padding="max_length")
    with pytest.raises(ValueError, match="max_length"):
        extractor.pad(batch, padding="longest", truncation=True)


@pytest.mark.parametrize("as_array", [False, True])
def test_pad_gives_single_precision(as_array):
    clip = np.random.default_rng(0).random(100)
    clip = clip if as_array else clip.tolist()
    extractor = SsambaFeatureExtractor()
    assert extractor.pad([{"input_values": clip}], return_tensors="np").input_values.dtype == np.float32
    assert extractor.pad([{"input_values": clip}], return_tensors="pt").input_values.dtype == torch.float32
