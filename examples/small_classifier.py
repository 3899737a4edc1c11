# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Shared by the examples that train a small SSAMBA from labels alone: its configuration and its training."""

import tempfile
from collections.abc import Callable
from typing import Any

import torch
from transformers import PreTrainedModel, Trainer, TrainingArguments

from hf_audio_ssm import SsambaConfig


def small_config(max_length: int, **fields: Any) -> SsambaConfig:
    """A small SSAMBA for clips of `max_length` frames."""
    # A patch is as tall as the spectrogram: few tokens for each second, and so a fast scan.
    return SsambaConfig(
        hidden_size=96,
        num_hidden_layers=4,
        state_size=8,
        patch_size=(128, 8),
        frequency_stride=128,
        time_stride=8,
        max_length=max_length,
        **fields,
    )


def label_fields(labels: list[str]) -> dict[str, Any]:
    """The configuration's fields for a classifier of one label a clip."""
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
        "problem_type": "single_label_classification",
    }


def train_classifier(
    model: PreTrainedModel,
    train: torch.utils.data.Dataset,
    validation: torch.utils.data.Dataset,
    compute_metrics: Callable,
    batch_size: int,
    learning_rate: float,
    seed: int,
    data_collator: Callable | None = None,
    **arguments: Any,
) -> Trainer:
    """Trains `model` in place, and shows progress and validation metrics; `arguments` are more training arguments."""
    with tempfile.TemporaryDirectory() as unused:
        training_arguments = TrainingArguments(
            output_dir=unused,
            per_device_train_batch_size=batch_size,
            per_device_eval_batch_size=batch_size,
            learning_rate=learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=0.1,
            weight_decay=0.05,
            eval_strategy="steps",
            save_strategy="no",
            report_to="none",
            remove_unused_columns=False,
            dataloader_pin_memory=torch.cuda.is_available(),
            seed=seed,
            **arguments,
        )
        trainer = Trainer(
            model=model,
            args=training_arguments,
            train_dataset=train,
            eval_dataset=validation,
            data_collator=data_collator,
            compute_metrics=compute_metrics,
        )
        trainer.train()
        return trainer
