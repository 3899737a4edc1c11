# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
A table of odd files: whole, cut, unfinished, lying or no audio. Every way to read gives the same samples, the same note or the same
error of one line, and no decoder prints anything.
"""

import io

import numpy as np
import pytest
from odd_files import NUM_SAMPLES, OddFile, odd_files

from hf_audio_ssm.audio.decoding import FAULTS, Clip, read_clip, read_seconds
from hf_audio_ssm.audio.sound_files import Note
from hf_audio_ssm.audio.streaming import AudioStream
from hf_audio_ssm.common.errors import ClipError


ODD_FILES = odd_files()
# Only decoding all of them tells.
DAMAGED_INSIDE = ("damaged.flac", "damaged.mp3")


def stream_clip(audio) -> Clip:
    stream = AudioStream(audio, 16_000)
    samples = np.concatenate([np.empty(0, dtype=np.float32), *stream])
    notes = [Note(*note) for note in stream.notes.itertuples(index=False) if note.kind in FAULTS]
    return Clip(samples, stream.seconds, notes)


def check(file: OddFile, clip: Clip) -> None:
    assert abs(len(clip.samples) - file.samples) <= file.tolerance
    assert "; ".join(note.detail for note in clip.notes).startswith(file.said)
    assert bool(clip.notes) == bool(file.said)


@pytest.mark.parametrize("name", ODD_FILES)
def test_every_way_of_reading_agrees(name, tmp_path, capfd):
    file, path = ODD_FILES[name], tmp_path / name
    path.write_bytes(file.content)
    row = {"path": str(path), "bytes": file.content}
    if not file.samples:
        errors = []
        for read in (
            lambda: read_clip(path, 16_000),
            lambda: read_clip(row, 16_000),
            lambda: read_clip(path, 16_000, 0.01, np.random.default_rng(0)),
            lambda: read_seconds(path),
            lambda: stream_clip(path),
        ):
            with pytest.raises(ClipError) as error:
                read()
            errors.append(str(error.value))
        assert set(errors) == {errors[0]}
        assert errors[0].startswith(f"{path}: {file.said}")
        assert "\n" not in errors[0]
        with pytest.raises(ClipError) as error:
            stream_clip(io.BytesIO(file.content))
        assert error.value.reason == errors[0].removeprefix(f"{path}: ")
    else:
        clip = read_clip(path, 16_000)
        check(file, clip)
        for other in (read_clip(row, 16_000), stream_clip(path), stream_clip(io.BytesIO(file.content))):
            np.testing.assert_array_equal(other.samples, clip.samples)
            assert other.notes == clip.notes
        crop = read_clip(path, 16_000, 0.2)
        np.testing.assert_allclose(crop.samples, clip.samples[:3200], atol=1e-6)
        if name not in DAMAGED_INSIDE:
            assert crop.notes == clip.notes
            assert read_seconds(path) == pytest.approx(len(clip.samples) / 16_000, abs=1e-4)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["whole.wav", "whole.flac", "whole.ogg", "whole.opus", "whole.mp3", "gsm.wav"])
def test_crops_are_parts_of_the_whole(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(ODD_FILES[name].content)
    whole = read_clip(path, 16_000).samples
    for seed in range(5):
        start = int(np.random.default_rng(seed).integers(len(whole) - 4_000 + 1))
        crop = read_clip(path, 16_000, 0.25, np.random.default_rng(seed)).samples
        np.testing.assert_allclose(crop, whole[start : start + 4_000], atol=1e-5)


def test_a_name_does_not_decide_what_is_in_a_file(tmp_path):
    expected = read_clip({"bytes": ODD_FILES["whole.wav"].content}, 16_000).samples
    assert len(expected) == NUM_SAMPLES
    for name in ("sound.mp3", "sound.raw", "sound.flac", "sound", "sound.html", "sound.sd2", "sound.vox"):
        (tmp_path / name).write_bytes(ODD_FILES["whole.wav"].content)
        np.testing.assert_array_equal(read_clip(tmp_path / name, 16_000).samples, expected)


def test_what_is_no_file_is_told(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.wav")
    for path, reason in (
        (tmp_path, "is a folder, expected a file"),
        (tmp_path / "pipe.wav", "is a pipe or a device, expected a file"),
        ("/dev/zero", "is a pipe or a device, expected a file"),
        (tmp_path / "none.wav", "no such file"),
        (tmp_path / "none.wav" / "none.wav", "no such file"),
        ("a\0b.wav", "cannot be read (embedded null byte)"),
        ("a" * 5000, "cannot be read (File name too long)"),
    ):
        for read in (lambda path: read_clip(path, 16_000), read_seconds):
            with pytest.raises(ClipError) as error:
                read(path)
            assert error.value.reason == reason
