# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Reading block by block: the same samples as at once, and a report of what is wrong."""

import io
import os
import threading

import numpy as np
import pytest
import soundfile
import soxr
from tones import forget_length

from hf_audio_ssm.audio import streaming
from hf_audio_ssm.audio.streaming import AudioStream
from hf_audio_ssm.common.errors import ClipError


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


def test_a_file_whose_header_tells_no_length(tmp_path):
    path = tmp_path / "noise.flac"
    soundfile.write(path, make_noise(2.0), 16000)
    expected = read(path)[0]
    forget_length(path)
    samples, stream = read(path)
    np.testing.assert_array_equal(samples, expected)
    assert stream.total_seconds is None
    assert stream.notes.empty


@pytest.mark.parametrize("as_path", [True, False])
def test_a_chained_ogg_file_is_read_to_its_end(tmp_path, as_path):
    """libsndfile alone stops after the first link."""
    links = [make_noise(2.0, 16000), make_noise(1.0, 44100, seed=1), make_noise(1.5, 16000, seed=2)]
    expected, content = [], b""
    for number, (link, rate) in enumerate(zip(links, (16000, 44100, 16000), strict=True)):
        path = tmp_path / f"{number}.ogg"
        soundfile.write(path, link, rate)
        expected.append(read(path)[0])
        content += path.read_bytes()
    path = tmp_path / "chain.ogg"
    path.write_bytes(content)
    samples, stream = read(path if as_path else io.BytesIO(content))
    np.testing.assert_array_equal(samples, np.concatenate(expected))
    assert stream.total_seconds == pytest.approx(4.5, abs=1e-3)
    assert stream.notes["kind"].tolist() == ["rate_change", "rate_change"]
    assert stream.notes["onset"].tolist() == pytest.approx([2.0, 3.0], abs=1e-3)


@pytest.mark.parametrize("kind", ["pipe", "named pipe"])
def test_pipes_are_read(tmp_path, kind):
    soundfile.write(tmp_path / "noise.flac", make_noise(2.0), 16000)
    content = (tmp_path / "noise.flac").read_bytes()
    if kind == "pipe":
        reading, writing = os.pipe()
        audio = os.fdopen(reading, "rb")
    else:
        audio = writing = tmp_path / "a pipe"
        os.mkfifo(audio)

    def write():
        with open(writing, "wb") as file:
            file.write(content)

    thread = threading.Thread(target=write)
    thread.start()
    samples, stream = read(audio)
    thread.join()
    np.testing.assert_array_equal(samples, read(tmp_path / "noise.flac")[0])
    assert stream.notes.empty
    assert stream.name == ("audio" if kind == "pipe" else "a pipe")


@pytest.mark.parametrize(("size", "kinds"), [(0xFFFFFFFF, []), (0x7FFFFFFF, []), (10**6, ["truncated"])])
def test_a_header_that_does_not_know_the_length(tmp_path, size, kinds):
    """What writes to a pipe cannot go back to the header."""
    path = tmp_path / "noise.wav"
    soundfile.write(path, make_noise(2.0), 16000)
    content = path.read_bytes()
    place = content.index(b"data") + 4
    path.write_bytes(content[:place] + size.to_bytes(4, "little") + content[place + 4 :])
    samples, stream = read(path)
    assert len(samples) == 32000
    assert stream.notes["kind"].tolist() == kinds


@pytest.mark.parametrize("as_path", [True, False])
@pytest.mark.parametrize("whole", [0, 36])
def test_a_header_that_was_never_finished(tmp_path, whole, as_path):
    """What a recorder leaves that lost its power: the sizes, which it writes last, tell of no audio."""
    path = tmp_path / "noise.wav"
    soundfile.write(path, make_noise(2.0), 16000)
    expected, content = read(path)[0], bytearray(path.read_bytes())
    assert content.index(b"data") == 36
    content[4:8], content[40:44] = whole.to_bytes(4, "little"), bytes(4)
    path.write_bytes(content)
    samples, stream = read(path if as_path else io.BytesIO(content))
    np.testing.assert_array_equal(samples, expected)
    assert stream.total_seconds == 2.0
    (note,) = stream.notes.itertuples(index=False)
    assert (note.kind, note.onset) == ("truncated", 2.0)


def test_a_file_without_audio_is_none_of_unknown_length(tmp_path):
    path = tmp_path / "none.wav"
    soundfile.write(path, np.zeros(0), 16000)
    content = path.read_bytes() + b"LIST\4\0\0\0INFO"
    path.write_bytes(content[:4] + (len(content) - 8).to_bytes(4, "little") + content[8:])
    with pytest.raises(ClipError, match="none.wav: holds 0 ms of audio: it has no samples"):
        read(path)


@pytest.mark.parametrize("dtype", ["int16", "int32", "uint8"])
def test_integers_are_fractions_of_full_scale(dtype):
    expected = make_noise(1.0)
    info = np.iinfo(dtype)
    scale, middle = 2.0 ** (info.bits - 1), (info.max + info.min + 1) // 2
    samples = (np.round(expected.astype(np.float64) * scale) + middle).astype(dtype)
    result, stream = read([{"array": samples, "sampling_rate": 16000}])
    np.testing.assert_allclose(result, expected, atol=1 / scale + 1e-7)
    assert stream.notes.empty


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
    samples[[100, 15000, 31000]] = np.nan, np.inf, -1e30
    halves = [{"array": half, "sampling_rate": 16000} for half in np.split(samples, 2)]
    result, stream = read(halves)
    assert np.abs(result).max() < 1
    assert result[100] == result[15000] == result[31000] == 0
    assert stream.notes["kind"].tolist() == ["invalid"]
    assert "3 samples" in stream.notes["detail"][0]
    assert stream.notes[["onset", "offset"]].values[0] == pytest.approx([100 / 16000, 31001 / 16000])
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
    with pytest.raises(ClipError, match="is a folder, expected a file"):
        AudioStream(tmp_path, 16000)
    with pytest.raises(ClipError, match="audio: the file is empty"):
        read(io.BytesIO())
    for audio, message in [
        (3, "path, a binary file or an iterable of decoded blocks, got int"),
        (make_noise(1.0), "an iterable of decoded blocks, such as .*, got ndarray"),
        ({"array": make_noise(1.0), "sampling_rate": 16000}, "such as .*, got dict"),
        (io.StringIO("no audio"), "opened in binary mode"),
    ]:
        with pytest.raises(TypeError, match=message):
            AudioStream(audio, 16000)
    for block, message in [
        (np.zeros(3), "block 0: must be a mapping with array and sampling_rate"),
        ({"array": np.zeros((2, 3, 4)), "sampling_rate": 16000}, r"block 0: has samples of shape \(2, 3, 4\)"),
        ({"array": np.zeros((500, 2)), "sampling_rate": 16000}, r"block 0: has samples of shape \(500, 2\); expected"),
        ({"array": None, "sampling_rate": 16000}, "block 0: holds values of dtype object"),
        ({"array": np.zeros(3), "sampling_rate": 0}, "block 0: has the sampling rate 0"),
        ({"array": np.zeros(3), "sampling_rate": "16000"}, "block 0: has the sampling rate '16000'"),
    ]:
        with pytest.raises(ClipError, match=message):
            read([block])
