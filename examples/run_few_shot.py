# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Trains classifiers on 1, 5 and 10 clips a class, in several ways, and tests each on the whole test split.

    python examples/run_few_shot.py --model outputs/spoken_words/best --data examples/spoken_words --output_dir out

For each number of clips a class and each seed, the same clips are drawn for every method: k-NN without training, the probes
on the frozen encoder, LoRA and full fine-tuning. `output_dir` receives `few_shot.md`, the table of means and standard
deviations over the seeds, `few_shot.json`, all values, and `few_shot.png`, the picture.
"""

from dataclasses import dataclass, field

from hf_audio_ssm.common.boundary import one_line_errors
from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.data.arguments import LabelledDataFields
from hf_audio_ssm.training.arguments import ClassifierFields, ComparisonArguments
from hf_audio_ssm.training.command_line import parse_script_arguments


@dataclass
class FewShotArguments(ComparisonArguments):
    """The ways to compare, and the numbers of clips."""

    methods: list[str] = field(
        default_factory=lambda: ["knn", "linear", "layer_weighted", "attentive", "prototypical", "lora", "full"],
        metadata={"help": "Ways to make the classifier, see run_probing.py --help."},
    )
    seeds: list[int] = field(
        default_factory=lambda: [0, 1, 2],
        metadata={"help": "Seeds of the drawn clips, of new weights and of the order of clips."},
    )
    shots: list[int] = field(default_factory=lambda: [1, 5, 10], metadata={"help": "Clips a class."})


ARGUMENTS = (LabelledDataFields, ClassifierFields, FewShotArguments)

if __name__ == "__main__":
    # --help and errors of usage do not wait for the libraries below.
    parsed = parse_script_arguments(ARGUMENTS, __doc__)

import json
from pathlib import Path

import numpy as np
from tqdm import tqdm
from transformers.utils import logging

from hf_audio_ssm.common.text_files import markdown_table, write_text
from hf_audio_ssm.data.bad_clips import report_bad_clips
from hf_audio_ssm.data.labelled import LabelledDataArguments
from hf_audio_ssm.inference.plots import plot_few_shot, save_figure
from hf_audio_ssm.training.classifiers import ClassifierArguments
from hf_audio_ssm.training.comparison import Comparison
from hf_audio_ssm.training.probing import draw_few_shot


def main(
    data: LabelledDataArguments, classifier: ClassifierArguments, arguments: FewShotArguments
) -> dict[str, dict[int, list[float]]]:
    """Runs everything; returns the task's metric of each method, number of clips a class and seed."""
    clips = data.load_one()
    if clips.is_multi_label:
        raise InputError(
            f"{data.data}: must have one label a clip, as a few clips of each class are drawn; got several labels"
        )
    (clips,) = data.check([clips], classifier.load_feature_extractor().sampling_rate)
    labels = clips.splits["train"]["label"]
    draws = {
        (shots, seed): draw_few_shot(labels, shots, seed) for shots in arguments.shots for seed in arguments.seeds
    }
    comparison = Comparison(classifier, clips, arguments)

    table: dict[str, dict[int, list[float]]] = {method: {} for method in arguments.methods}
    with tqdm(total=len(table) * len(draws), desc="Classifiers") as progress:
        for method in arguments.methods:
            for (shots, seed), indices in draws.items():
                metrics, *_ = comparison.run(method, seed, indices)
                table[method].setdefault(shots, []).append(metrics["accuracy"])
                progress.set_postfix_str(f"{method}, {shots} clips a class: {metrics['accuracy']:.3f}")
                progress.update()

    rows = [
        [method, *(f"{100 * np.mean(values[k]):.1f} ± {100 * np.std(values[k]):.1f}" for k in arguments.shots)]
        for method, values in table.items()
    ]
    text = markdown_table(["accuracy in %", *(f"{shots} clips a class" for shots in arguments.shots)], rows)
    output_dir = Path(arguments.output_dir)
    write_text(output_dir / "few_shot.md", text)
    write_text(output_dir / "few_shot.json", json.dumps(table, indent=1))
    save_figure(plot_few_shot(table, "accuracy"), output_dir / "few_shot.png")
    print(text)
    report_bad_clips(output_dir, clips.bad)
    return table


if __name__ == "__main__":
    logging.set_verbosity_error()
    with one_line_errors():
        main(*parsed)
