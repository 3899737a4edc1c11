# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
What patchout is worth: the time of a training step over the share of the tokens that is read, with a clip of ten seconds,
and the accuracy on the spoken words, with voices in the test that were not heard in training.

    python benchmarks/patchout.py --threads 2 --output outputs/benchmarks

Fine-tuning starts from the encoder that was pretrained without patchout from the same seed. What pretraining with patchout
has learned, a linear probe tells on the frozen encoder, as in pretraining_gain.py. The model and pretraining's settings are
those of examples/configs/spoken_words.yaml; nothing augments the clips, so that patchout stands alone.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def parse_command_line() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="tiny", choices=("tiny", "small", "base"), help="of the model that is timed")
    parser.add_argument("--batch_size", type=int, default=2, help="clips in a step that is timed")
    parser.add_argument("--repeats", type=int, default=7, help="steps that are timed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pretraining_steps", type=int, default=400)
    parser.add_argument("--fine_tuning_steps", type=int, default=300)
    parser.add_argument("--threads", type=int, help="default: as many as PyTorch uses")
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks"))
    return parser.parse_args()


if __name__ == "__main__":
    # --help and errors of usage do not wait for the libraries below.
    parsed = parse_command_line()

import numpy as np
import torch
import yaml
from matplotlib.figure import Figure
from measuring import interleaved_times, table, write_json
from pretraining_gain import EXAMPLES, embed, probe_accuracy
from tqdm import tqdm
from transformers import PreTrainedModel, get_cosine_schedule_with_warmup, set_seed

from hf_audio_ssm import SsambaConfig, SsambaFeatureExtractor, SsambaForAudioClassification, SsambaForPreTraining
from hf_audio_ssm.audio.decoding import read_audio
from hf_audio_ssm.data.folders import find_splits


NONE: dict[str, float] = {}
FIELDS = ("patchout", "time_patchout", "frequency_patchout")
TIMED = [NONE, *({field: share} for field in FIELDS for share in (0.25, 0.5, 0.75))]
FINE_TUNED = [NONE, *({field: share} for field in FIELDS for share in (0.25, 0.5))]
PRETRAINED = [NONE, {"patchout": 0.25}, {"patchout": 0.5}, {"time_patchout": 0.5}, {"frequency_patchout": 0.25}]
SECONDS = 10
BATCH_SIZE = 16
FINE_TUNING_RATE = 1e-3


def name_of(patchout: dict[str, float]) -> str:
    return ", ".join(f"{field} {share:g}" for field, share in patchout.items()) or "none"


# ---- Time ----


def count_tokens(model: PreTrainedModel, call: Callable[[], object]) -> int:
    """Tokens of a clip that the first layer reads."""
    counts = []
    layer = model.base_model.layers[0]
    handle = layer.register_forward_pre_hook(lambda module, inputs: counts.append(inputs[0].shape[1]))
    call()
    handle.remove()
    return counts[0]


