# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Time and memory of annotating recordings from a minute to hours: in one pass, and within a bound.

    python benchmarks/long_audio.py --minutes 1 4 15 60 240 --threads 1 --output outputs/benchmarks

The recordings are noise in WAV files of 16 bits, the model has the size that is asked for and random weights: neither
changes what is measured. Memory is the peak above that of the process with the model loaded; the processor's time is that of
all threads, which tells more than the clock where other programs run.
"""

import argparse
import tempfile
import time
from pathlib import Path


def parse_command_line() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--minutes", type=float, nargs="+", default=[1, 4, 15, 60, 240], help="lengths of the recordings"
    )
    parser.add_argument("--size", default="tiny", choices=("tiny", "small", "base"))
    parser.add_argument("--max_memory", type=float, default=2e9, help="the bound, in bytes")
    parser.add_argument("--longest_pass", type=float, default=60, help="minutes that one pass may take at most")
    parser.add_argument("--threads", type=int, help="default: as many as PyTorch uses")
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks"))
    return parser.parse_args()


if __name__ == "__main__":
    # --help and errors of usage do not wait for the libraries below.
    parsed = parse_command_line()

import numpy as np
import soundfile
import torch
from matplotlib.figure import Figure
from measuring import peak_memory, table, write_json

from hf_audio_ssm import SsambaConfig, SsambaFeatureExtractor, SsambaForAudioFrameClassification, annotate


RATE = 16000


def write_noise(path: Path, minutes: float) -> None:
    """Minute by minute, so that the file's length costs no memory."""
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", RATE, 1, subtype="PCM_16") as file:
        for length in [60.0] * int(minutes) + [60 * (minutes % 1)] * bool(minutes % 1):
            file.write(rng.normal(0, 0.05, round(length * RATE)).astype(np.float32))


def measure(minutes: list[float], size: str, max_memory: float, longest_pass: float) -> list[dict]:
    """A row for each length and way."""
    torch.manual_seed(0)
    config = getattr(SsambaConfig, size)(num_labels=10, problem_type="multi_label_classification")
    model, feature_extractor = SsambaForAudioFrameClassification(config), SsambaFeatureExtractor()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.wav"
        # The first call loads libraries and makes the front end's tables.
        write_noise(path, 0.1)
        annotate(path, model, feature_extractor)
        for length in sorted(minutes):
            write_noise(path, length)
            ways = {"bounded": max_memory}
            if length <= longest_pass:
                ways["one pass"] = 1e12
            for way, limit in ways.items():
                found, processor = [], time.process_time()
                seconds, memory = peak_memory(
                    lambda limit=limit, found=found: found.append(annotate(path, model, feature_extractor, limit))
                )
                rows.append(
                    {
                        "minutes": length,
                        "way": way,
                        "passes": found[0].num_windows,
                        "seconds": seconds,
                        "processor seconds": time.process_time() - processor,
                        "real-time factor": seconds / (60 * length),
                        "MB": None if memory is None else memory / 1e6,
                    }
                )
                print(table(rows[-1:]).splitlines()[-1], flush=True)
    return rows


def draw(rows: list[dict], max_memory: float, path: Path) -> None:
    """Time and memory over length, beside a line of growth in proportion through the shortest recording."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    shown = {"processor seconds": "processor time (s)", "MB": "memory (MB)"}
    lengths = sorted({row["minutes"] for row in rows})
    for axes, (key, label) in zip(figure.subplots(1, 2), shown.items(), strict=True):
        for way, marker in (("one pass", "o"), ("bounded", "x")):
            points = [(row["minutes"], row[key]) for row in rows if row["way"] == way and row[key] is not None]
            if points:
                axes.plot(*zip(*points, strict=True), marker=marker, label=way)
        if rows[0][key] is not None:
            line = [rows[0][key] * length / lengths[0] for length in lengths]
            axes.plot(lengths, line, color="tab:gray", linestyle=":", label="in proportion")
        if key == "MB":
            axes.axhline(max_memory / 1e6, color="tab:red", linestyle="--", label="the bound")
        axes.set(xscale="log", yscale="log", xlabel="length (minutes)", ylabel=label)
        axes.set_xticks(lengths, [f"{length:g}" for length in lengths])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=100)


def main(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads or torch.get_num_threads())
    rows = measure(arguments.minutes, arguments.size, arguments.max_memory, arguments.longest_pass)
    print(table(rows))
    write_json(arguments.output / "long_audio.json", rows)
    draw(rows, arguments.max_memory, arguments.output / "long_audio.png")


if __name__ == "__main__":
    main(parsed)
