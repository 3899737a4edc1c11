# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Compares ways to make a classifier of a pretrained encoder: from k-NN to full fine-tuning."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import peft
from transformers import EvalPrediction, PreTrainedModel, PrinterCallback, set_seed

from ..data.labelled import LabelledClips
from ..data.labelled_collator import LabelledClipCollator
from ..evaluation.metrics import METRICS, make_compute_metrics
from ..hub.adapters import ADAPTER_METHODS, adapter_config
from ..hub.cards import describe_training
from ..models.heads.classification_heads import CLASSIFICATION_HEADS, CLASSIFIER_TYPES
from .arguments import METHODS as METHODS
from .arguments import ComparisonArguments, default_methods
from .classifiers import ClassifierArguments
from .fine_tuning import FineTuningArguments, FineTuningTrainer, make_trainer
from .probing import FeatureDataset, extract_features, features_of, knn_scores


DEFAULT_METHODS = default_methods()

# Training arguments of all methods.
COMMON = {
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.067,
    "save_strategy": "no",
    "logging_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
}
# Those of each method; a probe's are its head's recipe.
RECIPES: dict[str, Mapping[str, Any]] = {
    **{name: head.recipe for name, head in CLASSIFICATION_HEADS.items()},
    **dict.fromkeys(ADAPTER_METHODS, {"learning_rate": 5e-3, "weight_decay": 1e-2}),
    "full": {"learning_rate": 1e-3, "weight_decay": 1e-2},
}


class Comparison:
    """
    Trains classifiers in different ways, from one checkpoint on the same clips. The frozen encoder runs over each clip once,
    for all probes.

    Args:
        classifier (`ClassifierArguments`): What to start from; adapters and full fine-tuning take its `classifier_type`.
        clips (`LabelledClips`): Clips to train and to test on.
        arguments (`ComparisonArguments`): What is compared.
    """

    def __init__(self, classifier: ClassifierArguments, clips: LabelledClips, arguments: ComparisonArguments):
        if classifier.max_length is None:
            # Clips are read as they are: a window with room for silence would need training with silence.
            classifier = replace(classifier, max_length=classifier.load_feature_extractor().max_length)
        self.classifier, self.clips, self.arguments = classifier, clips, arguments
        self.compute_metrics = make_compute_metrics(clips.problem_type)
        # Faults of the checkpoint show here, before anything is trained.
        self.feature_extractor, self.base_model = classifier.load(clips)

    @cached_property
    def features(self) -> dict[str, dict[str, FeatureDataset]]:
        """The features that the probes read, by split and name."""
        model = self.base_model
        probes = [method for method in self.arguments.methods if method in ("knn", *CLASSIFIER_TYPES)]
        is_multi_hot = model.config.problem_type == "multi_label_classification"
        collator = LabelledClipCollator(
            self.feature_extractor,
            len(self.clips.names),
            is_multi_hot,
            min_frames=model.config.patch_shape[1],
        )
        return {
            split: extract_features(model, rows, collator, features_of(probes), cache_dir=self.arguments.cache_dir)
            for split, rows in self.clips.splits.items()
        }

    def training_arguments(self, method: str, seed: int, **kwargs: Any) -> FineTuningArguments:
        """The arguments of a method's training."""
        is_probe = method in CLASSIFIER_TYPES
        return FineTuningArguments(
            **{
                **COMMON,
                **RECIPES[method],
                "output_dir": os.path.join(self.arguments.output_dir, method),
                "num_train_epochs": self.arguments.epochs if is_probe else self.arguments.encoder_epochs,
                "per_device_train_batch_size": self.arguments.batch_size,
                "per_device_eval_batch_size": 64,
                "seed": seed,
                **kwargs,
            }
        )

    def run(
        self, method: str, seed: int, indices: Sequence[int] | None = None, split: str = "test"
    ) -> tuple[dict[str, float], PreTrainedModel | None, dict[str, str]]:
        """
        Trains and tests a classifier.

        Args:
            method (`str`): One of `METHODS`.
            seed (`int`): Seed of the new weights and of the order of clips.
            indices (`Sequence[int]`, *optional*): The training clips to use. Defaults to all.
            split (`str`, *optional*, defaults to `"test"`): The split to test on.

        Returns:
            The task's metrics, the model (`None` for k-NN), and how it was trained, see [`describe_training`].
        """
        set_seed(seed)
        indices = range(len(self.clips.splits["train"])) if indices is None else indices
        if method == "knn":
            train, test = (self.features[name]["pooler_output"] for name in ("train", split))
            scores = knn_scores(train.select(indices), test.features)
            return self.compute_metrics(EvalPrediction(scores, test.labels.numpy())), None, {}
        if method in CLASSIFIER_TYPES:
            model = replace(self.classifier, classifier_type=method).load_model(self.clips)
            model.freeze_base_model()
            name = CLASSIFICATION_HEADS[method].features
            test = self.features[split][name]
            trainer = FineTuningTrainer(
                model=model,
                args=self.training_arguments(method, seed),
                train_dataset=self.features["train"][name].select(indices),
                compute_metrics=self.compute_metrics,
            )
        else:
            model = self.classifier.load_model(self.clips)
            if method != "full":
                options: dict[str, Any] = {} if method == "ia3" else {"r": self.arguments.adapter_rank}
                if self.arguments.adapter_targets is not None:
                    options["target_modules"] = self.arguments.adapter_targets
                model = peft.get_peft_model(model, adapter_config(model, method, **options))
            train, test = self.clips.splits["train"].select(indices), self.clips.splits[split]
            clips = replace(self.clips, splits={**self.clips.splits, "train": train})
            trainer = make_trainer(model, self.feature_extractor, clips, self.training_arguments(method, seed))
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        metrics = trainer.predict(test).metrics
        results = {metric.key: metrics[f"test_{metric.key}"] for metric in METRICS[self.clips.problem_type]}
        return results, model, describe_training(trainer)