def make_step(model: PreTrainedModel, batch_size: int) -> Callable[[], object]:
    """A step of training (forward, backward, AdamW) on noise."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    batch = {"input_values": torch.randn(batch_size, 100 * SECONDS - 2, model.config.num_mel_bins)}
    if isinstance(model, SsambaForAudioClassification):
        batch["labels"] = torch.zeros(batch_size, dtype=torch.long)

    def step() -> None:
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()

    return step


def time_steps(size: str, batch_size: int, repeats: int) -> list[dict[str, Any]]:
    """A row for each task and patchout."""
    rows = []
    for task, model_class in (("fine-tuning", SsambaForAudioClassification), ("pretraining", SsambaForPreTraining)):
        steps, tokens = {}, {}
        for patchout in TIMED:
            torch.manual_seed(0)
            config = getattr(SsambaConfig, size)(num_labels=10, max_length=100 * SECONDS, **patchout)
            model = model_class(config).train()
            name = name_of(patchout)
            steps[name] = make_step(model, batch_size)
            tokens[name] = count_tokens(model, steps[name])
        times = interleaved_times(steps, repeats, warm_ups=1)
        seconds = {name: statistics.median(values) for name, values in times.items()}
        rows += [
            {
                "task": task,
                "patchout": name,
                "tokens": tokens[name],
                "share of tokens": tokens[name] / tokens["none"],
                "seconds a step": seconds[name],
                "share of time": seconds[name] / seconds["none"],
            }
            for name in steps
        ]
    return rows


# ---- Accuracy ----


def load_words(config: SsambaConfig) -> tuple[dict[str, torch.Tensor], dict[str, list[str]]]:
    """Filter banks `(clips, frames, mel bins)` and labels of the splits."""
    clips = find_splits(EXAMPLES / "spoken_words", seed=0)
    feature_extractor = SsambaFeatureExtractor(max_length=config.max_length)
    rate = feature_extractor.sampling_rate
    samples = {split: [read_audio(path, rate) for path, _ in rows] for split, rows in clips.items()}
    statistic = feature_extractor.compute_mean_std(samples["train"], sampling_rate=rate)
    feature_extractor.mean, feature_extractor.std = statistic
    inputs = {
        split: feature_extractor(waveforms, sampling_rate=rate, return_tensors="pt").input_values
        for split, waveforms in samples.items()
    }
    return inputs, {split: [label for _, label in rows] for split, rows in clips.items()}


def train(
    model: PreTrainedModel,
    batches: dict[str, torch.Tensor],
    steps: int,
    learning_rate: float,
    recipe: dict[str, Any],
    name: str,
) -> float:
    """Trains in place; returns the seconds of a step."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": recipe["weight_decay"]}, {"params": vectors, "weight_decay": 0.0}],
        lr=learning_rate,
        betas=(recipe["adam_beta1"], recipe["adam_beta2"]),
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, steps // 20, steps)
    model.train()
    order, begin = torch.empty(0, dtype=torch.long), time.perf_counter()
    for _ in tqdm(range(steps), desc=name, unit="step", leave=False):
        if len(order) < BATCH_SIZE:
            order = torch.cat((order, torch.randperm(len(batches["input_values"]))))
        chosen, order = order[:BATCH_SIZE], order[BATCH_SIZE:]
        optimizer.zero_grad()
        model(**{key: values[chosen] for key, values in batches.items()}).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe["max_grad_norm"])
        optimizer.step()
        schedule.step()
    return (time.perf_counter() - begin) / steps


@torch.no_grad()
def test_accuracy(model: PreTrainedModel, inputs: torch.Tensor, classes: torch.Tensor) -> float:
    model.eval()
    return float((model(inputs).logits.argmax(dim=1) == classes).float().mean())


def compare_accuracies(seeds: list[int], pretraining_steps: int, fine_tuning_steps: int) -> list[dict[str, Any]]:
    """A row for each task, patchout and seed."""
    recipe = yaml.safe_load((EXAMPLES / "configs" / "spoken_words.yaml").read_text(encoding="utf-8"))
    fields = recipe["config_overrides"]
    inputs, labels = load_words(SsambaConfig(**fields))
    names = sorted(set(labels["train"]))
    classes = {split: torch.tensor([names.index(label) for label in labels[split]]) for split in labels}
    rows = []
    for seed in seeds:
        encoder_weights = None
        for patchout in PRETRAINED:
            set_seed(seed)
            model = SsambaForPreTraining(SsambaConfig(**fields, **patchout))
            seconds = train(
                model,
                {"input_values": inputs["train"]},
                pretraining_steps,
                recipe["learning_rate"],
                recipe,
                f"Pretraining, {name_of(patchout)}, seed {seed}",
            )
            features = {split: embed(model, values) for split, values in inputs.items()}
            accuracy = probe_accuracy(features, labels)
            row = {"task": "pretraining", "patchout": name_of(patchout), "seed": seed}
            rows.append({**row, "test accuracy": accuracy, "seconds a step": seconds})
            if encoder_weights is None:
                encoder_weights = {
                    key: value for key, value in model.base_model.state_dict().items() if "mask_token" not in key
                }
        for patchout in FINE_TUNED:
            set_seed(seed)
            model = SsambaForAudioClassification(SsambaConfig(**fields, **patchout, num_labels=len(names)))
            model.base_model.load_state_dict(encoder_weights)
            seconds = train(
                model,
                {"input_values": inputs["train"], "labels": classes["train"]},
                fine_tuning_steps,
                FINE_TUNING_RATE,
                recipe,
                f"Fine-tuning, {name_of(patchout)}, seed {seed}",
            )
            accuracy = test_accuracy(model, inputs["test"], classes["test"])
            row = {"task": "fine-tuning", "patchout": name_of(patchout), "seed": seed}
            rows.append({**row, "test accuracy": accuracy, "seconds a step": seconds})
    return rows


