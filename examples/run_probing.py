# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Compares probes of a frozen encoder, such as k-NN, linear and attentive ones, adapters and full fine-tuning.

    python examples/run_probing.py --model outputs/spoken_words/best --data examples/spoken_words --output_dir out
    python examples/run_probing.py --methods linear lora dora rslora ia3 full --model ... --data ... --output_dir out

The encoder runs over each clip once (and not again, with --cache_dir); a probe then trains in seconds. `output_dir` receives
`probing.md`, the table of metrics on the test split, and a folder for each probe: a classifier for `from_pretrained` and
`pipeline`, or its adapters, with a model card. A prototypical probe adds a picture of its prototypes in a test clip.
"""

from hf_audio_ssm.common.boundary import one_line_errors
from hf_audio_ssm.data.arguments import LabelledDataFields
from hf_audio_ssm.training.arguments import ADAPTER_METHODS, CLASSIFIER_TYPES, ClassifierFields, ComparisonArguments
from hf_audio_ssm.training.command_line import parse_script_arguments


ARGUMENTS = (LabelledDataFields, ClassifierFields, ComparisonArguments)

if __name__ == "__main__":
    # --help and errors of usage do not wait for the libraries below.
    parsed = parse_script_arguments(ARGUMENTS, __doc__)

from pathlib import Path

import torch
from transformers import FeatureExtractionMixin, PreTrainedModel
from transformers.utils import logging

from hf_audio_ssm.common.text_files import markdown_table, mean_and_deviation, write_text
from hf_audio_ssm.data.bad_clips import report_bad_clips
from hf_audio_ssm.data.labelled import LabelledClips, LabelledDataArguments
from hf_audio_ssm.data.labelled_collator import LabelledClipCollator
from hf_audio_ssm.hub.adapters import save_adapted
from hf_audio_ssm.hub.card_callback import write_card
from hf_audio_ssm.hub.cards import classifier_card, read_base_model
from hf_audio_ssm.inference.plots import plot_similarity, save_figure
from hf_audio_ssm.training.classifiers import ClassifierArguments
from hf_audio_ssm.training.comparison import Comparison
from hf_audio_ssm.training.reports import split_results


def draw_similarity(
    model: PreTrainedModel, feature_extractor: FeatureExtractionMixin, clips: LabelledClips, path: Path
) -> None:
    """Draws where the first test clip resembles the prototypes of its label, if the head compares patches with prototypes."""
    row = clips.splits["test"][0]
    collator = LabelledClipCollator(
        feature_extractor, len(clips.names), multi_hot=True, min_frames=model.config.patch_shape[1]
    )
    batch = collator([row])
    label = int(batch.pop("labels")[0].argmax())
    with torch.no_grad():
        outputs = model.eval()(**batch)
    if outputs.similarity_maps is None:
        return
    save_figure(plot_similarity(batch["input_values"][0], outputs.similarity_maps[0], model.config, label), path)


def main(
    data: LabelledDataArguments, classifier: ClassifierArguments, arguments: ComparisonArguments
) -> dict[str, dict[str, list[float]]]:
    """Runs everything; returns the metrics of each method on the test split, a value for each seed."""
    (clips,) = data.check([data.load_one()], classifier.load_feature_extractor().sampling_rate)
    comparison = Comparison(classifier, clips, arguments)
    output_dir, base_model = Path(arguments.output_dir), read_base_model(classifier.model)
    results: dict[str, dict[str, list[float]]] = {}
    for method in arguments.methods:
        for seed in arguments.seeds:
            metrics, model, training = comparison.run(method, seed)
            print(f"{method}, seed {seed}: " + ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
            for name, value in metrics.items():
                results.setdefault(method, {}).setdefault(name, []).append(value)
        # The classifier of the last seed is kept.
        if model is not None:
            save = save_adapted if method in ADAPTER_METHODS else type(model).save_pretrained
            save(model, output_dir / method)
            comparison.feature_extractor.save_pretrained(output_dir / method)
            card = classifier_card(
                model_name=f"./{output_dir.resolve().name}/{method}",
                model=model,
                feature_extractor=comparison.feature_extractor,
                base_model=base_model,
                data=data.data,
                num_clips={name: len(split) for name, split in clips.splits.items()},
                training=training,
                results=split_results(data, clips, "test", metrics),
            )
            write_card(card, output_dir / method)
        if method in CLASSIFIER_TYPES:
            draw_similarity(model, comparison.feature_extractor, clips, output_dir / "similarity.png")

    names = list(next(iter(results.values())))
    rows = [[method, *(mean_and_deviation(values[name]) for name in names)] for method, values in results.items()]
    text = markdown_table(["", *names], rows)
    write_text(output_dir / "probing.md", text)
    print(text)
    report_bad_clips(output_dir, clips.bad)
    return results


if __name__ == "__main__":
    logging.set_verbosity_error()
    with one_line_errors():
        main(*parsed)
