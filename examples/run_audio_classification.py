# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Fine-tunes a pretrained encoder to classify your clips, each by one label or by several.

    python examples/run_audio_classification.py --model outputs/spoken_words --data examples/spoken_words --output_dir out
    python examples/run_audio_classification.py examples/configs/esc50.yaml --model ssamba-tiny-400 --data esc50

The command line may begin with YAML or JSON files of arguments; its own arguments override theirs. `--help` lists all of
them, with those of transformers' TrainingArguments. `examples/configs/` has the paper's recipes.

`output_dir` (with --fold_column, a folder in it for each fold) receives the model and its feature extractor, for
`from_pretrained` and `pipeline`; a model card and `test_results.json` with the results on the test split, also on its clips
with silence around them, quieter and with noise; pictures of the learning curve, of the augmentation and, for clips of one
label, of the confusion matrix; and the checkpoints of training, from which `--resume_from_checkpoint true` continues.
"""

from hf_audio_ssm.common.boundary import one_line_errors
from hf_audio_ssm.data.arguments import AugmentationFields, LabelledDataFields
from hf_audio_ssm.training.arguments import ClassifierFields, FineTuningFields
from hf_audio_ssm.training.command_line import parse_script_arguments


ARGUMENTS = (LabelledDataFields, ClassifierFields, AugmentationFields, FineTuningFields)

if __name__ == "__main__":
    # --help and errors of usage do not wait for the libraries below.
    parsed = parse_script_arguments(ARGUMENTS, __doc__)

from collections.abc import Callable
from pathlib import Path

from transformers import PreTrainedModel, set_seed

from hf_audio_ssm.audio.frames import seconds_spanned
from hf_audio_ssm.common.text_files import mean_and_deviation
from hf_audio_ssm.data.augmentation import AugmentationArguments
from hf_audio_ssm.data.bad_clips import report_bad_clips, start_bad_clips
from hf_audio_ssm.data.labelled import LabelledClips, LabelledDataArguments
from hf_audio_ssm.inference.plots import plot_augmentation, save_figure
from hf_audio_ssm.training.classifiers import ClassifierArguments
from hf_audio_ssm.training.fine_tuning import FineTuningArguments, FineTuningTrainer, fold_arguments, make_trainer
from hf_audio_ssm.training.reports import TrainingReport


def fine_tune(
    clips: LabelledClips,
    data: LabelledDataArguments,
    classifier: ClassifierArguments,
    augmentation: AugmentationArguments,
    training: FineTuningArguments,
    load_model: Callable[[LabelledClips], PreTrainedModel],
    save_more: Callable[[FineTuningTrainer], dict[Path, str]] | None,
) -> dict[str, float]:
    """One run: trains, and returns the metrics on the test split."""
    set_seed(training.seed)
    feature_extractor, model = classifier.load_feature_extractor(clips), load_model(clips)
    changes = augmentation.make(training.seed, seconds_spanned(feature_extractor.max_length))
    trainer = make_trainer(model, feature_extractor, clips, training, changes)
    report = TrainingReport(trainer, clips, classifier.model, data, augmentation)
    report.announce()
    if trainer.data_collator.augmentation and trainer.is_world_process_zero():
        rows = [clips.splits["train"][index] for index in range(min(4, len(clips.splits["train"])))]
        picture = plot_augmentation(trainer.data_collator, rows, clips.names)
        save_figure(picture, Path(training.output_dir) / "augmentation.png")
    trainer.train(resume_from_checkpoint=training.resume_from_checkpoint)
    return report.write(save_more)


def main(
    data: LabelledDataArguments,
    classifier: ClassifierArguments,
    augmentation: AugmentationArguments,
    training: FineTuningArguments,
    load_model: Callable[[LabelledClips], PreTrainedModel] | None = None,
    save_more: Callable[[FineTuningTrainer], dict[Path, str]] | None = None,
) -> list[dict[str, float]]:
    """
    Runs once, or once for each fold; returns the metrics on the test split of each run. `load_model` replaces the loading
    of the checkpoint, and `save_more` saves other forms of the model, see [`TrainingReport.write`].
    """
    runs = data.load()
    arguments = [fold_arguments(training, clips.fold) for clips in runs]
    runs = data.check(runs, classifier.load_feature_extractor().sampling_rate)
    start_bad_clips(training.output_dir, runs[0].bad, is_continued=bool(training.resume_from_checkpoint))
    results = []
    model_of = load_model or classifier.load_model
    for clips, own in zip(runs, arguments, strict=True):
        results.append(fine_tune(clips, data, classifier, augmentation, own, model_of, save_more))
    for name in results[0]:
        values = [result[name] for result in results]
        folds = f"{mean_and_deviation(values)} over {len(values)} folds"
        print(f"{name}: {folds if len(values) > 1 else f'{values[0]:.4f}'}")
    report_bad_clips(training.output_dir, runs[0].bad)
    return results


if __name__ == "__main__":
    with one_line_errors():
        main(*parsed)
