# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Means of the loss and the metrics over batches, and the evaluation on the validation clips in the course of pretraining."""

import math
from pathlib import Path
from typing import Any

import datasets
import torch
from accelerate import Accelerator
from torch import nn
from tqdm import tqdm

from ...data.pretraining import PretrainingClips, PretrainingExamples
from ...objectives import Objective, ObjectiveOutput
from .batches import make_loader


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """A batch with its tensors on `device`."""
    return {
        name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for name, value in batch.items()
    }


class Means:
    """Means of the loss and the metrics over the batches of all processes."""

    def __init__(self) -> None:
        # By name: the sum of values times counts, and the sum of counts.
        self.totals: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def add(self, output: ObjectiveOutput, num_clips: int) -> None:
        """Adds what the objective computed of a batch of `num_clips` clips; with 0, the batch does not count."""
        for name, value in {"loss": output.loss, **(output.metrics or {})}.items():
            value = value.detach().float()
            own = (output.counts or {}).get(name) if num_clips else None
            count = torch.full_like(value, num_clips) if own is None else own.to(value)
            # The mean of no cases may be NaN.
            total = torch.where(count > 0, value * count, 0.0)
            self.totals[name] = self.totals.get(name, value.new_zeros(2)) + torch.stack([total, count])

    def compute(self, accelerator: Accelerator) -> dict[str, float]:
        """The means by name; NaN where nothing was counted."""
        totals = accelerator.reduce(torch.stack(list(self.totals.values())), reduction="sum").tolist()
        return {
            name: total / count if count else math.nan
            for name, (total, count) in zip(self.totals, totals, strict=True)
        }


class Evaluation:
    """
    The loss and the metrics on the validation clips, whose examples are the same each time.

    Args:
        dataset (`datasets.Dataset`): The validation clips.
        examples ([`PretrainingExamples`]): Makes their examples.
        objective ([`Objective`]): Whose loss and metrics to compute.
        num_workers (`int`): Processes that read clips.
        batch_size (`int`): Clips in a batch of one process.
    """

    def __init__(
        self,
        dataset: datasets.Dataset,
        examples: PretrainingExamples,
        objective: Objective,
        num_workers: int,
        batch_size: int,
    ):
        self.clips = PretrainingClips(dataset, examples, seed=0, shuffle=False)
        self.objective = objective
        self.num_workers = num_workers
        self.batch_size = batch_size

    def batches(self, rank: int, world_size: int) -> list[list[int]]:
        """The clips of this process. All processes get the same number of batches, as sharded models need; the last may be empty."""
        count = len(self.clips.dataset)
        rounds = math.ceil(count / (world_size * self.batch_size))
        share = list(range(rank, count, world_size))
        return [share[i * self.batch_size : (i + 1) * self.batch_size] for i in range(rounds)]

    def run(
        self, accelerator: Accelerator, model: nn.Module, picture: Path
    ) -> tuple[dict[str, float], list[tuple[str, str]]]:
        """
        Evaluates.

        Args:
            accelerator (`Accelerator`): The run's.
            model (`nn.Module`): The objective, as accelerate prepared it.
            picture (`Path`): Where to draw a reconstruction, if the objective makes one.

        Returns:
            The means of the loss and the metrics by name, and the clips that could not be used, as (clip, reason).
        """
        batches = self.batches(accelerator.process_index, accelerator.num_processes)
        # In place of an empty batch the model computes the first clip, which does not count.
        sampler = [batch or [0] for batch in batches]
        loader = make_loader(self.clips, self.num_workers, self.objective.collate, batch_sampler=sampler)
        means, skipped = Means(), []
        model.eval()
        bar = tqdm(loader, desc="Evaluating", unit="batch", leave=False, disable=not accelerator.is_main_process)
        for number, (positions, batch) in enumerate(zip(batches, bar, strict=True)):
            skipped += batch.pop("skipped")
            batch = to_device(batch, accelerator.device)
            with torch.no_grad():
                output = model(**batch)
                means.add(output, len(positions))
                if number == 0 and accelerator.is_main_process:
                    self.draw(batch, output, picture)
        model.train()
        return means.compute(accelerator), skipped

    def draw(self, batch: dict[str, Any], output: ObjectiveOutput, picture: Path) -> None:
        """Draws what the objective reconstructed of a batch, if it does."""
        # Importing matplotlib and scikit-learn takes seconds.
        from ...inference import plots

        reconstruction = self.objective.reconstruct(batch, output)
        if reconstruction is not None:
            plots.save_figure(plots.plot_reconstruction(*reconstruction), picture)
