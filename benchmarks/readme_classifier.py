# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
The classifier of the README's "Fine-tune and publish", trained by its own commands, and tested on its test clips, on these with
silence around them, quieter and with noise, and on the voices of another synthesiser, flite, as it writes them.

    python benchmarks/readme_classifier.py --seeds 42 1 2
    python benchmarks/readme_classifier.py --pretrained outputs/spoken_words/best

Needs the program `flite` with the voices of Debian's package (`apt-get install flite`). `--output` gets all runs, and `--json`
the results. Words after `--more` are further arguments of the fine-tuning: `--more --vary_recordings false`.
"""

import argparse
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


ROOT = Path(__file__).resolve().parents[1]


def parse_command_line() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42], help="one fine-tuning each; 42 is the default's")
    parser.add_argument(
        "--pretrained", type=Path, help="what the README's first command leaves, if it has run already"
    )
    parser.add_argument("--output", type=Path, default=Path("outputs/readme_classifier"), help="folder for all runs")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "readme_classifier.json")
    parser.add_argument("--more", nargs=argparse.REMAINDER, default=[], help="further arguments of the fine-tuning")
    return parser.parse_args()


if __name__ == "__main__":
    # --help and errors of usage do not wait for the libraries below.
    parsed = parse_command_line()

import torch
import transformers
from measuring import table, write_json
from tqdm import tqdm

from hf_audio_ssm.evaluation.robustness import CHANGES
from hf_audio_ssm.training.robustness import UNCHANGED


sys.path.insert(0, str(ROOT / "examples"))

from make_spoken_words import WORDS


VOICES = ("awb", "kal", "rms", "slt")


def speak(folder: Path) -> None:
    """Writes `folder/<word>/<voice>.wav`: each word by each voice of flite, with the silence that flite puts around it."""
    for word in tqdm(WORDS, desc="flite", unit="word"):
        (folder / word).mkdir(parents=True, exist_ok=True)
        for voice in VOICES:
            output = folder / word / f"{voice}.wav"
            subprocess.run(["flite", "-voice", voice, "-t", word, "-o", str(output)], check=True)


def readme_commands() -> tuple[list[str], list[str]]:
    """The README's commands that pretrain and fine-tune, as lists of words, without the push."""
    block = re.search(
        r"<!-- snippet: publish -->\n```bash\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL
    )
    _, pretrain, tune = block[1].replace("\\\n", " ").splitlines()
    tune = re.sub(r" --(push_to_hub|hub_model_id) \S+", "", tune)
    return shlex.split(pretrain)[1:], shlex.split(tune)[1:]


def run(words: list[Any], log: Path) -> float:
    """Runs one of the examples; returns the seconds that it took. What it prints goes to a file."""
    start = time.perf_counter()
    with open(log, "wb") as file:
        subprocess.run([sys.executable, *map(str, words)], check=True, cwd=ROOT, stdout=file, stderr=file)
    return time.perf_counter() - start


def measure(
    seed: int, tune: list[str], pretrained: Path, voices: Path, folder: Path, more: list[str]
) -> dict[str, Any]:
    """Fine-tunes with a seed; returns a row of the table, accuracies in %."""
    own = ["--model", pretrained, "--output_dir", folder, "--seed", seed, "--robustness_data", voices]
    seconds = run([*tune, *own, "--report_to", "none", "--disable_tqdm", "true", *more], folder.with_suffix(".log"))
    robustness = json.loads((folder / "test_results.json").read_text("utf-8"))["test_robustness"]
    # The file has the rows sorted by name.
    accuracies = {name: round(100 * robustness[name], 1) for name in (UNCHANGED, *CHANGES)}
    accuracies["flite"] = round(100 * robustness[f"clips of {voices}"], 1)
    return {"seed": seed, **accuracies, "seconds": round(seconds)}


def describe_machine() -> dict[str, str]:
    """The processor, the versions and the commit."""
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return {
        "processor": names[0] if names else platform.processor(),
        "threads": os.environ.get("OMP_NUM_THREADS", str(torch.get_num_threads())),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "commit": commit.stdout.strip(),
    }


def main(arguments: argparse.Namespace) -> None:
    output = arguments.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    voices = output / "flite"
    speak(voices)
    pretrain, tune = readme_commands()
    pretrained = arguments.pretrained
    if pretrained is None:
        run([*pretrain, "--output_dir", output / "pretrained"], output / "pretraining.log")
        pretrained = output / "pretrained" / "best"

    rows = []
    for seed in arguments.seeds:
        rows.append(measure(seed, tune, pretrained.resolve(), voices, output / f"seed-{seed}", arguments.more))
        names = list(rows[0])[1:]
        means = {name: round(statistics.mean(row[name] for row in rows), 1) for name in names}
        lines = [
            {"clips": name, **{str(row["seed"]): row[name] for row in rows}, "mean": means[name]} for name in names
        ]
        print(table(lines), flush=True)
        results = {
            **describe_machine(),
            "command": shlex.join(["python", "benchmarks/readme_classifier.py", *sys.argv[1:]]),
            "fine-tuning": shlex.join(["python", *tune, *arguments.more]),
            "unit": "accuracy in %",
            "runs": rows,
            "mean": means,
        }
        write_json(arguments.json, results)
    print(f"wrote {arguments.json}")


if __name__ == "__main__":
    main(parsed)
