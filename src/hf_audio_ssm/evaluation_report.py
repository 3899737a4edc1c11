# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What a training leaves behind: the model, its results on the test split, pictures and a card."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from .data.labelled import LabelledClips
from .fine_tuning import FineTuningTrainer
from .metrics import METRICS
from .model_card import classifier_card
from .plots import plot_confusion_matrix, plot_learning_curve, save_figure


def report(
    trainer: FineTuningTrainer,
    clips: LabelledClips,
    base_model: str,
    data: str,
    save: Callable[[FineTuningTrainer], None] | None = None,
) -> dict[str, float]:
    """
    Tests a trained classifier and writes all of it into the Trainer's `output_dir`; pushes it, if the arguments say so.

    Args:
        trainer (`FineTuningTrainer`): After training.
        clips (`LabelledClips`): With the test split.
        base_model (`str`): What training started from.
        data (`str`): What it was trained on.
        save (`Callable`, *optional*): Adds to what the Trainer saves of the model.

    Returns:
        `dict[str, float]`: the task's metrics on the test split.
    """
    output_dir = Path(trainer.args.output_dir)
    prediction = trainer.predict(clips.splits["test"], metric_key_prefix="test")
    keys = [metric.key for metric in METRICS[clips.problem_type]]
    results = {key: prediction.metrics[f"test_{key}"] for key in keys}
    trainer.save_metrics("test", prediction.metrics)
    trainer.save_model()
    if save is not None:
        save(trainer)
    save_figure(plot_learning_curve(trainer.state.log_history, keys[0]), output_dir / "learning_curve.png")
    if not clips.is_multi_label:
        labels = np.asarray(clips.splits["test"]["label"])
        picture = plot_confusion_matrix(prediction.predictions.argmax(axis=1), labels, clips.names)
        save_figure(picture, output_dir / "confusion_matrix.png")
    trainer.card = classifier_card(
        model_name=trainer.args.hub_model_id or output_dir.resolve().name,
        model=trainer.model,
        feature_extractor=trainer.processing_class,
        base_model=base_model,
        data=data,
        names=clips.names,
        num_clips={name: len(split) for name, split in clips.splits.items()},
        training=trainer.args,
        results=results,
    )
    trainer.create_model_card()
    if trainer.args.push_to_hub:
        trainer.push_to_hub()
    return results
