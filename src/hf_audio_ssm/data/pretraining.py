# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Examples and batches for pretraining: clips that data loader workers read, crop and turn into an objective's examples.

Everything random about an example (its crops, its masks) is drawn from the seed and the example's place in the run, and not
from the state of a worker or a process. So a run can continue anywhere, and any number of workers and processes make the
same batches.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import datasets
import numpy as np
import soxr
import torch
from datasets.distributed import split_dataset_by_node
from torch.utils.data import Dataset, IterableDataset, Sampler, default_collate, get_worker_info
from transformers.feature_extraction_utils import FeatureExtractionMixin

from ..audio.decoding import MIN_SECONDS, read_audio
from ..audio.frames import seconds_spanned
from ..common.errors import ClipError, InputError
from .augmentation import mix_waveforms
from .bad_clips import name_in_data
from .filter_banks import read_filter_bank


# The run ends after this many unusable clips in a row.
MAX_UNUSABLE = 100


@dataclasses.dataclass(frozen=True)
class PretrainingExamples:
    """
    Makes examples of clips: reads a clip as the arguments say, and leaves the rest to an objective.

    Args:
        feature_extractor (`FeatureExtractionMixin`): Turns samples into the encoder's input.
        make_example (callable): Makes an example, a `dict` of tensors and numbers, of a [`PretrainingClip`].
        random_crop (`bool`, *optional*, defaults to `True`):
            Whether clips longer than the input are cropped anywhere, instead of at their beginning.
        speed (`float`, *optional*, defaults to 0.0):
            Clips are played faster or slower by up to this share. This moves pitch and formants, as another voice does.
        mixup (`float`, *optional*, defaults to 0.0):
            Share of clips that another one is mixed into: their waveforms, each minus its mean, in shares drawn from
            Beta(10, 10).
        is_training (`bool`, *optional*, defaults to `True`): Whether the examples are for training, not for evaluation.
    """

    feature_extractor: FeatureExtractionMixin
    make_example: Callable[["PretrainingClip"], dict[str, Any]]
    random_crop: bool = True
    speed: float = 0.0
    mixup: float = 0.0
    is_training: bool = True

    def __call__(
        self, row: Mapping[str, Any], rng: np.random.Generator, draw_row: Callable[[], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """
        Makes an example.

        Args:
            row (mapping): A row with a clip in `audio`, or one of [`cache_filter_banks`].
            rng (`np.random.Generator`): Draws all that is random.
            draw_row (callable): Gives another row, to mix in.

        Returns:
            `dict`: What `make_example` returns.

        Raises:
            [`ClipError`]: If the clip cannot be used.
        """
        return self.make_example(PretrainingClip(row, rng, draw_row, self))

    def read(self, row: Mapping[str, Any], rng: np.random.Generator, random_crop: bool | None = None) -> np.ndarray:
        """As many samples as the encoder takes, (samples,); raises [`ClipError`]."""
        random_crop = self.random_crop if random_crop is None else random_crop
        speed = rng.uniform(1 - self.speed, 1 + self.speed) if self.speed else 1.0
        max_seconds = speed * seconds_spanned(self.feature_extractor.max_length)
        rate = self.feature_extractor.sampling_rate
        samples = read_audio(row["audio"], rate, max_seconds, rng if random_crop else None, refuse_silence=True)
        if speed == 1.0:
            return samples
        other_speed = soxr.resample(samples, speed * rate, rate, quality="LQ")
        # The shortest clips cannot become any faster.
        return other_speed if len(other_speed) >= MIN_SECONDS * rate else samples


@dataclasses.dataclass(frozen=True)
class PretrainingClip:
    """
    A clip of which an objective makes an example. Nothing is read before a method asks for it.

    Args:
        row (mapping): The clip's row, with the columns that the objective names.
        rng (`np.random.Generator`): Draws all that is random about the example.
        draw_row (callable): Gives another row of the data.
        examples ([`PretrainingExamples`]): How to read clips.
    """

    row: Mapping[str, Any]
    rng: np.random.Generator
    draw_row: Callable[[], Mapping[str, Any]]
    examples: PretrainingExamples

    @property
    def is_training(self) -> bool:
        """Whether the example is for training, not for evaluation."""
        return self.examples.is_training

    def samples(self, random_crop: bool | None = None) -> np.ndarray:
        """
        Reads a crop of the clip, with speed and mixup: float32 samples, (samples,). Each call draws another crop.

        Args:
            random_crop (`bool`, *optional*):
                Whether the crop begins anywhere. By default it does as the run's arguments say in training, and begins
                where the clip does in evaluation.

        Raises:
            [`ClipError`]: If the clip cannot be used.
            [`InputError`]: If only its filter bank was kept.
        """
        if "filter_bank" in self.row:
            raise InputError("--cache_dir must be left out: this objective reads samples, got filter banks")
        samples = self.examples.read(self.row, self.rng, random_crop)
        if self.examples.mixup and self.rng.random() < self.examples.mixup:
            other = self.examples.read(self.draw_row(), self.rng, random_crop)
            samples = mix_waveforms(samples, other, share=self.rng.beta(10, 10))
        return samples

    def input_values(self, samples: np.ndarray | None = None, random_crop: bool | None = None) -> torch.Tensor:
        """
        Makes the encoder's input: float32 (frames, mel bins). Each call without `samples` reads another crop.

        Args:
            samples (`np.ndarray` of shape `(samples,)`, *optional*): What [`samples`] gave, as it was or augmented.
            random_crop (`bool`, *optional*): As in [`samples`].

        Raises:
            [`ClipError`]: If the clip cannot be used.
        """
        extractor = self.examples.feature_extractor
        if samples is None and "filter_bank" in self.row:
            is_random = self.examples.random_crop if random_crop is None else random_crop
            return torch.from_numpy(read_filter_bank(self.row, extractor, self.rng if is_random else None))
        samples = self.samples(random_crop) if samples is None else samples
        return extractor(samples, sampling_rate=extractor.sampling_rate, return_tensors="pt")["input_values"][0]


class PretrainingClips(Dataset):
    """
    Examples by their place in the run, without end: each epoch has a new order of all clips. A clip that cannot be used is
    listed in `skipped`, with its path and the reason, and another one takes its place.

    Args:
        dataset (`datasets.Dataset`): The clips.
        examples ([`PretrainingExamples`]): Makes the examples.
        seed (`int`): Seed of everything that is random.
        shuffle (`bool`, *optional*, defaults to `True`): Whether to shuffle the clips.
    """

    def __init__(self, dataset: datasets.Dataset, examples: PretrainingExamples, seed: int, shuffle: bool = True):
        self.dataset = dataset
        self.examples = examples
        self.seed = seed
        self.shuffle = shuffle
        self._epoch, self._order = -1, np.arange(len(dataset))

    def __len__(self) -> int:
        """The number of clips in an epoch. Places beyond it belong to later epochs."""
        return len(self.dataset)

    def index(self, position: int) -> int:
        """The index of the clip at a place in the run."""
        epoch, offset = divmod(position, len(self.dataset))
        if self.shuffle and epoch != self._epoch:
            self._epoch = epoch
            # The last number keeps the draws of orders apart from those of examples.
            self._order = np.random.default_rng((self.seed, epoch, MAX_UNUSABLE)).permutation(len(self.dataset))
        return int(self._order[offset])

    def __getitem__(self, position: int) -> dict[str, Any]:
        index = self.index(position)
        skipped: list[tuple[str, str]] = []
        while True:
            # Each try has its own draws, so they do not depend on a broken clip before.
            rng = np.random.default_rng((self.seed, position, len(skipped)))
            if skipped:
                index = int(rng.integers(len(self.dataset)))
            try:
                example = self.examples(self.dataset[index], rng, partial(self.draw_row, rng))
                return {**example, "skipped": skipped}
            except ClipError as error:
                skipped.append((name_in_data(error.clip, f"row {index} of the data"), error.reason))
                refuse_unusable(skipped)

    def draw_row(self, rng: np.random.Generator) -> Mapping[str, Any]:
        """Any row of the data set."""
        return self.dataset[int(rng.integers(len(self.dataset)))]


class PositionBatches(Sampler):
    """
    Places in the run, batch by batch, for one of several processes. A batch of all processes is a range of places, and each
    process takes its part of it.

    Args:
        batch_size (`int`): Clips in a batch of one process.
        start (`int`): The first place of the first batch.
        num_batches (`int`): How many batches.
        rank (`int`, *optional*, defaults to 0): This process.
        world_size (`int`, *optional*, defaults to 1): Processes.
    """

    def __init__(self, batch_size: int, start: int, num_batches: int, rank: int = 0, world_size: int = 1):
        self.batch_size = batch_size
        self.start = start
        self.num_batches = num_batches
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[list[int]]:
        for batch in range(self.num_batches):
            first = self.start + (batch * self.world_size + self.rank) * self.batch_size
            yield list(range(first, first + self.batch_size))


class PretrainingStream(IterableDataset):
    """
    Examples of a streamed data set, without end, in shuffled order. Each process and worker reads its own shards. A clip
    that cannot be used is listed in the next example's `skipped`.

    A stream cannot jump. To continue, a worker reads the rows of its epoch again, without decoding them. Each example's
    `place` says how far its worker was then: (worker, epoch, rows read).

    Args:
        dataset (`datasets.IterableDataset`): The clips, with one shard for each worker of each process or more.
        examples ([`PretrainingExamples`]): Makes the examples.
        seed (`int`): Seed of everything that is random.
        buffer_size (`int`, *optional*, defaults to 1000): Rows in the shuffle buffer.
        rank (`int`, *optional*, defaults to 0): This process.
        world_size (`int`, *optional*, defaults to 1): Processes.
        places (`Mapping[int, tuple[int, int]]`, *optional*): Where to begin: worker -> (epoch, rows read).
    """

    def __init__(
        self,
        dataset: datasets.IterableDataset,
        examples: PretrainingExamples,
        seed: int,
        buffer_size: int = 1000,
        rank: int = 0,
        world_size: int = 1,
        places: Mapping[int, tuple[int, int]] | None = None,
    ):
        self.dataset = dataset
        self.examples = examples
        self.seed = seed
        self.buffer_size = buffer_size
        self.rank = rank
        self.world_size = world_size
        self.places = dict(places or {})

    @property
    def num_shards(self) -> int:
        """The number of shards of this process, and so the most workers that can share them."""
        return self.rows(epoch=0).num_shards

    def rows(self, epoch: int) -> datasets.IterableDataset:
        """The rows that this process and its workers read in an epoch, in its order."""
        # Not `set_epoch`: workers share its number, but can be in different epochs.
        generator = np.random.default_rng((self.seed, epoch))
        shuffled = self.dataset.shuffle(generator=generator, buffer_size=self.buffer_size)
        return split_dataset_by_node(shuffled, self.rank, self.world_size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        worker = 0 if info is None else info.id
        epoch, rows_read = self.places.get(worker, (0, 0))
        skipped = []
        while True:
            rows = enumerate(self.rows(epoch), start=1)
            number = 0
            for number, row in rows:
                if number <= rows_read:
                    continue
                rng = np.random.default_rng((self.seed, self.rank, worker, epoch, number))
                partners: list[tuple[int | None, Mapping[str, Any]]] = []

                def draw_row(
                    rows: Iterator[tuple[int, Mapping[str, Any]]] = rows,
                    row: Mapping[str, Any] = row,
                    partners: list[tuple[int | None, Mapping[str, Any]]] = partners,
                ) -> Mapping[str, Any]:
                    # At the end of an epoch the clip is its own partner.
                    partners.append(next(rows, (None, row)))
                    return partners[-1][1]

                try:
                    example = self.examples(row, rng, draw_row)
                except ClipError as error:
                    place = f"row {number} of process {self.rank}, worker {worker}, epoch {epoch}"
                    skipped.append((name_in_data(error.clip, place), error.reason))
                    refuse_unusable(skipped)
                    continue
                last = max([number, *(taken for taken, _ in partners if taken)])
                yield {**example, "skipped": skipped, "place": (worker, epoch, last)}
                skipped = []
            if not number:
                raise InputError(
                    "a worker got no clip of the stream; use fewer workers or processes, or a source with more shards"
                )
            epoch, rows_read = epoch + 1, 0


def refuse_unusable(skipped: Sequence[tuple[str, str]]) -> None:
    """Raises [`InputError`] after `MAX_UNUSABLE` clips in a row that cannot be used."""
    if len(skipped) >= MAX_UNUSABLE:
        clip, reason = skipped[-1]
        raise InputError(f"{len(skipped)} clips in a row cannot be used, the last of them {clip}: {reason}")


def collate_pretraining(
    examples: Sequence[Mapping[str, Any]],
    collate: Callable[..., dict[str, Any]] = default_collate,
) -> dict[str, Any]:
    """
    Puts examples into a batch.

    Args:
        examples (`Sequence[Mapping]`): The examples of [`PretrainingClips`] or [`PretrainingStream`].
        collate (callable, *optional*): Puts together what the objective made; by default, stacks tensors and numbers.

    Returns:
        `dict` of what `collate` returns; `skipped`, a list of (clip, reason); and of a stream `place`, that of the last
        example.
    """
    own = ("skipped", "place")
    batch = collate([{name: value for name, value in example.items() if name not in own} for example in examples])
    batch["skipped"] = [clip for example in examples for clip in example["skipped"]]
    if "place" in examples[-1]:
        batch["place"] = examples[-1]["place"]
    return batch
