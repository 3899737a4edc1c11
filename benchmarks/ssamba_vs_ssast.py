# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
SSAMBA and SSAST under the same conditions: the same clips, objective, optimiser and tokens; patches and frames for both.

    python benchmarks/ssamba_vs_ssast.py --output outputs/ssamba_vs_ssast

Four small encoders of the same width (SSAMBA with twice the layers, as in the published sizes) are pretrained on the
unlabelled training clips of the spoken words with `examples/run_pretrain.py` and its recipe for them. First all see the same
number of clips, each at the learning rate of the lowest validation loss; then all have the same time, that of the slowest, by
the seconds of a training step measured before. What they learned is what linear probes and fine-tuning make of it on the test
clips, whose voices are heard in no training; fine-tuning is at the learning rate of the highest validation accuracy. Untrained
encoders are beside them. Each seed is a pretraining of its own, with its own probe and fine-tuning; means and standard
deviations are over seeds.

The folder gets `results.json`, `results.md`, `pretraining.png`, `accuracy.png` and all runs. A later call goes on from the
measured steps and the finished runs that it finds there.
"""

import argparse
import json
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any


def parse_command_line() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("outputs/ssamba_vs_ssast"), help="folder for everything")
    parser.add_argument("--steps", type=int, default=500, help="of pretraining, where all see the same clips")
    parser.add_argument(
        "--learning_rates", type=float, nargs="+", default=[1e-3, 2e-3, 4e-3], help="to choose from for each model"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of pretraining, probes, fine-tuning")
    parser.add_argument("--budget", type=float, default=90.0, help="seconds for measuring training steps")
    parser.add_argument("--threads", type=int, default=1, help="of each run; models this small gain little by more")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time; training steps are measured alone")
    parser.add_argument(
        "--only_measure", action="store_true", help="measure training steps, and leave the rest to another call"
    )
    arguments = parser.parse_args()
    if min(arguments.steps // 20, arguments.threads, arguments.workers) < 1 or min(arguments.learning_rates) <= 0:
        parser.error("--steps must be at least 20, --threads and --workers at least 1, --learning_rates positive")
    return arguments


if __name__ == "__main__":
    # --help and errors of usage do not wait for the libraries below.
    parsed = parse_command_line()

import numpy as np
import torch
from matplotlib.figure import Figure
from measuring import interleaved_times, peak_memory, write_json
from pretraining_gain import EXAMPLES, pretrain
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tqdm import tqdm
from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForPreTraining, PrinterCallback, set_seed
from transformers.utils import logging

import hf_audio_ssm  # noqa: F401 (makes the models known)
from hf_audio_ssm.common.text_files import markdown_table, write_text
from hf_audio_ssm.data.labelled import LabelledDataArguments
from hf_audio_ssm.inference.plots import save_figure
from hf_audio_ssm.training.classifiers import ClassifierArguments
from hf_audio_ssm.training.comparison import Comparison, ComparisonArguments
from hf_audio_ssm.training.fine_tuning import make_trainer


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
PROBE_EPOCHS, FINE_TUNING_EPOCHS = 30, 6
FINE_TUNING_RATES = (3e-4, 1e-3)
UNTRAINED, SAME_CLIPS, SAME_TIME = CONDITIONS = ("untrained", "same clips", "same time")
PROBE, FINE_TUNING = METHODS = ("linear probe", "fine-tuning")
LOSSES = ("loss", "nce", "mse", "accuracy")


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


def run_pretraining(name: str, steps: int, learning_rate: float, seed: int, output: Path) -> dict[str, Any]:
    """
    Pretrains a model, unless that is done.

    Returns:
        `folder`, `steps`, and `evaluations`: of each its `step`, `loss`, `nce`, `mse` and `accuracy`.
    """
    folder = output / f"{name}, {steps} steps, {learning_rate:g}, seed {seed}"
    result_path = folder / "pretraining.json"
    if not result_path.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        model_type, fields = make_models()[name]
        options = {
            "model_type": model_type,
            "config_overrides": json.dumps(fields),
            "max_steps": steps,
            "per_device_train_batch_size": BATCH_SIZE,
            "learning_rate": learning_rate,
            "warmup_steps": steps // 20,
            "eval_steps": -(-steps // 8),
            "save_steps": steps,
            "save_total_limit": 1,
            "num_workers": 0,
            # Reading audio would take the same time beside each model's steps.
            "cache_dir": output / "filter_banks",
        }
        more = [word for name, value in options.items() for word in (f"--{name}", value)]
        pretrain(RECIPE, seed, folder, more, log=folder / "log.txt")
        events = EventAccumulator(str(next((folder / "logs").rglob("events.out.*")).parent)).Reload()
        curves = [events.Scalars(f"eval/{loss}") for loss in LOSSES]
        evaluations = [
            {"step": values[0].step, **{loss: event.value for loss, event in zip(LOSSES, values, strict=True)}}
            for values in zip(*curves, strict=True)
        ]
        write_json(result_path, {"folder": str(folder), "steps": steps, "evaluations": evaluations})
    return json.loads(result_path.read_text(encoding="utf-8"))


def classify(checkpoint: Path, seed: int, folder: Path) -> dict[str, Any]:
    """
    Probes and fine-tunes a model, unless that is done.

    Returns:
        By method and (of fine-tuning) learning rate: accuracy on the `validation` and the `test` clips.
    """
    result_path = folder / "accuracy.json"
    if not result_path.exists():
        clips = LabelledDataArguments(data=str(WORDS), check_clips=False).load()[0]
        arguments = ComparisonArguments(
            output_dir=str(folder / "classifiers"),
            methods=["linear"],
            epochs=PROBE_EPOCHS,
            encoder_epochs=FINE_TUNING_EPOCHS,
            batch_size=BATCH_SIZE,
        )
        classifier = ClassifierArguments(model=str(checkpoint), normalization="keep", max_length=FRAMES)
        comparison = Comparison(classifier, clips, arguments)
        splits = ("validation", "test")
        probe = {split: comparison.run("linear", seed, split=split)[0]["accuracy"] for split in splits}
        tuned = {}
        for rate in FINE_TUNING_RATES:
            set_seed(seed)
            training = comparison.training_arguments("full", seed, learning_rate=rate)
            trainer = make_trainer(classifier.load_model(clips), comparison.feature_extractor, clips, training)
            trainer.remove_callback(PrinterCallback)
            trainer.train()
            tuned[f"{rate:g}"] = {
                split: trainer.predict(clips.splits[split]).metrics["test_accuracy"] for split in splits
            }
        write_json(result_path, {PROBE: probe, FINE_TUNING: tuned})
    return json.loads(result_path.read_text(encoding="utf-8"))


def run_trained(name: str, steps: int, learning_rate: float, seed: int, output: Path) -> dict[str, Any]:
    """Pretrains a model, and adds its accuracies to what [`run_pretraining`] returns."""
    result = run_pretraining(name, steps, learning_rate, seed, output)
    folder = Path(result["folder"])
    return {**result, "accuracy": classify(last_checkpoint(folder), seed, folder)}


def run_untrained(name: str, seed: int, trained: Path, output: Path) -> dict[str, Any]:
    """The same for the weights that a pretraining of this seed begins with; its feature extractor is the `trained` model's."""
    folder = output / f"{name}, {UNTRAINED}, seed {seed}"
    model_type, fields = make_models()[name]
    set_seed(seed)
    AutoModelForPreTraining.from_config(AutoConfig.for_model(model_type, **fields)).save_pretrained(folder / "model")
    AutoFeatureExtractor.from_pretrained(trained).save_pretrained(folder / "model")
    return {"folder": str(folder), "steps": 0, "evaluations": [], "accuracy": classify(folder / "model", seed, folder)}


