# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
What is fast on this machine's CPU, measured side by side in one run: calls, the scan, the whole model, a training step,
the front end, and the machine's own limits. Calls alternate and medians are reported, with 1 thread and with all.

    python benchmarks/cpu.py --output outputs/benchmarks            # everything; needs about an hour
    python benchmarks/cpu.py --sections scan machine                # some of it
    python benchmarks/cpu.py --sections model --tokens 129 513 2049 --sizes tiny --batch_sizes 1
"""

import argparse
import platform
from pathlib import Path
from typing import Any

from hf_audio_ssm.common.definitions import read_names


SECTIONS = ("machine", "calls", "scan", "model", "training", "front_end")
SIZES = read_names("whole_model", "SIZES")
TOKENS, WAYS = read_names("whole_model", "TOKENS"), read_names("whole_model", "WAYS")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS, help="what to measure")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--tokens", nargs="+", type=int, default=list(TOKENS), help="1 + multiples of 8")
    parser.add_argument("--batch_sizes", nargs="+", type=int, default=[1, 4], help="clips a batch of the whole model")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="of the model")
    parser.add_argument("--threads", nargs="+", type=int, help="default: 1, and as many as PyTorch uses")
    parser.add_argument("--repeats", type=int, default=7, help="measured rounds at most")
    parser.add_argument("--longest", type=float, default=120.0, help="leave out what should take more seconds a call")
    parser.add_argument("--output", type=Path, help="folder for the JSON file and the plots")
    return parser


def parse_command_line() -> argparse.Namespace:
    parser = make_parser()
    arguments = parser.parse_args()
    for name in ("batch_sizes", "threads"):
        if min(getattr(arguments, name) or [1]) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(arguments, name)}")
    if arguments.repeats < 1:
        parser.error(f"--repeats must be at least 1, got {arguments.repeats}")
    return arguments


if __name__ == "__main__":
    # --help and errors of usage do not wait for the libraries below.
    parsed = parse_command_line()

import calls
import feature_extraction
import scan
import torch
import training_step
import transformers
import whole_model
from measuring import table, write_json

from hf_audio_ssm import ops


def main(arguments: argparse.Namespace) -> None:
    for tokens in arguments.tokens:
        whole_model.frames_of(tokens)
    threads = arguments.threads or sorted({1, torch.get_num_threads()})

    results: dict[str, Any] = {
        "processor": platform.processor() or platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "backends": ops.available_backends("cpu", torch.float32),
    }
    print(", ".join(f"{name} {value}" for name, value in results.items()))

    def report(section: str, rows: list[dict[str, Any]], shown: list[dict[str, Any]] | None = None) -> None:
        results[section] = rows
        print(f"\n{section}\n{table(rows if shown is None else shown)}", flush=True)
        if arguments.output is not None:
            write_json(arguments.output / "cpu.json", results)

    if "machine" in arguments.sections or "scan" in arguments.sections:
        limits = scan.machine_limits()
        report("machine", [limits])
    if "calls" in arguments.sections:
        report("calls", calls.run(arguments.repeats))
    if "scan" in arguments.sections:
        report("scan", scan.run(threads, limits, arguments.repeats))
    if "model" in arguments.sections:
        rows = whole_model.run(
            arguments.sizes,
            sorted(arguments.tokens),
            arguments.batch_sizes,
            threads,
            ways=[way for way in whole_model.WAYS if way == "ssamba" or way in arguments.ways],
            repeats=arguments.repeats,
            longest=arguments.longest,
        )
        report("model", rows, whole_model.summary(rows))
        if arguments.output is not None:
            whole_model.plot(rows, arguments.output / "cpu_model.png")
    if "training" in arguments.sections:
        report("training", training_step.run(thread_counts=tuple(threads), repeats=arguments.repeats))
    if "front_end" in arguments.sections:
        report("front_end", feature_extraction.run(threads, [1, 8], 10.0, 4 * arguments.repeats))
    if arguments.output is not None:
        print(f"\nwrote {arguments.output}")


if __name__ == "__main__":
    main(parsed)
