# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The optimizer of pretraining and its learning rate."""

import math
from typing import Any

import torch
from torch import nn
from transformers import get_scheduler

from ..checkpoints import is_count, is_number
from ..weight_decay import is_decayed, no_decay_names
from .arguments import PLATEAU, PretrainingArguments


def make_optimizer(model: nn.Module, arguments: PretrainingArguments) -> torch.optim.AdamW:
    """AdamW on all parameters that require gradients; vectors and those that [`no_decay_names`] names do not decay."""
    no_decay = no_decay_names(model)
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (decayed if is_decayed(name, parameter, no_decay) else others).append(parameter)
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": arguments.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=arguments.learning_rate,
        betas=(arguments.adam_beta1, arguments.adam_beta2),
    )


class Schedule:
    """
    The learning rate: the paper's plateau after a warm-up, or one of transformers' schedules.

    Args:
        optimizer (`torch.optim.Optimizer`): Whose learning rate to set.
        arguments ([`PretrainingArguments`]): The schedule's name and numbers.
        max_steps (`int`): Steps of the whole run.
        greater_is_better (`bool`, *optional*, defaults to `True`): Whether the metric of evaluations should rise.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        arguments: PretrainingArguments,
        max_steps: int,
        greater_is_better: bool = True,
    ):
        self.optimizer = optimizer
        self.arguments = arguments
        self.step = 0
        self.scheduler: Any
        if arguments.lr_scheduler_type == PLATEAU:
            self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer,
                mode="max" if greater_is_better else "min",
                factor=0.5,
                patience=arguments.lr_patience,
            )
            self.warm_up()
        else:
            self.scheduler = get_scheduler(arguments.lr_scheduler_type, optimizer, arguments.warmup_steps, max_steps)

    def warm_up(self) -> None:
        """Sets the learning rate of a warm-up step."""
        if self.step <= self.arguments.warmup_steps:
            for group in self.optimizer.param_groups:
                group["lr"] = self.arguments.learning_rate * min(
                    1, (self.step + 1) / (self.arguments.warmup_steps + 1)
                )

    def after_step(self) -> None:
        """To be called after each step of the optimizer."""
        self.step += 1
        if self.arguments.lr_scheduler_type == PLATEAU:
            self.warm_up()
        else:
            self.scheduler.step()

    def after_evaluation(self, value: float) -> None:
        """To be called with the metric of each evaluation."""
        if self.arguments.lr_scheduler_type == PLATEAU and self.step > self.arguments.warmup_steps:
            self.scheduler.step(value)

    def state_dict(self) -> dict[str, Any]:
        """What [`load_state_dict`] needs, as JSON can hold it."""
        state = self.scheduler.state_dict()
        # The functions are made of the arguments.
        state.pop("lr_lambdas", None)
        return {"step": self.step, "scheduler": state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Continues from a checkpoint.

        Raises:
            `ValueError`: If the state is not of such a schedule.
        """
        own = self.state_dict()
        # torch takes any attributes.
        if not _is_alike(state, own):
            raise ValueError(f"the schedule must have the state of {self.arguments.lr_scheduler_type}")
        self.step = state["step"]
        self.scheduler.load_state_dict(self.scheduler.state_dict() | state["scheduler"])


def _is_alike(value: Any, own: Any) -> bool:
    """Whether a value of JSON has the names, lengths and types of another one; all finite numbers and infinity are of a type."""
    if isinstance(own, dict):
        return (
            isinstance(value, dict)
            and value.keys() == own.keys()
            and all(_is_alike(value[key], own[key]) for key in own)
        )
    if isinstance(own, list):
        return isinstance(value, list) and len(value) == len(own) and all(map(_is_alike, value, own))
    if isinstance(own, int) and not isinstance(own, bool):
        return is_count(value)
    if isinstance(own, float):
        return is_number(value) and not math.isnan(value)
    return value == own if isinstance(own, str) else type(value) is type(own)
