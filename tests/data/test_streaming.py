# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Reading block by block: the same samples as at once, and a report of what is wrong."""

import io

import numpy as np
import pytest
import soundfile
import soxr

from hf_audio_ssm.data import streaming
from hf_audio_ssm.data.streaming import AudioStream
from hf_audio_ssm.errors import ClipError


def make_noise(seconds: float, rate: int = 16000, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(0, 0.1, round(seconds * rate))).astype(np.float32)


def read(audio, rate: int = 16000) -> tuple[np.ndarray, AudioStream]:
    stream = AudioStream(audio, rate)
    return np.concatenate([np.empty(0, dtype=np.float32), *stream]), stream


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch):
    monkeypatch.setattr(streaming, "BLOCK_SECONDS", 0.37)


@pytest.mark.parametrize("rate", [16000, 44100, 8000, 22050])
def test_blocks_are_the_whole(tmp_path, rate):
    path = tmp_path / "noise.wav"
    channels = np.stack((make_noise(3.21, rate), make_noise(3.21, rate, seed=1)), axis=1)
    soundfile.write(path, channels, rate, subtype="FLOAT")
    samples, stream = read(path)
    expected = channels.mean(axis=1)
    expected = expected if rate == 16000 else soxr.resample(expected, rate, 16000)
    assert len(samples) == len(expected)
    np.testing.assert_allclose(samples, expected, atol=1e-6)
    assert stream.total_seconds == pytest.approx(3.21, abs=1e-4)
    assert stream.seconds == pytest.approx(3.21, abs=1e-3)
    assert stream.notes["kind"].tolist() == ([] if rate == 16000 else ["resampled"])
    with open(path, "rb") as file:
        np.testing.assert_array_equal(read(file)[0], samples)
    np.testing.assert_array_equal(read(io.BytesIO(path.read_bytes()))[0], samples)


def test_a_rate_change():
    first, second = make_noise(1.0, 16000), make_noise(1.0, 44100)
    blocks = [
        {"array": first, "sampling_rate": 16000},
        {"array": np.stack((second[:20000], second[:20000])), "sampling_rate": 44100},
        {"array": second[20000:], "sampling_rate": 44100},
        {"array": first.tolist(), "sampling_rate": 16000},
    ]
    samples, stream = read(iter(blocks))
    assert len(samples) == 48000
    np.testing.assert_array_equal(samples[:16000], first)
    np.testing.assert_allclose(samples[16000:32000], soxr.resample(second, 44100, 16000), atol=1e-6)
    np.testing.assert_array_equal(samples[32000:], first)
    notes = stream.notes
    assert notes["kind"].tolist() == ["rate_change", "rate_change"]
    assert notes["onset"].tolist() == pytest.approx([1.0, 2.0])
    assert notes["detail"].tolist() == ["from 16000 to 44100 Hz", "from 44100 to 16000 Hz"]


@pytest.mark.parametrize(("suffix", "least"), [("wav", 2.9), ("flac", 2.0), ("mp3", 2.0)])
def test_a_truncated_file_is_read_as_far_as_it_goes(tmp_path, suffix, least):
    path = tmp_path / f"noise.{suffix}"
    soundfile.write(path, make_noise(5.0), 16000)
    content = path.read_bytes()
    path.write_bytes(content[: int(0.6 * len(content))])
    samples, stream = read(path)
    assert least <= len(samples) / 16000 <= 3.2
    (note,) = stream.notes.itertuples(index=False)
    assert note.kind == "truncated"
    assert note.onset == pytest.approx(len(samples) / 16000, abs=0.05)


def test_silence_and_clipping_are_reported():
    samples = make_noise(8.0)
    samples[16000 : 3 * 16000] = 0
    samples[4 * 16000 : 4 * 16000 + 8000] = 5e-5  # Half a second: a pause, no silence.
    samples[5 * 16000 : 5 * 16000 + 3] = -1.0
    samples[5 * 16000 + 8000 : 5 * 16000 + 8010] = 1.0
    samples[7 * 16000 : 7 * 16000 + 2] = 1.0  # A peak may touch full scale.
    _, stream = read(
        [{"array": samples[:50000], "sampling_rate": 16000}, {"array": samples[50000:], "sampling_rate": 16000}]
    )
    notes = stream.notes
    assert notes["kind"].tolist() == ["silence", "clipping"]
    assert notes["onset"].tolist() == pytest.approx([1.0, 5.0], abs=0.011)
    assert notes["offset"].tolist() == pytest.approx([3.0, 5.500625], abs=0.011)


def test_samples_that_are_no_numbers_become_zeros():
    samples = make_noise(2.0)
    samples[[100, 20000]] = np.nan, np.inf
    result, stream = read([{"array": samples, "sampling_rate": 16000}])
    assert np.isfinite(result).all()
    assert result[100] == result[20000] == 0
    assert stream.notes["kind"].tolist() == ["invalid"]
    assert "2 samples" in stream.notes["detail"][0]
    # The caller's samples stay as they were.
    assert np.isnan(samples[100])


def test_unusable_audio_is_refused(tmp_path):
    with pytest.raises(ClipError, match="missing.wav: no such file"):
        AudioStream(tmp_path / "missing.wav", 16000)
    empty = tmp_path / "empty.wav"
    empty.touch()
    with pytest.raises(ClipError, match="empty.wav: the file is empty"):
        AudioStream(empty, 16000)
    text = tmp_path / "text.wav"
    text.write_text("no audio")
    with pytest.raises(ClipError, match="text.wav: cannot be read as audio"):
        read(text)
    with pytest.raises(TypeError, match="path, a binary file or an iterable of decoded blocks, got int"):
        AudioStream(3, 16000)
    for block, message in [
        (np.zeros(3), "block 0: must be a mapping with array and sampling_rate"),
        ({"array": np.zeros((2, 3, 4)), "sampling_rate": 16000}, r"block 0: has shape \(2, 3, 4\)"),
        ({"array": np.zeros(3), "sampling_rate": 0}, "block 0: has the sampling rate 0"),
    ]:
        with pytest.raises(ClipError, match=message):
            read([block])
