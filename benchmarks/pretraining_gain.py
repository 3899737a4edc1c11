# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
What pretraining is worth: a linear probe on an encoder pretrained on the unlabelled training clips of the spoken words, and
the same probe on the same encoder untrained. The test clips' voices are heard in neither.

    python benchmarks/pretraining_gain.py --output outputs/pretraining_gain

Both encoders stay as they are. The probe is a logistic regression on the clips' mean patch tokens, standardised by the
training clips; its strength of regularisation is the one that does best on the validation clips' voices.
"""

import argparse
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path


EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def parse_command_line() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--config", type=Path, default=EXAMPLES / "configs" / "spoken_words.yaml", help="of the script"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one run each")
    parser.add_argument("--output", type=Path, default=Path("outputs/pretraining_gain"), help="folder for all runs")
    return parser.parse_known_args()


if __name__ == "__main__":
    # --help and errors of usage do not wait for the libraries below.
    parsed = parse_command_line()

import numpy as np
import torch
from measuring import table, write_json
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForPreTraining, PreTrainedModel, set_seed

import hf_audio_ssm  # noqa: F401 (makes the models known)
from hf_audio_ssm.audio.decoding import read_audio
from hf_audio_ssm.data.folders import find_splits


STRENGTHS = [10.0**exponent for exponent in range(-4, 4)]
TARGET_GAIN = 0.15


def pretrain(config: Path, seed: int, folder: Path, more: list[str], log: Path | None = None) -> float:
    """Pretrains into `folder` with the script, and returns the seconds that it took; what it prints goes to a file `log`."""
    command = [sys.executable, EXAMPLES / "run_pretrain.py", config, "--seed", seed, "--output_dir", folder, *more]
    start = time.perf_counter()
    with open(log, "wb") if log else nullcontext() as file:
        subprocess.run(list(map(str, command)), check=True, cwd=EXAMPLES.parent, stdout=file, stderr=file)
    return time.perf_counter() - start


@torch.no_grad()
def embed(model: PreTrainedModel, inputs: torch.Tensor) -> np.ndarray:
    """Mean patch tokens, (clips, hidden size)."""
    model.eval()
    return torch.cat([model.base_model(batch).pooler_output for batch in inputs.split(64)]).numpy()


def probe_accuracy(features: dict[str, np.ndarray], labels: dict[str, list[str]]) -> float:
    """Test accuracy of the probe."""
    candidates = []
    for strength in STRENGTHS:
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=5000))
        probe.fit(features["train"], labels["train"])
        loss = log_loss(labels["validation"], probe.predict_proba(features["validation"]), labels=probe.classes_)
        candidates.append((probe.score(features["validation"], labels["validation"]), -loss, strength, probe))
    probe = max(candidates)[-1]
    return float(probe.score(features["test"], labels["test"]))


def measure(config: Path, seed: int, folder: Path, more: list[str]) -> dict[str, float]:
    """One row of the table."""
    seconds = pretrain(config, seed, folder, more)
    feature_extractor = AutoFeatureExtractor.from_pretrained(folder / "best")
    pretrained = AutoModelForPreTraining.from_pretrained(folder / "best")
    # The weights that the script began with.
    set_seed(seed)
    untrained = AutoModelForPreTraining.from_config(AutoConfig.from_pretrained(folder / "best"))

    rate = feature_extractor.sampling_rate
    clips = find_splits(EXAMPLES / "spoken_words", seed=0)
    labels = {split: [label for _, label in rows] for split, rows in clips.items()}
    inputs = {
        split: feature_extractor(
            [read_audio(path, rate) for path, _ in rows], sampling_rate=rate, return_tensors="pt"
        ).input_values
        for split, rows in clips.items()
    }
    accuracies = {
        name: probe_accuracy({split: embed(model, values) for split, values in inputs.items()}, labels)
        for name, model in (("untrained", untrained), ("pretrained", pretrained))
    }
    gain = accuracies["pretrained"] - accuracies["untrained"]
    return {"seed": seed, **accuracies, "gain": gain, "pretraining_seconds": seconds}


def main(arguments: argparse.Namespace, more: list[str]) -> None:
    rows = [
        measure(arguments.config.resolve(), seed, (arguments.output / f"seed-{seed}").resolve(), more)
        for seed in arguments.seeds
    ]
    columns = list(rows[0])[1:]
    print(table([*rows, {"seed": "mean", **{name: statistics.mean(row[name] for row in rows) for name in columns}}]))
    gain = statistics.mean(row["gain"] for row in rows)
    print(f"mean gain {100 * gain:.1f} points (target: at least {100 * TARGET_GAIN:.0f})")
    write_json(arguments.output / "results.json", {"torch": torch.__version__, "results": rows})
    print(f"wrote {arguments.output / 'results.json'}")


if __name__ == "__main__":
    main(*parsed)