def summarize(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The accuracies of the seeds, one row for each task and patchout."""
    summary = []
    for task, patchout in dict.fromkeys((row["task"], row["patchout"]) for row in rows):
        chosen = [row for row in rows if (row["task"], row["patchout"]) == (task, patchout)]
        accuracies = [row["test accuracy"] for row in chosen]
        summary.append(
            {
                "task": task,
                "patchout": patchout,
                "test accuracy": float(np.mean(accuracies)),
                "lowest": min(accuracies),
                "highest": max(accuracies),
                "seconds a step": float(np.mean([row["seconds a step"] for row in chosen])),
            }
        )
    return summary


def draw(times: list[dict[str, Any]], accuracies: list[dict[str, Any]], path: Path) -> None:
    """Left, a step's time over the tokens that it reads; right, the accuracies."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.2))
    left.plot([0, 1], [0, 1], color="tab:gray", linestyle=":", label="in proportion")
    for task, marker in (("fine-tuning", "o"), ("pretraining", "x")):
        for field, colour in zip(FIELDS, ("tab:blue", "tab:orange", "tab:green"), strict=True):
            chosen = [row for row in times if row["task"] == task and row["patchout"].split()[0] == field]
            shares = [[row[key] for row in chosen] for key in ("share of tokens", "share of time")]
            left.plot(*shares, marker=marker, linestyle="", color=colour, label=f"{field}, {task}")
    left.set(xlabel="share of the tokens", ylabel="share of a step's time", xlim=(0, 1.05), ylim=(0, 1.05))
    left.legend(fontsize=8)
    summary = summarize(accuracies)[::-1]
    for place, row in enumerate(summary):
        seeds = [
            other["test accuracy"]
            for other in accuracies
            if (other["task"], other["patchout"]) == (row["task"], row["patchout"])
        ]
        colour = "tab:blue" if row["task"] == "fine-tuning" else "tab:purple"
        right.plot(seeds, [place] * len(seeds), marker=".", linestyle="", color=colour, alpha=0.5)
        right.plot(row["test accuracy"], place, marker="|", markersize=16, color=colour)
    right.set_yticks(range(len(summary)), [f"{row['task']}: {row['patchout']}" for row in summary], fontsize=8)
    right.set(xlabel="test accuracy (points: seeds; lines: their means)")
    right.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=100)


def main(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads or torch.get_num_threads())
    times = time_steps(arguments.size, arguments.batch_size, arguments.repeats)
    print(table(times), flush=True)
    accuracies = compare_accuracies(arguments.seeds, arguments.pretraining_steps, arguments.fine_tuning_steps)
    print(table(summarize(accuracies)))
    write_json(arguments.output / "patchout.json", {"times": times, "accuracies": accuracies})
    draw(times, accuracies, arguments.output / "patchout.png")


if __name__ == "__main__":
    main(parsed)
