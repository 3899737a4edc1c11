# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Compares the speed of SsambaFeatureExtractor with that of transformers' ASTFeatureExtractor, which computes the same
features. They alternate, so that a change in the machine's load meets both. The ratio that counts is that of the
medians; that of the fastest calls shows how far a busy machine has disturbed it.

    python benchmarks/feature_extraction.py --output feature_extraction.json
"""

import argparse
import logging
import platform
import statistics
import warnings
from pathlib import Path


CLIPS_A_TURN = 8


def parse_command_line() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a clip")
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[1, 8], help="clips per call, at most 8")
    parser.add_argument("--repeats", type=int, default=30, help="measured calls of each feature extractor")
    parser.add_argument("--output", type=Path, help="JSON file to write the results to")
    arguments = parser.parse_args()
    if arguments.seconds < 0.025:
        parser.error(f"--seconds must be at least 0.025, one frame; got {arguments.seconds}")
    if arguments.repeats < 1 or not 1 <= min(arguments.batch_sizes) <= max(arguments.batch_sizes) <= CLIPS_A_TURN:
        parser.error(f"--repeats must be at least 1, --batch_sizes 1 to {CLIPS_A_TURN}")
    return arguments


if __name__ == "__main__":
    # --help and errors of usage do not wait for the libraries below.
    parsed = parse_command_line()

import numpy as np
import torch
import transformers
from measuring import interleaved_times, table, write_json
from transformers import ASTFeatureExtractor
from transformers.utils import is_speech_available

from hf_audio_ssm import SsambaFeatureExtractor


SAMPLING_RATE = 16000
TARGET_RATIO = 8.0


def measure(threads: int, batch_size: int, seconds: float, repeats: int) -> dict[str, float]:
    """
    One row of the table: milliseconds per clip of both feature extractors, their ratio and difference. In its turn each
    goes through the same clips, as it would through a data set, `batch_size` of them a call.
    """
    torch.set_num_threads(threads)
    generator = np.random.default_rng(0)
    clips = [
        (0.1 * generator.standard_normal(int(seconds * SAMPLING_RATE))).astype(np.float32) for _ in range(CLIPS_A_TURN)
    ]
    batches = [clips[start : start + batch_size] for start in range(0, CLIPS_A_TURN, batch_size)]
    extractors = {"ast": ASTFeatureExtractor(), "ssamba": SsambaFeatureExtractor()}

    def call(name: str) -> list[np.ndarray]:
        return [
            extractors[name](batch, sampling_rate=SAMPLING_RATE, return_tensors="np").input_values for batch in batches
        ]

    difference = float(np.abs(np.concatenate(call("ast")) - np.concatenate(call("ssamba"))).max())
    times = interleaved_times({name: lambda name=name: call(name) for name in extractors}, repeats)
    medians = {name: 1000 * statistics.median(values) / CLIPS_A_TURN for name, values in times.items()}
    fastest = {name: 1000 * min(values) / CLIPS_A_TURN for name, values in times.items()}
    return {
        "threads": threads,
        "batch_size": batch_size,
        "seconds": seconds,
        "ast_ms_per_clip": medians["ast"],
        "ssamba_ms_per_clip": medians["ssamba"],
        "ratio": medians["ast"] / medians["ssamba"],
        "ratio_of_fastest": fastest["ast"] / fastest["ssamba"],
        "largest_difference": difference,
    }


def run(thread_counts: list[int], batch_sizes: list[int], seconds: float, repeats: int) -> list[dict[str, float]]:
    """One row for each number of threads and clips a call."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="At least one mel filter has all zero values")
    return [measure(threads, batch_size, seconds, repeats) for threads in thread_counts for batch_size in batch_sizes]


def main(arguments: argparse.Namespace) -> None:
    thread_counts = sorted({1, torch.get_num_threads()})
    backend = "torchaudio" if is_speech_available() else "numpy"
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, AST with {backend}")
    rows = run(thread_counts, arguments.batch_sizes, arguments.seconds, arguments.repeats)
    print(table(rows))
    worst = min(row["ratio"] for row in rows)
    print(f"lowest ratio {worst:.1f} (target: at least {TARGET_RATIO:g})")

    if arguments.output is not None:
        results = {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "ast_backend": backend,
            "processor": platform.processor() or platform.machine(),
            "repeats": arguments.repeats,
            "target_ratio": TARGET_RATIO,
            "results": rows,
        }
        write_json(arguments.output, results)
        print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main(parsed)
