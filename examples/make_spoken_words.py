# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Makes `examples/spoken_words`, the small data set the quickstart trains on, with the speech synthesiser eSpeak NG.

    python examples/make_spoken_words.py

Ten commands, each said once by every voice. A voice is an accent and a variant of eSpeak NG (`en-us+f2`); no accent-variant
pair and no variant serves in two splits. Rate, pitch, loudness and the silence around the word are drawn per clip from a
generator seeded with the voice and the word, so the same eSpeak NG writes the same files again. Needs the `espeak-ng`
program (`apt-get install espeak-ng`, `brew install espeak-ng`).
"""

import argparse
import csv
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr
from tqdm import tqdm

from hf_audio_ssm.common.boundary import one_line_errors


SAMPLING_RATE = 16_000
WORDS = ("backward", "down", "forward", "left", "no", "off", "right", "stop", "up", "yes")
VOICES = {
    "train": (
        *("en-us+m1", "en-gb+m3", "en-gb-scotland+m4", "en-029+m7", "en-gb-x-rp+f1", "en-us+f2", "en-gb-x-gbclan+f4"),
        *("en-us-nyc+croak", "en-gb-x-gbcwmd+klatt", "en-us+klatt4", "en-gb+whisper", "en-gb-scotland+Annie"),
        *("en-029+steph", "en-us+Andy", "en-gb-x-rp+robosoft", "en-us-nyc+belinda", "en-gb+iven", "en-us+Gene"),
        *("en-gb-x-gbclan+pablo", "en-gb-x-gbcwmd+Mario", "en-029+victor", "en-gb+grandma"),
    ),
    "validation": (
        *("en-us+m5", "en-gb+f3", "en-gb-scotland+klatt2", "en-029+linda", "en-us-nyc+Alex", "en-gb-x-rp+grandpa"),
    ),
    "test": (
        *("en-gb+m2", "en-us+f5", "en-gb-scotland+m6", "en-029+anika", "en-us+klatt3", "en-gb-x-gbclan+Michael"),
        *("en-us-nyc+quincy", "en-gb-x-rp+whisperf"),
    ),
}
COLUMNS = ("file_name", "label", "voice", "words_per_minute", "pitch", "peak", "offset_ms")


def check_voices(voices: list[str]) -> None:
    """Raises if eSpeak NG lacks an accent or a variant: it would speak with its default voice and say nothing."""
    if shutil.which("espeak-ng") is None:
        raise FileNotFoundError("espeak-ng is not installed: the program `espeak-ng` was not found in PATH")

    def column(kind: str, index: int) -> set[str]:
        table = subprocess.run(["espeak-ng", f"--voices={kind}"], check=True, capture_output=True, text=True).stdout
        return {line.split()[index] for line in table.splitlines()[1:]}

    accents = column("en", 1)
    variants = {name.removeprefix("!v/") for name in column("variant", 4)}
    for voice in voices:
        accent, variant = voice.split("+")
        if accent not in accents or variant not in variants:
            raise ValueError(f"voice {voice!r}: this espeak-ng has no such accent or variant (espeak-ng --voices=en)")


def speak(word: str, voice: str, words_per_minute: int, pitch: int) -> np.ndarray:
    """One word as float32 samples at 16 kHz, the silence before and after it removed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "word.wav"
        options = ["-v", voice, "-s", str(words_per_minute), "-p", str(pitch), "-w", str(path)]
        subprocess.run(["espeak-ng", *options, word], check=True)
        samples, rate = sf.read(path, dtype="float32")
    samples = soxr.resample(samples, rate, SAMPLING_RATE)
    (loud,) = np.nonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
    return samples[loud[0] : loud[-1] + 1]


def make_clip(word: str, voice: str) -> tuple[np.ndarray, dict[str, str | int | float]]:
    """A clip and its row of metadata.csv (without file_name); equal arguments give equal results."""
    rng = np.random.default_rng(list(f"{voice} {word}".encode()))
    row = {
        "label": word,
        "voice": voice,
        "words_per_minute": int(rng.integers(120, 191)),
        "pitch": int(rng.integers(25, 76)),
        "peak": round(float(rng.uniform(0.3, 0.9)), 2),
        "offset_ms": int(rng.integers(10, 101)),
    }
    samples = speak(word, voice, row["words_per_minute"], row["pitch"])
    samples *= row["peak"] / np.abs(samples).max()
    before, after = (
        milliseconds * SAMPLING_RATE // 1000 for milliseconds in (row["offset_ms"], rng.integers(10, 101))
    )
    return np.pad(samples, (before, after)), row


def make_split(folder: Path, voices: tuple[str, ...]) -> None:
    """Writes `folder/<word>/<voice>.flac` for every word and voice, and `folder/metadata.csv`."""
    rows = []
    for word in tqdm(WORDS, desc=folder.name, unit="word"):
        (folder / word).mkdir(parents=True)
        for voice in voices:
            samples, row = make_clip(word, voice)
            file_name = f"{word}/{voice.replace('+', '-')}.flac"
            sf.write(folder / file_name, samples, SAMPLING_RATE, subtype="PCM_16", compression_level=1.0)
            rows.append({"file_name": file_name, **row})
    with open(folder / "metadata.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the spoken-words data set of the quickstart with eSpeak NG.")
    default = Path(__file__).resolve().parent / "spoken_words"
    parser.add_argument("--output_dir", type=Path, default=default, help="its folders train, ... are replaced")
    output_dir = parser.parse_args().output_dir
    try:
        check_voices([voice for voices in VOICES.values() for voice in voices])
    except ValueError as error:
        sys.exit(f"error: {error}")

    output_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output_dir, prefix=".making-") as folder:
        for split, voices in VOICES.items():
            make_split(Path(folder) / split, voices)
        for split in VOICES:
            if (output_dir / split).exists():
                shutil.rmtree(output_dir / split)
            (Path(folder) / split).rename(output_dir / split)


if __name__ == "__main__":
    with one_line_errors():
        main()
