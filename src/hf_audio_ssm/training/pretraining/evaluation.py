# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Losses on the validation clips in the course of pretraining."""

import math
from pathlib import Path
from typing import Any

import datasets
import torch
from accelerate import Accelerator
from torch import nn
from tqdm import tqdm

from ...data.pretraining import PretrainingClips, PretrainingExamples
from ...inference.plots import plot_reconstruction, save_figure
from .batches import make_loader


LOSSES = ("loss", "nce", "mse", "accuracy")


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """A batch with its tensors on `device`."""
    return {
        name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for name, value in batch.items()
    }


class Evaluation:
    """Losses and accuracy on the validation clips, always with the same masks: 400 of 512 patches, or that share."""

    def __init__(self, dataset: datasets.Dataset, examples: PretrainingExamples, num_workers: int, batch_size: int):
        self.clips = PretrainingClips(dataset, examples, seed=0, shuffle=False)
        self.num_workers = num_workers
        self.batch_size = batch_size

    def batches(self, rank: int, world_size: int) -> list[list[int]]:
        """This process's clips; all processes get as many batches, as sharded models need, the last of which may be empty."""
        count = len(self.clips.dataset)
        rounds = math.ceil(count / (world_size * self.batch_size))
        share = list(range(rank, count, world_size))
        return [share[i * self.batch_size : (i + 1) * self.batch_size] for i in range(rounds)]

    def run(
        self, accelerator: Accelerator, model: nn.Module, picture: Path
    ) -> tuple[dict[str, float], list[tuple[str, str]]]:
        """Mean losses and accuracy over the clips, and clips that could not be used; draws a picture of some clips."""
        encoder = accelerator.unwrap_model(model)
        batches = self.batches(accelerator.process_index, accelerator.num_processes)
        # For an empty batch the model computes some clip, which does not count.
        loader = make_loader(self.clips, self.num_workers, batch_sampler=[batch or [0] for batch in batches])
        totals, skipped = torch.zeros(5, device=accelerator.device), []
        model.eval()
        bar = tqdm(loader, desc="Evaluating", unit="batch", leave=False, disable=not accelerator.is_main_process)
        for number, (positions, batch) in enumerate(zip(batches, bar, strict=True)):
            batch = to_device(batch, accelerator.device)
            skipped += batch["skipped"]
            with torch.no_grad():
                outputs = model(input_values=batch["input_values"], bool_masked_pos=batch["bool_masked_pos"])
            means = [outputs.loss, outputs.nce, outputs.mse, outputs.accuracy]
            totals += len(positions) * torch.stack([totals.new_ones(()), *(mean.float() for mean in means)])
            if number == 0 and accelerator.is_main_process:
                figure = plot_reconstruction(
                    encoder, batch["input_values"], batch["bool_masked_pos"], outputs.generative_predictions
                )
                save_figure(figure, picture)
        model.train()
        count, *sums = accelerator.reduce(totals, reduction="sum").tolist()
        return dict(zip(LOSSES, (value / count for value in sums), strict=True)), skipped
