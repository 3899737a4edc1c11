# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Objectives that are not the package's: a teacher that follows the student, and labels beside unlabelled clips."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hf_audio_ssm.objectives import OBJECTIVES, Description, Objective, ObjectiveOutput


def register() -> None:
    """Makes the objectives known to `--objective`."""
    OBJECTIVES["follow_teacher"] = "toy_objectives.FollowTeacher"
    OBJECTIVES["few_labels"] = "toy_objectives.FewLabels"


class FollowTeacher(Objective):
    """Predicts a teacher's embedding of one crop from another crop; the teacher is an average of the student."""

    def __init__(self, model, feature_extractor, decay=0.9):
        super().__init__(model, feature_extractor)
        # The loss does not reach the heads.
        model.discriminative_head.requires_grad_(False)
        model.generative_head.requires_grad_(False)
        model.base_model.embeddings.mask_token.requires_grad_(False)
        self.predictor = nn.Linear(model.config.hidden_size, model.config.hidden_size)
        self.teacher = AveragedModel(model.base_model, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self.teacher.requires_grad_(False)

    @staticmethod
    def make_example(clip):
        return {"first": clip.input_values(), "second": clip.input_values()}

    def forward(self, first, second):
        with torch.no_grad():
            target = self.teacher.eval()(second).pooler_output
        prediction = self.predictor(self.model.base_model(first).pooler_output)
        distance = F.mse_loss(prediction, target)
        return ObjectiveOutput(distance, {"distance": distance})

    def after_step(self, step, max_steps):
        self.teacher.update_parameters(self.model.base_model)


class FewLabels(FollowTeacher):
    """The same, and the classes of those clips that have a label."""

    metric = "accuracy"
    greater_is_better = True
    columns = ("label",)

    def __init__(self, model, feature_extractor, num_classes=2):
        super().__init__(model, feature_extractor)
        self.classifier = nn.Linear(model.config.hidden_size, num_classes)

    @staticmethod
    def make_example(clip):
        label = clip.row.get("label")
        return {**FollowTeacher.make_example(clip), "labels": -100 if label is None else int(label)}

    def forward(self, first, second, labels):
        output = super().forward(first, second)
        logits = self.classifier(self.model.base_model(first).pooler_output)
        # A mean over all clips, so that processes with other shares of labels compute the same.
        entropy = F.cross_entropy(logits, labels, ignore_index=-100, reduction="sum") / len(labels)
        count = (labels != -100).sum()
        accuracy = (logits.argmax(dim=1) == labels).sum() / count
        metrics = {**output.metrics, "entropy": entropy, "accuracy": accuracy}
        return ObjectiveOutput(output.loss + entropy, metrics, counts={"accuracy": count})

    def describe(self):
        return Description(
            summary="An encoder that follows a teacher, and few labels.",
            task=("few-labels", "Few labels"),
            measures={"accuracy": "accuracy on clips with a label", "distance": "distance from the teacher"},
            facts={"Teacher": "an average of the student"},
            notes=["Clips without a label do not count for the accuracy."],
        )
