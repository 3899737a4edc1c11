# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The results of a training: the model, metrics on the test split, pictures, and cards at each save and at the end."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from huggingface_hub import ModelCard
from transformers import FeatureExtractionMixin, TrainerState
from transformers.trainer_utils import PredictionOutput

from ..audio.frames import count_frames, frames_to_seconds, seconds_spanned
from ..common.errors import InputError
from ..common.printable import printable
from ..data.augmentation import AugmentationArguments, VaryRecordings
from ..data.bad_clips import check_all, count, is_main_process, list_clips, refuse_bad_clips
from ..data.clip_identity import AudioColumn
from ..data.labelled import LabelledClips, LabelledDataArguments
from ..evaluation.metrics import METRICS
from ..hub.card_callback import ModelCardCallback, write_card
from ..hub.cards import Results, classifier_card, describe_training, read_base_model
from ..hub.emissions import trainer_emissions
from ..hub.push import explaining_push
from ..inference.plots import plot_confusion_matrix, plot_learning_curve, save_figure
from .fine_tuning import FineTuningTrainer
from .robustness import measure_robustness


def describe_augmentation(augmentation: AugmentationArguments) -> dict[str, str]:
    """A row of a card's table: what is done to training clips."""
    given = {field.name: getattr(augmentation, field.name) for field in fields(augmentation)}
    described = [name if value is True else f"{name} {value}" for name, value in given.items() if value]
    if augmentation.vary_recordings:
        described[described.index("vary_recordings")] += f" ({VaryRecordings().describe()})"
    return {"Augmentation": ", ".join(described) or "none"}


def describe_window(feature_extractor: FeatureExtractionMixin, clips: LabelledClips) -> str:
    """A sentence on how much of a clip the model hears, and on the clips that are longer."""
    frames = feature_extractor.max_length
    longer = sum(count_frames(seconds) > frames for seconds in clips.seconds)
    described = (
        f"{frames} frames ({frames_to_seconds(frames):g} s) of a clip are read; the longest has "
        f"{max(clips.seconds):.2f} s"
    )
    if not longer:
        return described + "."
    return f"{described}. The rest of {longer} of {len(clips.seconds)} clips is not heard: see --max_length."


def split_results(
    data: LabelledDataArguments,
    clips: LabelledClips,
    split: str,
    metrics: Mapping[str, float],
    *notes: str,
    robustness: Mapping[str, float] | None = None,
) -> Results:
    """
    The results on a split of labelled clips, for a card.

    Args:
        data (`LabelledDataArguments`): The source of the clips.
        clips (`LabelledClips`): The clips.
        split (`str`): "validation" or "test".
        metrics (mapping): The metrics.
        notes (`str`): More sentences on the results.
        robustness (mapping, *optional*): What [`measure_robustness`] gives.
    """
    if split in clips.drawn:
        notes = (f"The data have no {split} split: it was drawn from their training clips.", *notes)
    elif split == "test" and clips.fold is not None:
        notes = (f"They are fold {clips.fold}.", *notes)
    if left_out := clips.num_bad.get(split):
        notes = (f"{left_out} clips of the split cannot be read and are left out.", *notes)
    if shared := clips.shared.get(split):
        notes = (f"{shared} clips of the split are not held out: an earlier split has their content.", *notes)
    source = getattr(data, f"{split}_data") or data.data
    return Results(metrics, split, source, len(clips.splits[split]), notes, robustness=robustness or {})


