# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Reading audio: any format, rate and number of channels; crops; and what cannot be used."""

import os
import pickle
import re
import warnings
from functools import partial

import numpy as np
import pytest
import soundfile as sf
from tones import forget_length, write_broken_clips, write_faulty_clips, write_tone
from torch.utils.data import DataLoader
from transformers.audio_utils import load_audio

from hf_audio_ssm.audio.decoding import check_clips, read_audio, read_seconds
from hf_audio_ssm.audio.streaming import AudioStream
from hf_audio_ssm.common.errors import ClipError, ClipWarning, InputError


def test_any_rate_channels_and_format_become_16_khz_mono(tones):
    for index, path in enumerate(sorted((tones / "low").iterdir())):
        samples = read_audio(path, 16_000)
        assert samples.dtype == np.float32
        assert samples.ndim == 1
        assert len(samples) / 16_000 == pytest.approx(0.3 + 0.05 * index, abs=0.06)
        spectrum = np.abs(np.fft.rfft(samples))
        assert spectrum.argmax() * 16_000 / len(samples) == pytest.approx(300, abs=10)


def test_it_reads_what_transformers_reads(tones):
    for path in sorted((tones / "high").iterdir()):
        expected = load_audio(str(path), sampling_rate=16_000, backend="soundfile")
        assert np.array_equal(read_audio(path, 16_000), expected)


def test_paths_bytes_and_arrays_are_one_clip(tones):
    path = tones / "low" / "1.flac"
    expected = read_audio(path, 16_000)
    samples, rate = sf.read(path, dtype="float32")
    for clip in (
        str(path),
        {"path": str(path), "bytes": None},
        {"path": "elsewhere.flac", "bytes": path.read_bytes()},
        {"array": samples.T, "sampling_rate": rate},
    ):
        assert np.array_equal(read_audio(clip, 16_000), expected)


def test_lengths_come_from_headers(tones, tmp_path):
    path = tones / "low" / "1.flac"
    samples, rate = sf.read(path, dtype="float32")
    for clip in (
        str(path),
        {"path": "elsewhere", "bytes": path.read_bytes()},
        {"array": samples.T, "sampling_rate": rate},
    ):
        assert read_seconds(clip) == pytest.approx(len(samples) / rate)
    (tmp_path / "text.wav").write_text("no audio")
    (tmp_path / "empty.wav").touch()
    for name, reason in (
        ("text", "cannot be read as audio"),
        ("empty", "the file is empty"),
        ("none", "no such file"),
    ):
        with pytest.raises(ClipError, match=rf"{name}.wav: {reason}"):
            read_seconds(tmp_path / f"{name}.wav")


def test_integers_of_unknown_scale_are_refused():
    widened = {"array": np.full(8_000, 1000, dtype=np.int64), "sampling_rate": 16_000}
    with pytest.raises(ClipError, match="holds int64 samples far below that type's full scale"):
        read_audio(widened, 16_000)
    with pytest.raises(ClipError, match="block 0: holds int64 samples"):
        list(AudioStream([widened], 16_000))
    assert read_audio({"array": [0, 1] * 4000, "sampling_rate": 16_000}, 16_000).max() == 1


@pytest.mark.parametrize("dtype", ["int16", "int32", "uint8"])
def test_integers_are_fractions_of_full_scale(dtype):
    info = np.iinfo(dtype)
    samples = np.linspace(info.min, info.max, 8_000).astype(dtype)
    scaled = read_audio({"array": samples, "sampling_rate": 16_000}, 16_000)
    np.testing.assert_allclose(scaled, np.linspace(-1, 1, 8_000), atol=0.02)
    listed = read_audio({"array": samples.tolist(), "sampling_rate": 16_000}, 16_000)
    np.testing.assert_array_equal(listed, samples.astype(np.float32))


def test_files_whose_header_tells_no_length(tmp_path):
    path = tmp_path / "tone.flac"
    write_tone(path, 440, seconds=2.5, channels=2)
    expected = read_audio(path, 16_000)
    forget_length(path)
    assert np.array_equal(read_audio(path, 16_000), expected)
    assert read_seconds(path) == 2.5
    assert np.array_equal(read_audio(path, 16_000, max_seconds=1), expected[:16_000])
    crop = read_audio(path, 16_000, max_seconds=1, generator=np.random.default_rng(0))
    start = np.flatnonzero(expected == crop[0])[0]
    assert np.array_equal(crop, expected[start : start + 16_000])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(ClipWarning, match=r"tone.flac: is cut off or damaged: 1\.\d\d s can be read$"):
        samples = read_audio(path, 16_000)
    assert np.array_equal(samples, expected[: len(samples)])
    assert read_seconds(path) == pytest.approx(len(samples) / 16_000)