def last_checkpoint(folder: Path) -> Path:
    """The model at the end of a pretraining."""
    return max((folder / "evaluations").glob("step-*"), key=lambda path: int(path.name.removeprefix("step-")))


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """A condition of a model, of its runs with each seed: fine-tuning at the better learning rate of all seeds together."""

    def mean_validation(rate: str) -> float:
        return statistics.mean(run["accuracy"][FINE_TUNING][rate]["validation"] for run in runs)

    rate = max(runs[0]["accuracy"][FINE_TUNING], key=mean_validation)
    return {
        "steps": runs[0]["steps"],
        "evaluations": [run["evaluations"] for run in runs],
        "fine_tuning_rate": float(rate),
        PROBE: [run["accuracy"][PROBE]["test"] for run in runs],
        FINE_TUNING: [run["accuracy"][FINE_TUNING][rate]["test"] for run in runs],
        "runs": runs,
    }


def spread(values: Iterable[float], digits: int) -> str:
    """Mean and, of more than one, standard deviation."""
    values = list(values)
    text = f"{statistics.mean(values):.{digits}f}"
    return f"{text} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else text


def plot_pretraining(results: dict[str, Any]) -> Figure:
    """Loss on the validation clips over clips seen, and over time: a line for each seed."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for name, model in results["models"].items():
        for axis, condition in zip(axes, (SAME_CLIPS, SAME_TIME), strict=True):
            unit = BATCH_SIZE if condition == SAME_CLIPS else model[f"seconds, {FRAMES} frames"]
            for number, curve in enumerate(model["conditions"][condition]["evaluations"]):
                axis.plot(
                    [row["step"] * unit for row in curve],
                    [row["loss"] for row in curve],
                    color="tab:blue" if name.startswith("SSAMBA") else "tab:orange",
                    linestyle="-" if name.endswith("patches") else "--",
                    linewidth=1,
                    label=None if number else name,
                )
    axes[0].set(xlabel="clips seen", ylabel="validation loss", title="Same number of clips")
    axes[1].set(xlabel="seconds of training steps", title="Same time")
    axes[0].legend()
    return figure


def plot_accuracy(results: dict[str, Any]) -> Figure:
    """Test accuracy of each method: means, and dots for the seeds."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    axes = figure.subplots(1, len(METHODS), sharey=True)
    names = list(results["models"])
    for axis, method in zip(axes, METHODS, strict=True):
        for offset, condition in enumerate(CONDITIONS):
            values = np.array([results["models"][name]["conditions"][condition][method] for name in names])
            places = np.arange(len(names)) + 0.27 * (offset - 1)
            axis.bar(places, values.mean(axis=1), 0.25, label=condition)
            axis.plot(places, values, "k.", markersize=4)
        axis.set_xticks(range(len(names)), [name.replace(", ", "\n") for name in names])
        axis.set_title(method)
    axes[0].set_ylabel("test accuracy")
    axes[0].legend()
    return figure


