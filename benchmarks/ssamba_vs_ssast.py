# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
SSAMBA and SSAST under the same conditions: the same clips, objective, optimiser and tokens; patches and frames for both.

    python benchmarks/ssamba_vs_ssast.py --output outputs/ssamba_vs_ssast

Four small encoders of the same width (SSAMBA with twice the layers, as in the published sizes) are pretrained on the
unlabelled training clips of the spoken words with `examples/run_pretrain.py` and its recipe for them, each at the learning
rate that does best for it in short runs. First all see the same number of clips; then all have the same time, that of the
slowest, by the seconds of a training step measured before. What they learned is what linear probes and fine-tuning make of it
on the test clips, whose voices are heard in no training; the mean and the standard deviation are over seeds of these.
Untrained encoders are beside them.

The folder gets `results.json`, `results.md`, `pretraining.png`, `accuracy.png` and all runs.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from measuring import interleaved_times, peak_memory, write_json
from pretraining_gain import EXAMPLES, pretrain
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tqdm import tqdm
from transformers import AutoConfig, AutoModelForPreTraining, set_seed
from transformers.utils import logging

import hf_audio_ssm  # noqa: F401 (makes the models known)
from hf_audio_ssm.classifiers import ClassifierArguments
from hf_audio_ssm.comparison import Comparison, ComparisonArguments
from hf_audio_ssm.data.labelled import LabelledDataArguments
from hf_audio_ssm.models.ssamba.feature_extraction_ssamba import SsambaFeatureExtractor
from hf_audio_ssm.plots import save_figure
from hf_audio_ssm.text_files import markdown_table, write_text


RECIPE = EXAMPLES / "configs" / "spoken_words.yaml"
WORDS = EXAMPLES / "spoken_words"
BATCH_SIZE = 16
# As many tokens, of as many values, either way.
SHAPES = {
    "patches": {"patch_size": [32, 4], "frequency_stride": 32, "time_stride": 4},
    "frames": {"patch_size": [128, 1], "frequency_stride": 128, "time_stride": 1},
}
ENCODERS = {
    "SSAMBA": ("ssamba", {"num_hidden_layers": 4, "state_size": 8, "drop_path_rate": 0.0}),
    "SSAST": ("ssast", {"num_hidden_layers": 2, "num_attention_heads": 3}),
}
WIDTH, FRAMES = 96, 96
# Ten seconds, as in the published pretraining.
LONG_FRAMES = 1024
# Method of the comparison -> passes over the training clips.
METHODS = {"linear": 30, "full": 6}
UNTRAINED, SAME_CLIPS, SAME_TIME = "untrained", "same clips", "same time"


def make_models() -> dict[str, tuple[str, dict[str, Any]]]:
    """Type and configuration of each model, by name."""
    return {
        f"{encoder}, {shape}": (
            model_type,
            {"hidden_size": WIDTH, "max_length": FRAMES, **fields, **SHAPES[shape]},
        )
        for encoder, (model_type, fields) in ENCODERS.items()
        for shape in SHAPES
    }


def make_step(model_type: str, fields: dict[str, Any], frames: int) -> Callable[[], None]:
    """A training step of pretraining: mask, forward, backward, AdamW."""
    set_seed(0)
    model = AutoModelForPreTraining.from_config(AutoConfig.for_model(model_type, **fields)).train()
    optimizer = torch.optim.AdamW(model.parameters())
    input_values = torch.randn(BATCH_SIZE, frames, 128)

    def step() -> None:
        model(input_values).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure_steps(budget: float) -> dict[str, dict[str, Any]]:
    """Of each model: parameters, and for short and long clips a step's median seconds and peak memory in bytes."""
    measured: dict[str, dict[str, Any]] = {}
    models = make_models()
    for name, (model_type, fields) in models.items():
        with torch.device("meta"):
            model = AutoModelForPreTraining.from_config(AutoConfig.for_model(model_type, **fields))
        measured[name] = {"parameters": model.base_model.num_parameters()}
    for frames in (FRAMES, LONG_FRAMES):
        steps = {name: make_step(*model, frames) for name, model in models.items()}
        for name, seconds in interleaved_times(steps, repeats=50, budget=budget / 2).items():
            measured[name][f"seconds, {frames} frames"] = statistics.median(seconds)
        for name, step in steps.items():
            measured[name][f"bytes, {frames} frames"] = peak_memory(step)[1]
    return measured