class TrainingReport:
    """
    Writes a card at each save of a training, and all its results at its end.

    Args:
        trainer (`FineTuningTrainer`): Before training.
        clips (`LabelledClips`): With the test split.
        base_model (`str`): The checkpoint that training starts from.
        data (`LabelledDataArguments`): The source of the clips.
        augmentation (`AugmentationArguments`): The augmentation of training clips.

    Raises:
        [`InputError`]: If the clips of another source, for the table of robustness, cannot be used.
    """

    def __init__(
        self,
        trainer: FineTuningTrainer,
        clips: LabelledClips,
        base_model: str,
        data: LabelledDataArguments,
        augmentation: AugmentationArguments,
    ):
        self.trainer, self.clips, self.data, self.augmentation = trainer, clips, data, augmentation
        self.output_dir = Path(trainer.args.output_dir)
        self.base_model = read_base_model(base_model)
        self.keys = [metric.key for metric in METRICS[clips.problem_type]]
        # Before training, which faults of theirs should not end.
        self.others = self._load_others()
        trainer.add_callback(ModelCardCallback(self._card_of_save))

    def _load_others(self) -> dict[str, datasets.Dataset]:
        """The clips of another source, by the name of their row in the table of robustness."""
        source = self.trainer.args.robustness_data
        if source is None:
            return {}
        data = replace(self.data, test_data=source, fold_column=None, test_folds=None)
        clips = data.load_one()
        if clips.names != self.clips.names:
            raise InputError(
                f"--robustness_data {source}: must have the labels of --data, {', '.join(self.clips.names)}; with them, it has "
                f"{', '.join(clips.names)}"
            )
        others = clips.splits["test"]
        if data.check_clips:
            found = check_all(AudioColumn([others]), self.trainer.processing_class.sampling_rate)
            bad = list(found.bad.values())
            refuse_bad_clips(bad, len(others), data.bad_clips, data.max_bad_share)
            others = others.select([place for place in range(len(others)) if place not in found.bad])
            if bad and is_main_process():
                print(f"{printable(source)}: left out, as they cannot be read: {count(bad)}\n{list_clips(bad)}")
        return {f"clips of {source}": others}

    def announce(self) -> None:
        """Prints what training does to clips, and how much of them the model hears."""
        if self.trainer.is_world_process_zero():
            (augmentation,) = describe_augmentation(self.augmentation).values()
            print(f"Augmentation of training clips: {augmentation}.")
            if self.augmentation.vary_recordings:
                print("--vary_recordings false trains on the clips as they are.")
            print(f"Window: {describe_window(self.trainer.processing_class, self.clips)}")

    def name_of(self, folder: Path) -> str:
        """The name that the card in a folder loads: for the output folder, that of its repository, if it is pushed."""
        if folder == self.output_dir:
            return self.trainer.hub_model_id or self.output_dir.resolve().name
        return f"./{self.output_dir.resolve().name}/{folder.name}"

    def card(self, folder: Path, results: Results, **more: Any) -> ModelCard:
        """The card of the model in a folder."""
        return classifier_card(
            model_name=self.name_of(folder),
            model=self.trainer.model,
            feature_extractor=self.trainer.processing_class,
            base_model=self.base_model,
            data=self.data.data,
            num_clips={name: len(split) for name, split in self.clips.splits.items()},
            training=describe_training(self.trainer) | describe_augmentation(self.augmentation),
            results=results,
            **more,
        )

    def _card_of_save(self, metrics: Mapping[str, float], state: TrainerState, folder: Path) -> ModelCard:
        measured = {key: metrics[f"eval_{key}"] for key in self.keys if f"eval_{key}" in metrics}
        note = f"This is what step {metrics['step']} reached." if measured else ""
        return self.card(folder, split_results(self.data, self.clips, "validation", measured, note))

    def write(self, save_more: Callable[[FineTuningTrainer], Mapping[Path, str]] | None = None) -> dict[str, float]:
        """
        Tests the trained classifier, writes all results into the Trainer's `output_dir`, and pushes them, if asked to.

        Args:
            save_more (`Callable`, *optional*): Saves other forms of the Trainer's model, and returns their folders, each with a
                sentence on its results. Only the main process calls it.

        Returns:
            `dict[str, float]`: the task's metrics on the test split.

        Raises:
            [`InputError`]: If the Hub refuses the push. `output_dir` is complete then.
        """
        trainer, clips, output_dir = self.trainer, self.clips, self.output_dir
        # Save before anything that may fail, without pushing an incomplete folder.
        trainer.save_model(_internal_call=True)
        prediction = trainer.predict(clips.splits["test"], metric_key_prefix="test")
        metrics = {key: prediction.metrics[f"test_{key}"] for key in self.keys}
        robustness = self._measure_robustness() if trainer.args.robustness else {}
        more = {"test_robustness": robustness, "test_clips_left_out": clips.num_bad.get("test")}
        trainer.save_metrics("test", prediction.metrics | {name: value for name, value in more.items() if value})
        if trainer.is_world_process_zero():
            self._draw_and_describe(prediction, metrics, robustness, save_more)
        if trainer.args.push_to_hub:
            with explaining_push(f"{output_dir} is complete, but", trainer.hub_model_id):
                trainer.push_to_hub()
        return metrics

    def _measure_robustness(self) -> dict[str, float]:
        """The task's metric on changed test clips and on those of another source."""
        trainer, feature_extractor = self.trainer, self.trainer.processing_class

        def score(rows: Any) -> float:
            return trainer.predict(rows, metric_key_prefix="test").metrics[f"test_{self.keys[0]}"]

        seconds = seconds_spanned(feature_extractor.max_length)
        table = measure_robustness(
            score, self.clips.splits["test"], feature_extractor.sampling_rate, seconds, self.others
        )
        if trainer.is_world_process_zero():
            print(f"{self.keys[0]} on test clips that are changed:")
            print("".join(f"  {printable(name)}: {value:.4f}\n" for name, value in table.items()), end="")
        return table

    def _draw_and_describe(
        self,
        prediction: PredictionOutput,
        metrics: Mapping[str, float],
        robustness: Mapping[str, float],
        save_more: Callable[[FineTuningTrainer], Mapping[Path, str]] | None,
    ) -> None:
        trainer, clips, output_dir = self.trainer, self.clips, self.output_dir
        pictures = {"Learning curve": "learning_curve.png"}
        save_figure(plot_learning_curve(trainer.state.log_history, self.keys[0]), output_dir / "learning_curve.png")
        if not clips.is_multi_label:
            labels = np.asarray(clips.splits["test"]["label"])
            picture = plot_confusion_matrix(prediction.predictions.argmax(axis=1), labels, clips.names)
            pictures["Confusion matrix"] = "confusion_matrix.png"
            save_figure(picture, output_dir / "confusion_matrix.png")
        emissions = trainer_emissions(trainer)
        for folder, note in save_more(trainer).items() if save_more else ():
            results = split_results(self.data, clips, "test", metrics, note, robustness=robustness)
            write_card(self.card(folder, results, is_merged=True, emissions=emissions), folder)
        results = split_results(self.data, clips, "test", metrics, robustness=robustness)
        trainer.card = self.card(output_dir, results, pictures=pictures, emissions=emissions)
        trainer.create_model_card()