def make_tables(results: dict[str, Any]) -> str:
    """All of it as Markdown."""
    sizes, losses, accuracies = [], [], []
    for name, model in results["models"].items():
        megabytes = [model[f"bytes, {frames} frames"] for frames in (FRAMES, LONG_FRAMES)]
        sizes.append(
            [
                name,
                f"{model['parameters']:,}",
                *(f"{1000 * model[f'seconds, {frames} frames']:.1f}" for frames in (FRAMES, LONG_FRAMES)),
                *("-" if value is None else f"{value / 2**20:.0f}" for value in megabytes),
            ]
        )
        for condition, summary in model["conditions"].items():
            if condition != UNTRAINED:
                last = [curve[-1] for curve in summary["evaluations"]]
                losses.append(
                    [
                        name,
                        condition,
                        f"{summary['steps'] * BATCH_SIZE:,}",
                        f"{summary['steps'] * model[f'seconds, {FRAMES} frames']:.0f}",
                        f"{model['learning_rate']:g}",
                        *(spread((row[key] for row in last), 3) for key in LOSSES),
                    ]
                )
            accuracies.append(
                [
                    name,
                    condition,
                    *(spread((100 * value for value in summary[method]), 1) for method in METHODS),
                    f"{summary['fine_tuning_rate']:g}",
                ]
            )
    step_columns = [
        f"{unit}, {frames / 100:g} s" for unit in ("ms a step", "MiB a step") for frames in (FRAMES, LONG_FRAMES)
    ]
    loss_columns = ["clips seen", "seconds", "learning rate", *LOSSES]
    return "\n".join(
        [
            markdown_table(["", "encoder's parameters", *step_columns], sizes),
            markdown_table(["", "pretraining", *loss_columns], losses),
            markdown_table(["", "pretraining", *METHODS, "learning rate of fine-tuning"], accuracies),
        ]
    )


