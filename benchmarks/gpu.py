# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
What is fast on a GPU, measured side by side in one run: the scan against mamba-ssm's kernels (built first where they are not
installed and nvcc is there) and plain PyTorch, the whole model against AST with SSAST's dimensions in inference and training, up to the longest input that
fits, and where the time of a training step goes, beside the GPU's own limits. Calls alternate, medians of CUDA events.

    python benchmarks/gpu.py --output outputs/benchmarks             # everything
    python benchmarks/gpu.py --sections scan --sizes tiny            # some of it
    python benchmarks/gpu.py --sections inference --sizes tiny --batch_sizes 4 --tokens 22017
"""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

from hf_audio_ssm.common.definitions import read_names


SECTIONS = ("scan", "inference", "training", "profile")
SIZES = read_names("whole_model", "SIZES")
TOKENS = read_names("gpu_model", "TOKENS")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS, help="what to measure")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--tokens", nargs="+", type=int, default=list(TOKENS), help="1 + multiples of 8")
    parser.add_argument("--batch_sizes", nargs="+", type=int, default=[4, 1, 64], help="clips a batch of the model")
    parser.add_argument("--repeats", type=int, default=10, help="measured rounds at most")
    parser.add_argument("--longest", type=float, default=20.0, help="leave out what should take more seconds a call")
    parser.add_argument(
        "--builds",
        type=Path,
        default=Path("outputs/mamba_ssm"),
        help="folder that mamba-ssm is built in where it is missing, and found in the next time",
    )
    parser.add_argument("--output", type=Path, help="folder for the JSON file and the plots")
    return parser


def parse_command_line() -> argparse.Namespace:
    parser = make_parser()
    arguments = parser.parse_args()
    for name in ("batch_sizes", "repeats"):
        values = getattr(arguments, name)
        if min(values if isinstance(values, list) else [values]) < 1:
            parser.error(f"--{name} must be at least 1, got {values}")
    return arguments


if __name__ == "__main__":
    # --help and errors of usage do not wait for the libraries below.
    parsed = parse_command_line()

import gpu_mamba_ssm
import gpu_model
import gpu_scan
import torch
import transformers
import whole_model
from gpu_measuring import Limits, Meter
from measuring import table, write_json

from hf_audio_ssm import ops


SCAN_SIZES, SCAN_TOKENS, SCAN_BATCH_SIZES = ("tiny", "base"), (513, 22017), (4, 64)
PROFILED_TOKENS, PROFILED_BATCH_SIZE = 513, 64


def run(arguments: argparse.Namespace, meter: Meter, limits: Limits, results: dict[str, Any]) -> None:
    """Measures the asked sections, adds them to the results, prints and writes them."""

    def report(section: str, rows: list[dict[str, Any]], shown: list[dict[str, Any]] | None = None) -> None:
        results[section] = rows
        print(f"\n{section}\n{table(rows if shown is None else shown)}", flush=True)
        if arguments.output is not None:
            write_json(arguments.output / "gpu.json", results)

    if "scan" in arguments.sections:
        sizes = [size for size in SCAN_SIZES if size in arguments.sizes]
        rows = gpu_scan.run(meter, limits, sizes, SCAN_TOKENS, SCAN_BATCH_SIZES, repeats=arguments.repeats)
        report("scan", rows)
    for kind in gpu_model.KINDS:
        if kind in arguments.sections:
            rows = gpu_model.run(
                meter,
                kind,
                arguments.sizes,
                sorted(arguments.tokens),
                arguments.batch_sizes,
                repeats=arguments.repeats,
                longest=arguments.longest,
            )
            report(kind, rows, gpu_model.summary(rows))
            if arguments.output is not None:
                whole_model.plot(rows, arguments.output / f"gpu_{kind}.png")
    if "profile" in arguments.sections:
        size = arguments.sizes[0]
        report("profile", gpu_model.profile(size, PROFILED_TOKENS, PROFILED_BATCH_SIZE, limits))
    model_rows = results.get("inference", []) + results.get("training", [])
    report("claims", gpu_model.claims(model_rows, results.get("scan", []), results.get("profile", [])))
    if arguments.output is not None:
        print(f"\nwrote {arguments.output}")


def main(arguments: argparse.Namespace) -> None:
    for tokens in arguments.tokens:
        whole_model.frames_of(tokens)
    if not torch.cuda.is_available():
        sys.exit("benchmarks/gpu.py needs a GPU, and torch finds none; benchmarks/cpu.py measures the processor.")

    # Before the package asks whether they are there.
    without_mamba_ssm = gpu_mamba_ssm.provide(arguments.builds) if "scan" in arguments.sections else None
    import gpu_machine

    meter = Meter("cuda")
    limits = gpu_machine.measure(meter, torch.bfloat16, arguments.repeats)
    results = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "backends": ops.explain_backends("cuda"),
        "limits": dataclasses.asdict(limits),
    }
    if without_mamba_ssm is not None:
        results["without mamba-ssm"] = without_mamba_ssm
    print("\n".join(f"{name}: {value}" for name, value in results.items()))
    run(arguments, meter, limits, results)


if __name__ == "__main__":
    main(parsed)
