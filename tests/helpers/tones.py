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
    sf.write(folder / "short.wav", np.zeros(300), 16_000)
    sf.write(folder / "nan.wav", np.full(8_000, np.nan), 16_000, subtype="FLOAT")
    sf.write(folder / "huge.wav", np.linspace(-1e25, 1e25, 8_000), 16_000, subtype="FLOAT")
    for name in ("cut_off.flac", "cut_off.mp3"):
        path = folder / name
        write_tone(path, 500, seconds=2)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return {
        "broken.wav": "cannot be read as audio",
        "empty.flac": "the file is empty",
        "no_samples.wav": "0 ms of audio",
        "short.wav": "19 ms of audio; at least 25 ms",
        "nan.wav": "NaN, infinite or beyond",
        "huge.wav": "NaN, infinite or beyond",
        "cut_off.flac": "cannot be read as audio",
        "cut_off.mp3": "is cut off",
    }