def run_pretraining(
    model: tuple[str, dict[str, Any]], steps: int, evaluations: int, learning_rate: float, folder: Path
) -> list[dict[str, float]]:
    """Pretrains a model into `folder`; returns its evaluations: `step`, `loss`, `nce`, `mse`, `accuracy`."""
    model_type, fields = model
    options = {
        "model_type": model_type,
        "config_overrides": json.dumps(fields),
        "max_steps": steps,
        "per_device_train_batch_size": BATCH_SIZE,
        "learning_rate": learning_rate,
        "warmup_steps": steps // 20,
        "eval_steps": -(-steps // evaluations),
        "save_steps": steps,
        "save_total_limit": 1,
        "num_workers": 0,
    }
    pretrain(RECIPE, 0, folder, [word for name, value in options.items() for word in (f"--{name}", value)])
    events = EventAccumulator(str(next((folder / "logs").rglob("events.out.*")).parent)).Reload()
    scalars = {name: events.Scalars(f"eval/{name}") for name in ("loss", "nce", "mse", "accuracy")}
    return [
        {"step": values[0].step, **{name: event.value for name, event in zip(scalars, values, strict=True)}}
        for values in zip(*scalars.values(), strict=True)
    ]


def last_checkpoint(folder: Path) -> Path:
    """The model at the end of a pretraining."""
    return max((folder / "evaluations").glob("step-*"), key=lambda path: int(path.name.removeprefix("step-")))


def classify(checkpoint: Path, seeds: list[int], folder: Path) -> dict[str, list[float]]:
    """Test accuracy of each method, a value for each seed."""
    clips = LabelledDataArguments(data=str(WORDS), check_clips=False).load()[0]
    accuracies = {}
    for method, epochs in METHODS.items():
        arguments = ComparisonArguments(output_dir=str(folder), methods=[method], epochs=epochs, batch_size=BATCH_SIZE)
        comparison = Comparison(ClassifierArguments(model=str(checkpoint), normalization="keep"), clips, arguments)
        accuracies[method] = [comparison.run(method, seed)[0]["accuracy"] for seed in seeds]
    return accuracies


def save_untrained(model: tuple[str, dict[str, Any]], trained: Path, folder: Path) -> Path:
    """The weights that pretraining began with, and the feature extractor that it had."""
    set_seed(0)
    AutoModelForPreTraining.from_config(AutoConfig.for_model(model[0], **model[1])).save_pretrained(folder)
    SsambaFeatureExtractor.from_pretrained(trained).save_pretrained(folder)
    return folder


def plot_pretraining(results: dict[str, Any]) -> Figure:
    """Loss on the validation clips over clips seen, and over time."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for name, model in results["models"].items():
        for axis, condition in zip(axes, (SAME_CLIPS, SAME_TIME), strict=True):
            curve = model["pretraining"][condition]["evaluations"]
            unit = BATCH_SIZE if condition == SAME_CLIPS else model[f"seconds, {FRAMES} frames"]
            axis.plot(
                [row["step"] * unit for row in curve],
                [row["loss"] for row in curve],
                color="tab:blue" if name.startswith("SSAMBA") else "tab:orange",
                linestyle="-" if name.endswith("patches") else "--",
                label=name,
            )
    axes[0].set(xlabel="clips seen", ylabel="validation loss", title="Same number of clips")
    axes[1].set(xlabel="seconds of training steps", title="Same time")
    axes[0].legend()
    return figure


def plot_accuracy(results: dict[str, Any]) -> Figure:
    """Test accuracy of each method, with standard deviations over seeds."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    axes = figure.subplots(1, len(METHODS), sharey=True)
    names = list(results["models"])
    conditions = (UNTRAINED, SAME_CLIPS, SAME_TIME)
    for axis, method in zip(axes, METHODS, strict=True):
        for offset, condition in enumerate(conditions):
            values = [results["models"][name]["accuracy"][condition][method] for name in names]
            places = np.arange(len(names)) + 0.27 * (offset - 1)
            axis.bar(places, np.mean(values, axis=1), 0.25, yerr=np.std(values, axis=1), label=condition)
        axis.set_xticks(range(len(names)), [name.replace(", ", "\n") for name in names])
        axis.set_title({"full": "fine-tuning"}.get(method, f"{method} probe"))
    axes[0].set_ylabel("test accuracy")
    axes[0].legend()
    return figure


def make_tables(results: dict[str, Any]) -> str:
    """All of it as Markdown."""
    sizes, losses, accuracies = [], [], []
    for name, model in results["models"].items():
        sizes.append(
            [
                name,
                f"{model['parameters']:,}",
                *(f"{1000 * model[f'seconds, {frames} frames']:.1f}" for frames in (FRAMES, LONG_FRAMES)),
                *(f"{(model[f'bytes, {frames} frames'] or 0) / 2**20:.0f}" for frames in (FRAMES, LONG_FRAMES)),
            ]
        )
        for condition in (SAME_CLIPS, SAME_TIME):
            run = model["pretraining"][condition]
            last = run["evaluations"][-1]
            losses.append(
                [
                    name,
                    condition,
                    f"{last['step'] * BATCH_SIZE:,}",
                    f"{last['step'] * model[f'seconds, {FRAMES} frames']:.0f}",
                    f"{model['learning_rate']:g}",
                    *(f"{last[key]:.3f}" for key in ("loss", "nce", "mse", "accuracy")),
                ]
            )
        for condition, methods in model["accuracy"].items():
            accuracies.append(
                [
                    name,
                    condition,
                    *(f"{100 * np.mean(values):.1f} ± {100 * np.std(values):.1f}" for values in methods.values()),
                ]
            )
    step_columns = [
        f"{unit}, {frames / 100:g} s" for unit in ("ms a step", "MiB a step") for frames in (FRAMES, LONG_FRAMES)
    ]
    loss_columns = ["clips seen", "seconds", "learning rate", "loss", "nce", "mse", "accuracy"]
    return "\n".join(
        [
            markdown_table(["", "encoder's parameters", *step_columns], sizes),
            markdown_table(["", "pretraining", *loss_columns], losses),
            markdown_table(["", "pretraining", "linear probe", "fine-tuning"], accuracies),
        ]
    )


def choose_learning_rates(
    candidates: list[float], steps: int, folder: Path
) -> tuple[dict[str, float], dict[str, dict[float, float]]]:
    """The learning rate of the lowest loss in short runs, for each model, and the losses of all."""
    chosen, losses = {}, {}
    for name, model in tqdm(make_models().items(), desc="learning rates", unit="model"):
        losses[name] = {
            rate: run_pretraining(model, steps, 1, rate, folder / f"{name}, {rate:g}")[-1]["loss"]
            for rate in candidates
        }
        chosen[name] = min(losses[name], key=losses[name].get)
    return chosen, losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("outputs/ssamba_vs_ssast"), help="folder for everything")
    parser.add_argument("--steps", type=int, default=300, help="of pretraining, where all see the same clips")
    parser.add_argument(
        "--learning_rates", type=float, nargs="+", default=[1e-3, 4e-3], help="to choose from for each model"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of probes and fine-tuning")
    parser.add_argument("--budget", type=float, default=90.0, help="seconds for measuring training steps")
    parser.add_argument("--threads", type=int, default=1, help="of everything; models this small gain little by more")
    parser.add_argument(
        "--only_measure", action="store_true", help="measure training steps, and leave the rest to another call"
    )
    arguments = parser.parse_args()
    if arguments.steps < 20 or not arguments.seeds or min(arguments.learning_rates) <= 0:
        parser.error("--steps must be at least 20, --learning_rates positive")
    output, begin = arguments.output.resolve(), time.perf_counter()
    logging.set_verbosity_error()
    torch.set_num_threads(arguments.threads)
    # For the pretraining script.
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)

    measured_path = output / "steps.json"
    if arguments.only_measure or not measured_path.exists():
        write_json(measured_path, measure_steps(arguments.budget))
    models = json.loads(measured_path.read_text(encoding="utf-8"))
    for name, row in models.items():
        print(name, row)
    if arguments.only_measure:
        return

    short = max(20, arguments.steps // 4)
    rates, tried = choose_learning_rates(arguments.learning_rates, short, output / "learning_rates")
    step_seconds = {name: model[f"seconds, {FRAMES} frames"] for name, model in models.items()}
    seconds = arguments.steps * max(step_seconds.values())
    for name, model in tqdm(make_models().items(), desc="models", unit="model"):
        result, folders = models[name], {}
        result |= {"learning_rate": rates[name], "learning_rates": tried[name], "pretraining": {}}
        for condition, steps in (
            (SAME_CLIPS, arguments.steps),
            (SAME_TIME, round(seconds / step_seconds[name])),
        ):
            if steps == arguments.steps and SAME_CLIPS in folders:
                # The slowest: both conditions are one.
                folders[condition] = folders[SAME_CLIPS]
                result["pretraining"][condition] = result["pretraining"][SAME_CLIPS]
                continue
            folders[condition] = output / f"{name}, {condition}"
            evaluations = run_pretraining(model, steps, 8, rates[name], folders[condition])
            result["pretraining"][condition] = {"steps": steps, "evaluations": evaluations}
        checkpoints = {condition: last_checkpoint(folder) for condition, folder in folders.items()}
        untrained = save_untrained(model, checkpoints[SAME_CLIPS], output / f"{name}, {UNTRAINED}")
        result["accuracy"] = {}
        for condition, checkpoint in {UNTRAINED: untrained, **checkpoints}.items():
            if condition == SAME_TIME and folders[SAME_TIME] == folders[SAME_CLIPS]:
                result["accuracy"][condition] = result["accuracy"][SAME_CLIPS]
            else:
                result["accuracy"][condition] = classify(
                    checkpoint, arguments.seeds, output / "classifiers" / f"{name}, {condition}"
                )

    results = {
        "torch": torch.__version__,
        "arguments": {name: str(value) for name, value in vars(arguments).items()},
        "seconds": time.perf_counter() - begin,
        "models": models,
    }
    write_json(output / "results.json", results)
    write_text(output / "results.md", make_tables(results))
    save_figure(plot_pretraining(results), output / "pretraining.png")
    save_figure(plot_accuracy(results), output / "accuracy.png")
    print(make_tables(results))
    print(f"{results['seconds'] / 60:.0f} minutes; wrote {output}")


if __name__ == "__main__":
    main()
