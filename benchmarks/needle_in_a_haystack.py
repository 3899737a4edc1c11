# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""A needle in a haystack: does a model trained on short scenes find one word hidden in up to an hour of noise?

    python examples/run_scene_labelling.py --output_dir outputs/scenes
    python benchmarks/needle_in_a_haystack.py --model outputs/scenes --output outputs/benchmarks

Words of voices that the model has not heard are put into noise of the loudness of its training scenes, at positions from
the beginning to the end. A word is found where an event of its label overlaps it; all other events are false alarms. Each
recording is annotated in one pass of the encoder, and in windows of the length that the model was trained on.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path


WORD_DB = -9


def parse_command_line() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="outputs/scenes", help="checkpoint of examples/run_scene_labelling.py")
    parser.add_argument("--data_dir", type=Path, default=Path(__file__).resolve().parents[1] / "examples/spoken_words")
    parser.add_argument("--minutes", type=float, nargs="+", default=[0.5, 5, 20, 60], help="lengths of the recordings")
    parser.add_argument("--positions", type=int, default=5, help="positions from the beginning to the end")
    parser.add_argument("--words", type=int, default=4, help="words at each position")
    parser.add_argument(
        "--noise_db", type=float, default=-55, help=f"loudness of the noise; words peak at {WORD_DB} dB of full scale"
    )
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks"))
    return parser.parse_args()


if __name__ == "__main__":
    # --help and errors of usage do not wait for the libraries below.
    parsed = parse_command_line()

import numpy as np
from matplotlib.figure import Figure
from measuring import table, write_json
from tqdm import tqdm
from transformers import AutoFeatureExtractor, AutoModelForAudioFrameClassification

from hf_audio_ssm import annotate
from hf_audio_ssm.audio.decoding import read_audio
from hf_audio_ssm.data.folders import find_splits


RATE = 16000
WAYS = {"one pass": None, "windows": 10.0}


def make_blocks(seconds: float, word: np.ndarray, start: int, noise_db: float, seed: int) -> Iterator[dict]:
    """Noise with the word in it, ten seconds at a time."""
    rng = np.random.default_rng(seed)
    total = round(seconds * RATE)
    for first in range(0, total, 10 * RATE):
        block = 10 ** (noise_db / 20) * rng.standard_normal(min(10 * RATE, total - first), dtype=np.float32)
        overlap = np.arange(max(first, start), min(first + len(block), start + len(word)))
        block[overlap - first] += word[overlap - start]
        yield {"array": block, "sampling_rate": RATE}


def search(
    checkpoint: str, data_dir: Path, minutes: list[float], num_positions: int, num_words: int, noise_db: float
) -> list[dict]:
    """A row for each length, way and position."""
    model = AutoModelForAudioFrameClassification.from_pretrained(checkpoint)
    feature_extractor = AutoFeatureExtractor.from_pretrained(checkpoint)
    clips = find_splits(data_dir, 0)["test"]
    rng = np.random.default_rng(0)
    positions = np.linspace(0, 1, num_positions)
    rows = []
    cases = [(length, position) for length in sorted(minutes) for position in positions]
    for length, position in tqdm(cases, desc="Searching", unit="position"):
        counts = {way: [0, 0] for way in WAYS}
        for index in rng.choice(len(clips), size=num_words, replace=False):
            path, label = clips[index]
            word = read_audio(path, RATE)
            word = word * (10 ** (WORD_DB / 20) / np.abs(word).max())
            start = round(position * (60 * length * RATE - len(word)))
            for way, window in WAYS.items():
                found = annotate(
                    make_blocks(60 * length, word, start, noise_db, int(index)),
                    model,
                    feature_extractor,
                    max_memory=1e12,
                    window_seconds=window,
                    overlap_seconds=2.5,
                    threshold=0.5,
                    median_filter_seconds=0.3,
                    background=["background"],
                ).events
                overlaps = (found["onset"] < (start + len(word)) / RATE) & (found["offset"] > start / RATE)
                is_right = overlaps & (found["label"] == label)
                counts[way][0] += bool(is_right.any())
                counts[way][1] += int((~is_right).sum())
        for way, (right, false) in counts.items():
            rows.append(
                {
                    "minutes": length,
                    "way": way,
                    "position": position,
                    "found": right / num_words,
                    "false alarms an hour": false / (num_words * length / 60),
                }
            )
    return rows


def summarize(rows: list[dict]) -> list[dict]:
    """The means over all positions."""
    summary = []
    for length in sorted({row["minutes"] for row in rows}):
        for way in WAYS:
            chosen = [row for row in rows if row["minutes"] == length and row["way"] == way]
            keys = ("found", "false alarms an hour")
            summary.append(
                {"minutes": length, "way": way, **{key: float(np.mean([row[key] for row in chosen])) for key in keys}}
            )
    return summary


def draw(rows: list[dict], path: Path) -> None:
    """The share of words found over position and length."""
    lengths = sorted({row["minutes"] for row in rows})
    positions = sorted({row["position"] for row in rows})
    figure = Figure(figsize=(10, 3.5), layout="constrained")
    for axes, way in zip(figure.subplots(1, 2, sharey=True), WAYS, strict=True):
        found = {(row["minutes"], row["position"]): row["found"] for row in rows if row["way"] == way}
        shares = [[found[length, position] for position in positions] for length in lengths]
        image = axes.imshow(shares, vmin=0, vmax=1, cmap="RdYlGn", aspect="auto", origin="lower")
        axes.set_xticks(range(len(positions)), [f"{position:.0%}" for position in positions])
        axes.set_yticks(range(len(lengths)), [f"{length:g}" for length in lengths])
        axes.set(xlabel="position in the recording", title=way)
    figure.axes[0].set_ylabel("length (minutes)")
    figure.colorbar(image, ax=figure.axes, label="words found")
    figure.savefig(path, dpi=100)


def main(arguments: argparse.Namespace) -> None:
    rows = search(
        arguments.model,
        arguments.data_dir,
        arguments.minutes,
        arguments.positions,
        arguments.words,
        arguments.noise_db,
    )
    print(table(summarize(rows)))
    write_json(arguments.output / "needle_in_a_haystack.json", rows)
    draw(rows, arguments.output / "needle_in_a_haystack.png")


if __name__ == "__main__":
    main(parsed)
