# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Batches of pretraining examples, from any batch on."""

import signal
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import datasets
import torch
from accelerate import Accelerator
from torch.utils.data import default_collate

from ...common.errors import InputError
from ...data.pretraining import (
    PositionBatches,
    PretrainingClips,
    PretrainingExamples,
    PretrainingStream,
    collate_pretraining,
)
from .arguments import PretrainingDataArguments


def make_loader(
    dataset: torch.utils.data.Dataset, num_workers: int, collate: Callable = default_collate, **kwargs: Any
) -> torch.utils.data.DataLoader:
    """
    Makes a data loader. Its workers ignore SIGTERM, which a scheduler may send to all processes of a job: the main process
    handles it.

    Args:
        dataset (`Dataset`): [`PretrainingClips`] or [`PretrainingStream`].
        num_workers (`int`): Worker processes.
        collate (callable, *optional*): The objective's, see [`collate_pretraining`].
        kwargs: More arguments of `DataLoader`.
    """
    return torch.utils.data.DataLoader(
        dataset,
        collate_fn=partial(collate_pretraining, collate=collate),
        num_workers=num_workers,
        worker_init_fn=ignore_sigterm,
        pin_memory=torch.cuda.is_available(),
        # Its own generator, so that a new loader does not change the model's random numbers.
        generator=torch.Generator(),
        **kwargs,
    )


def ignore_sigterm(worker: int) -> None:
    """Ignores SIGTERM in a worker."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class TrainingBatches:
    """
    The training batches of this process, of clips or a stream, from any batch on, and the position to continue from.

    A stream's workers take turns: batch b comes from worker b % workers. To continue, all workers go back to their state before
    the last full turn, and the batches of that turn that were used are skipped.

    Args:
        dataset (`datasets.Dataset` or `datasets.IterableDataset`): The clips.
        examples ([`PretrainingExamples`]): Makes examples of them.
        arguments ([`PretrainingDataArguments`]): How to read them.
        batch_size (`int`): Clips in a batch of one process.
        seed (`int`): Seed of everything that is random.
        accelerator (`Accelerator`): Knows this process among all.
        collate (callable, *optional*): The objective's, see [`collate_pretraining`].
    """

    def __init__(
        self,
        dataset: datasets.Dataset | datasets.IterableDataset,
        examples: PretrainingExamples,
        arguments: PretrainingDataArguments,
        batch_size: int,
        seed: int,
        accelerator: Accelerator,
        collate: Callable = default_collate,
    ):
        self.dataset = dataset
        self.examples = examples
        self.arguments = arguments
        self.batch_size = batch_size
        self.seed = seed
        self.collate = collate
        self.ranks = {"rank": accelerator.process_index, "world_size": accelerator.num_processes}
        # The batch to begin with, and the place in the run of its first clip.
        self.start, self.start_place = 0, 0
        self.streaming = isinstance(dataset, datasets.IterableDataset)
        self.num_workers = arguments.num_workers
        if self.streaming:
            stream = PretrainingStream(dataset, examples, seed, arguments.shuffle_buffer_size, **self.ranks)
            self.num_workers = min(self.num_workers, stream.num_shards)
        self.places: dict[int, tuple[int, int]] = {}
        self.places_before_turn: dict[int, tuple[int, int]] = {}

    def iterate(self, start: int, stop: int) -> Generator[dict[str, Any], None, None]:
        """Yields batches `start` ... `stop` - 1."""
        self.start = start
        if not self.streaming:
            clips = PretrainingClips(self.dataset, self.examples, self.seed)
            batches = PositionBatches(self.batch_size, self.start_place, stop - start, **self.ranks)
            yield from make_loader(clips, self.num_workers, self.collate, batch_sampler=batches)
            return
        stream = PretrainingStream(
            self.dataset,
            self.examples,
            self.seed,
            self.arguments.shuffle_buffer_size,
            **self.ranks,
            places=self.places,
        )
        turn = max(1, self.num_workers)
        loader = make_loader(stream, self.num_workers, self.collate, batch_size=self.batch_size)
        for number, batch in enumerate(loader, start=start - start % turn):
            if number % turn == 0:
                self.places_before_turn = dict(self.places)
            worker, *place = batch.pop("place")
            self.places[worker] = tuple(place)
            if number >= start:
                yield batch
            if number + 1 >= stop:
                return

    def count_clips(self, done: int) -> int:
        """The clips in the first `done` batches of all processes; their number may have changed between parts of the run."""
        return self.start_place + (done - self.start) * self.batch_size * self.ranks["world_size"]

    def position(self, done: int) -> dict[str, Any]:
        """What [`load_position`] needs after `done` batches."""
        at_turn = done % max(1, self.num_workers) == 0
        return {
            "place": self.count_clips(done),
            "places": self.places if at_turn else self.places_before_turn,
            "num_workers": self.num_workers,
        }

    def load_position(self, position: dict[str, Any]) -> None:
        """Continues from what [`position`] returned."""
        if self.streaming and position["num_workers"] != self.num_workers:
            raise InputError(
                f"--num_workers must be {position['num_workers']}, as before: a stream continues with the same number of "
                f"workers, got {self.num_workers}"
            )
        self.start_place = position["place"]
        self.places = {int(worker): tuple(place) for worker, place in position["places"].items()}