@pytest.mark.parametrize("kind", ["path", "array"])
def test_crops_begin_where_the_generator_says(tmp_path, kind):
    ramp = np.linspace(-1, 1, 32_000, dtype=np.float32)
    sf.write(tmp_path / "ramp.wav", ramp, 16_000, subtype="FLOAT")
    clip = tmp_path / "ramp.wav" if kind == "path" else {"array": ramp, "sampling_rate": 16_000}
    assert np.array_equal(read_audio(clip, 16_000, max_seconds=0.5), ramp[:8_000])
    starts = set()
    for seed in range(20):
        samples = read_audio(clip, 16_000, max_seconds=0.5, generator=np.random.default_rng(seed))
        start = int(np.searchsorted(ramp, samples[0]))
        assert np.array_equal(samples, ramp[start : start + 8_000])
        starts.add(start)
    assert len(starts) > 15
    assert min(starts) < 6_000 < 18_000 < max(starts)
    whole = read_audio(clip, 16_000, max_seconds=2, generator=np.random.default_rng(0))
    assert np.array_equal(whole, ramp)


def test_a_crop_of_another_rate_has_the_wanted_length(tmp_path):
    write_tone(tmp_path / "tone.flac", 440, seconds=3, rate=44_100, channels=2)
    samples = read_audio(tmp_path / "tone.flac", 16_000, max_seconds=1, generator=np.random.default_rng(1))
    assert len(samples) == 16_000


def test_every_unusable_clip_is_named(tones):
    reasons = write_broken_clips(tones / "low")
    for name, reason in reasons.items():
        with pytest.raises(ClipError, match=f"^.*{re.escape(name)}: .*{re.escape(reason)}") as error:
            read_audio(tones / "low" / name, 16_000)
        with pytest.raises(ClipError, match=re.escape(name)):
            read_audio(tones / "low" / name, 16_000, max_seconds=0.5)
        again = pickle.loads(pickle.dumps(error.value))
        assert (str(again), again.clip, again.reason) == (str(error.value), error.value.clip, error.value.reason)
    with pytest.raises(InputError, match=f"{len(reasons)} clips cannot be used") as error:
        check_clips(sorted((tones / "low").iterdir()), 16_000)
    assert all(f"{name}: " in str(error.value) for name in reasons)


def test_faulty_clips_are_used_with_a_warning(tmp_path):
    """Nor does a crop hide the fault."""
    for name, reason in write_faulty_clips(tmp_path).items():
        with pytest.warns(ClipWarning, match=f"{re.escape(name)}: {re.escape(reason)}") as caught:
            whole = read_audio(tmp_path / name, 16_000)
        assert len(caught) == 1
        assert len(whole) >= 4_000
        with pytest.warns(ClipWarning, match=f"{re.escape(name)}: {re.escape(reason)}"):
            crop = read_audio(tmp_path / name, 16_000, max_seconds=0.2)
        np.testing.assert_allclose(crop, whole[:3_200], atol=1e-6)
        # A crop begins where there is audio.
        with warnings.catch_warnings(category=ClipWarning, action="ignore"):
            for seed in range(3):
                assert len(read_audio(tmp_path / name, 16_000, 0.2, np.random.default_rng(seed))) == 3_200


def test_short_clips_are_read():
    """The feature extractor pads them to a frame."""
    samples = np.array([0.5], dtype=np.float32)
    assert np.array_equal(read_audio({"array": samples, "sampling_rate": 16_000}, 16_000), samples)


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        ("nowhere.wav", "^nowhere.wav: no such file"),
        ({"path": None, "bytes": b""}, "^clip without a path: the file is empty"),
        ({"path": "a.wav", "bytes": b"RIFF nonsense"}, "^a.wav: cannot be read as audio"),
        ({"array": np.zeros((2, 3, 4)), "sampling_rate": 8000}, r"samples of shape \(2, 3, 4\)"),
        ({"array": np.zeros(0), "sampling_rate": 8000}, "0 ms of audio"),
    ],
)
def test_rows_that_hold_no_audio_are_refused(clip, message):
    with pytest.raises(ClipError, match=message):
        read_audio(clip, 16_000)


def test_a_file_of_others_is_refused(tones, monkeypatch):
    # Whoever runs the tests may be allowed everything.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ClipError, match=r"0.wav: may not be read \(permission denied\)"):
        read_audio(tones / "low" / "0.wav", 16_000)


def test_errors_come_out_of_a_data_loaders_worker():
    loader = DataLoader(
        ["nowhere.wav"], batch_size=None, collate_fn=partial(read_audio, sampling_rate=16_000), num_workers=1
    )
    with pytest.raises(ClipError, match="^nowhere.wav: no such file$"):
        next(iter(loader))


def test_check_clips_returns_lengths(tones):
    assert check_clips([tones / "low" / "0.wav", tones / "high" / "4.wav"], 16_000) == [0.3, 0.5]
