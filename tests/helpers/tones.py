# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Clips of pure tones, for tests that need audio files."""

from pathlib import Path

import numpy as np
import soundfile as sf


def write_tone(path: Path, hertz: float, seconds: float = 0.3, rate: int = 16_000, channels: int = 1, seed: int = 0):
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    samples = 0.5 * np.sin(2 * np.pi * hertz * time) + 0.01 * rng.standard_normal(len(time))
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, np.tile(samples[:, None], channels), rate)


def forget_length(path: Path):
    """Makes a FLAC file one that was written to a pipe: its header does not tell the number of samples."""
    content = bytearray(path.read_bytes())
    # 36 bits of the first block, STREAMINFO.
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)


def write_broken_clips(folder: Path) -> dict[str, str]:
    """Writes clips that cannot be used into `folder`; returns what is to be said about each, by file name."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "broken.wav").write_text("this is no audio")
    (folder / "empty.flac").touch()
    sf.write(folder / "no_samples.wav", np.zeros(0), 16_000)
    sf.write(folder / "nan.wav", np.full(8_000, np.nan), 16_000, subtype="FLOAT")
    sf.write(folder / "huge.wav", np.linspace(-1e25, 1e25, 8_000), 16_000, subtype="FLOAT")
    (folder / "page.mp3").write_text("<!DOCTYPE html>\n<html>Not found</html>")
    write_tone(folder / "head.ogg", 500)
    (folder / "head.ogg").write_bytes((folder / "head.ogg").read_bytes()[:100])
    return {
        "broken.wav": "not audio: begins like text",
        "empty.flac": "the file is empty",
        "no_samples.wav": "0 ms of audio",
        "nan.wav": "NaN, infinite or beyond",
        "huge.wav": "NaN, infinite or beyond",
        "page.mp3": "not audio: begins like HTML",
        "head.ogg": "cannot be read as audio",
    }


def write_faulty_clips(folder: Path) -> dict[str, str]:
    """Writes clips that are used although they have a fault; returns what is to be said about each, by file name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("cut_off.flac", "cut_off.mp3", "cut_off.wav"):
        path = folder / name
        write_tone(path, 500, seconds=2)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    write_tone(folder / "unfinished.wav", 500)
    content = bytearray((folder / "unfinished.wav").read_bytes())
    content[4:8] = content[40:44] = bytes(4)
    (folder / "unfinished.wav").write_bytes(content)
    samples = np.random.default_rng(0).normal(0, 0.1, 8_000)
    samples[100] = np.nan
    sf.write(folder / "one_nan.wav", samples, 16_000, subtype="FLOAT")
    return {
        "cut_off.flac": "is cut off or damaged: ",
        "cut_off.mp3": "is cut off or damaged: ",
        "cut_off.wav": "is cut off or damaged: 1.00 s can be read of the 2.00 s that its header promises",
        "unfinished.wav": "was never finished: its header tells of no audio",
        "one_nan.wav": "1 samples that are NaN, infinite or beyond 1e+15 are read as zeros",
    }
