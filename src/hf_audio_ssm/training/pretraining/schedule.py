# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The learning rate of pretraining."""

from typing import Any

import torch
from transformers import get_scheduler

from .arguments import PLATEAU, PretrainingArguments


class Schedule:
    """The learning rate: the paper's plateau after a warm-up, or one of transformers' schedules."""

    def __init__(self, optimizer: torch.optim.Optimizer, arguments: PretrainingArguments, max_steps: int):
        self.optimizer = optimizer
        self.arguments = arguments
        self.step = 0
        if arguments.lr_scheduler_type == PLATEAU:
            self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer, mode="max", factor=0.5, patience=arguments.lr_patience
            )
            self.warm_up()
        else:
            self.scheduler = get_scheduler(arguments.lr_scheduler_type, optimizer, arguments.warmup_steps, max_steps)

    def warm_up(self) -> None:
        """Sets the learning rate of a step of the warm-up."""
        if self.step <= self.arguments.warmup_steps:
            for group in self.optimizer.param_groups:
                group["lr"] = self.arguments.learning_rate * min(
                    1, (self.step + 1) / (self.arguments.warmup_steps + 1)
                )

    def after_step(self) -> None:
        """To be called after each step of the optimiser."""
        self.step += 1
        if self.arguments.lr_scheduler_type == PLATEAU:
            self.warm_up()
        else:
            self.scheduler.step()

    def after_evaluation(self, accuracy: float) -> None:
        """To be called with the validation accuracy."""
        if self.arguments.lr_scheduler_type == PLATEAU and self.step > self.arguments.warmup_steps:
            self.scheduler.step(accuracy)

    def state_dict(self) -> dict[str, Any]:
        """What [`load_state_dict`] needs, for checkpoints."""
        return {"step": self.step, "scheduler": self.scheduler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        self.step = state["step"]
        self.scheduler.load_state_dict(state["scheduler"])