def limit_threads(threads: int) -> None:
    """Of this process, and of the pretraining script that it starts."""
    logging.set_verbosity_error()
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)


def run_all(jobs: dict[Any, tuple[Callable[..., Any], tuple]], workers: int, threads: int, title: str) -> dict:
    """Results of calls by their keys, some of them at a time; the first error ends it."""
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, limit_threads, (threads,)) as pool:
        futures = {pool.submit(call, *arguments): key for key, (call, arguments) in jobs.items()}
        try:
            for future in tqdm(as_completed(futures), title, total=len(futures), unit="run"):
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return {key: future.result() for future, key in futures.items()}


def compare(models: dict[str, dict[str, Any]], arguments: argparse.Namespace, output: Path) -> dict[str, Any]:
    """Adds to what was measured of each model its learning rates and, by condition, what [`summarise`] makes of its runs."""
    options = (arguments.workers, arguments.threads)
    trials = run_all(
        {
            (name, rate): (run_pretraining, (name, arguments.steps, rate, arguments.seeds[0], output))
            for name in models
            for rate in arguments.learning_rates
        },
        *options,
        "learning rates",
    )
    slowest = max(model[f"seconds, {FRAMES} frames"] for model in models.values())
    jobs, steps_of = {}, {}
    for name, model in models.items():
        tried = {rate: trials[name, rate]["evaluations"][-1]["loss"] for rate in arguments.learning_rates}
        rate = min(tried, key=tried.get)
        model |= {"learning_rates": tried, "learning_rate": rate}
        same_time = round(arguments.steps * slowest / model[f"seconds, {FRAMES} frames"])
        # Equal for the slowest, which runs once.
        steps_of[name] = {UNTRAINED: 0, SAME_CLIPS: arguments.steps, SAME_TIME: same_time}
        for seed in arguments.seeds:
            for steps in (arguments.steps, same_time):
                jobs[name, steps, seed] = (run_trained, (name, steps, rate, seed, output))
            trained = last_checkpoint(Path(trials[name, rate]["folder"]))
            jobs[name, 0, seed] = (run_untrained, (name, seed, trained, output))
    results = run_all(jobs, *options, "models and seeds")
    for name, model in models.items():
        model["conditions"] = {
            condition: summarise([results[name, steps, seed] for seed in arguments.seeds])
            for condition, steps in steps_of[name].items()
        }
    return models


def main(arguments: argparse.Namespace) -> None:
    output, begin = arguments.output.resolve(), time.perf_counter()
    limit_threads(arguments.threads)

    measured_path = output / "steps.json"
    if arguments.only_measure or not measured_path.exists():
        write_json(measured_path, measure_steps(arguments.budget))
    models = json.loads(measured_path.read_text(encoding="utf-8"))
    for name, row in models.items():
        print(name, row)
    if arguments.only_measure:
        return

    results = {
        "torch": torch.__version__,
        "arguments": {name: str(value) for name, value in vars(arguments).items()},
        "models": compare(models, arguments, output),
        "seconds": time.perf_counter() - begin,
    }
    write_json(output / "results.json", results)
    write_text(output / "results.md", make_tables(results))
    save_figure(plot_pretraining(results), output / "pretraining.png")
    save_figure(plot_accuracy(results), output / "accuracy.png")
    print(make_tables(results))
    print(f"{results['seconds'] / 60:.0f} minutes; wrote {output}")


if __name__ == "__main__":
    main(parsed)
