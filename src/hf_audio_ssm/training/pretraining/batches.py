# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Batches of pretraining examples, from any one on."""

import signal
from collections.abc import Iterator
from typing import Any

import datasets
import torch
from accelerate import Accelerator

from ...common.errors import InputError
from ...data.pretraining import (
    PositionBatches,
    PretrainingClips,
    PretrainingExamples,
    PretrainingStream,
    collate_pretraining,
)
from .arguments import PretrainingDataArguments


def make_loader(dataset: torch.utils.data.Dataset, num_workers: int, **kwargs: Any) -> torch.utils.data.DataLoader:
    """A data loader whose workers leave SIGTERM, which a job's end may send to all of them, to the main process."""
    return torch.utils.data.DataLoader(
        dataset,
        collate_fn=collate_pretraining,
        num_workers=num_workers,
        worker_init_fn=ignore_sigterm,
        pin_memory=torch.cuda.is_available(),
        # Its own, so that a loader that is made again takes nothing from the model's random numbers.
        generator=torch.Generator(),
        **kwargs,
    )


def ignore_sigterm(worker: int) -> None:
    """In a worker: leaves SIGTERM to the main process."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class TrainingBatches:
    """
    The training batches of this process from any one on, of clips or a stream, and the position to continue from.

    A stream's workers take turns: batch b is of worker b % workers. To take it up, all go back to their state before the
    last full turn, and the batches of that turn that were used are passed over.
    """

    def __init__(
        self,
        dataset: datasets.Dataset | datasets.IterableDataset,
        examples: PretrainingExamples,
        arguments: PretrainingDataArguments,
        batch_size: int,
        seed: int,
        accelerator: Accelerator,
    ):
        self.dataset = dataset
        self.examples = examples
        self.arguments = arguments
        self.batch_size = batch_size
        self.seed = seed
        self.ranks = {"rank": accelerator.process_index, "world_size": accelerator.num_processes}
        # The batch that a run of the script begins with, and the place in the run of its first clip.
        self.start, self.start_place = 0, 0
        self.streaming = isinstance(dataset, datasets.IterableDataset)
        self.num_workers = arguments.num_workers
        if self.streaming:
            stream = PretrainingStream(dataset, examples, seed, arguments.shuffle_buffer_size, **self.ranks)
            self.num_workers = min(self.num_workers, stream.num_shards)
        self.places: dict[int, tuple[int, int]] = {}
        self.places_before_turn: dict[int, tuple[int, int]] = {}

    def iterate(self, start: int, stop: int) -> Iterator[dict[str, Any]]:
        """Yields batches `start` ... `stop` - 1."""
        self.start = start
        if not self.streaming:
            clips = PretrainingClips(self.dataset, self.examples, self.seed)
            batches = PositionBatches(self.batch_size, self.start_place, stop - start, **self.ranks)
            yield from make_loader(clips, self.num_workers, batch_sampler=batches)
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
        loader = make_loader(stream, self.num_workers, batch_size=self.batch_size)
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
        """Clips in the first `done` batches of all processes, of which there may have been more or fewer before."""
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
        """Goes on from what [`position`] returned."""
        if self.streaming and position["num_workers"] != self.num_workers:
            raise InputError(
                f"a stream continues with as many workers as before: --num_workers must be {position['num_workers']}, "
                f"got {self.num_workers}"
            )
        self.start_place = position["place"]
        self.places = {int(worker): tuple(place) for worker, place in position["places"].items()}
