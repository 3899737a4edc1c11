# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Batches for masked spectrogram patch modelling: crops, filter banks and masks, made in the data loader's workers.

Everything random about an example (its crop, its mask) is drawn from the seed and the example's place in the run,
not from the state of a worker or a process. So a run can be taken up anywhere, and any number of workers and processes
make the same batches of it.
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
from torch.utils.data import Dataset, IterableDataset, Sampler, get_worker_info
from transformers.feature_extraction_utils import FeatureExtractionMixin

from ..audio.decoding import MIN_SECONDS, read_audio
from ..common.errors import ClipError, InputError
from ..models.patch_encoder.configuration_patch_encoder import PatchEncoderConfig
from ..models.patch_encoder.masked_patch_modeling import draw_patch_mask
from .augmentation import mix_waveforms
from .filter_banks import FRAMES_PER_SECOND, read_filter_bank


# So many clips one after another that cannot be used mean that the data cannot.
MAX_UNUSABLE = 100


@dataclasses.dataclass(frozen=True)
class PretrainingExamples:
    """
    Makes examples of clips: the encoder's input and its mask.

    Args:
        feature_extractor (`FeatureExtractionMixin`): Turns samples into the encoder's input.
        config (`PatchEncoderConfig`): The encoder's configuration: its grid of patches and the clusters of its masks.
        num_masked_patches (`int`): Patches to mask in each clip.
        num_masks (`int`, *optional*, defaults to 1): Independent masks for each clip.
        random_crop (`bool`, *optional*, defaults to `True`):
            Whether clips longer than the input are cropped anywhere, instead of at their beginning.
        speed (`float`, *optional*, defaults to 0.0):
            Clips are played faster or slower by up to this share, which moves pitch and formants as well: other voices.
        mixup (`float`, *optional*, defaults to 0.0):
            Share of clips that another one is mixed into: their waveforms, each minus its mean, in shares drawn from
            Beta(10, 10).
    """

    feature_extractor: FeatureExtractionMixin
    config: PatchEncoderConfig
    num_masked_patches: int
    num_masks: int = 1
    random_crop: bool = True
    speed: float = 0.0
    mixup: float = 0.0

    def __call__(
        self, row: Mapping[str, Any], rng: np.random.Generator, draw_row: Callable[[], Mapping[str, Any]]
    ) -> dict[str, torch.Tensor]:
        """
        Makes an example.

        Args:
            row (mapping): A row with a clip in `audio`, or one of [`cache_filter_banks`].
            rng (`np.random.Generator`): Draws all that is random.
            draw_row (callable): Gives another row, to mix in.

        Returns:
            `dict` of `input_values`, float32 (frames, mel bins), and `bool_masked_pos`, bool (masks, patches).

        Raises:
            [`ClipError`]: If the clip cannot be used.
        """
        if "filter_bank" in row:
            values = read_filter_bank(row, self.feature_extractor, rng if self.random_crop else None)
            input_values = torch.from_numpy(values)
        else:
            samples = self.read(row, rng)
            if self.mixup and rng.random() < self.mixup:
                samples = mix_waveforms(samples, self.read(draw_row(), rng), share=rng.beta(10, 10))
            rate = self.feature_extractor.sampling_rate
            input_values = self.feature_extractor(samples, sampling_rate=rate, return_tensors="pt")["input_values"][0]
        mask = draw_patch_mask(
            self.num_masks,
            self.config.patch_grid(len(input_values)),
            self.num_masked_patches,
            self.config.mask_cluster_sizes,
            generator=torch.Generator().manual_seed(int(rng.integers(2**63))),
        )
        return {"input_values": input_values, "bool_masked_pos": mask}

    def read(self, row: Mapping[str, Any], rng: np.random.Generator) -> np.ndarray:
        """As many samples as the encoder takes, (samples,); raises [`ClipError`]."""
        speed = rng.uniform(1 - self.speed, 1 + self.speed) if self.speed else 1.0
        # The last frame of 25 ms reaches 15 ms beyond the next one's start.
        max_seconds = speed * (self.feature_extractor.max_length / FRAMES_PER_SECOND + 0.015)
        rate = self.feature_extractor.sampling_rate
        samples = read_audio(row["audio"], rate, max_seconds, rng if self.random_crop else None, refuse_silence=True)
        if speed == 1.0:
            return samples
        other_speed = soxr.resample(samples, speed * rate, rate, quality="LQ")
        # The shortest clips cannot become any faster.
        return other_speed if len(other_speed) >= MIN_SECONDS * rate else samples


class PretrainingClips(Dataset):
    """
    Examples by their place in the run, for ever: a new order of all clips in each epoch. A clip that cannot be used is
    listed in `skipped`, with its path and the reason, and another one takes its place.

    Args:
        dataset (`datasets.Dataset`): The clips.
        examples ([`PretrainingExamples`]): What to make of them.
        seed (`int`): Of everything that is random.
        shuffle (`bool`, *optional*, defaults to `True`): Whether to shuffle the clips.
    """

    def __init__(self, dataset: datasets.Dataset, examples: PretrainingExamples, seed: int, shuffle: bool = True):
        self.dataset = dataset
        self.examples = examples
        self.seed = seed
        self.shuffle = shuffle
        self._epoch, self._order = -1, np.arange(len(dataset))

    def __len__(self) -> int:
        """Clips in an epoch; places beyond are of the next ones."""
        return len(self.dataset)

    def index(self, position: int) -> int:
        """The index of the clip at a place in the run."""
        epoch, offset = divmod(position, len(self.dataset))
        if self.shuffle and epoch != self._epoch:
            self._epoch = epoch
            # The last word keeps the orders apart from the draws of examples.
            self._order = np.random.default_rng((self.seed, epoch, MAX_UNUSABLE)).permutation(len(self.dataset))
        return int(self._order[offset])

    def __getitem__(self, position: int) -> dict[str, Any]:
        index, skipped = self.index(position), []
        while True:
            # Each try's own draws, which so depend on nothing that a broken clip did.
            rng = np.random.default_rng((self.seed, position, len(skipped)))
            if skipped:
                index = int(rng.integers(len(self.dataset)))
            try:
                example = self.examples(self.dataset[index], rng, partial(self.draw_row, rng))
                return {**example, "skipped": skipped}
            except ClipError as error:
                skipped.append((error.clip, error.reason))
                refuse_unusable(skipped)

    def draw_row(self, rng: np.random.Generator) -> Mapping[str, Any]:
        """Any row of the data set."""
        return self.dataset[int(rng.integers(len(self.dataset)))]


class PositionBatches(Sampler):
    """
    Places in the run, batch by batch, for one of several processes: each batch of all processes together is a run of
    places, of which each process takes its part.

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
    Examples of a streamed data set, for ever, in shuffled order; each process and worker reads its own shards. A clip that
    cannot be used is listed in the next example's `skipped`.

    A stream cannot jump: to take it up, a worker reads again, without decoding, what it read in its epoch before. Each
    example's `place` says how far its worker was then: (worker, epoch, rows read).

    Args:
        dataset (`datasets.IterableDataset`): The clips, with one shard for each worker of each process or more.
        examples ([`PretrainingExamples`]): What to make of them.
        seed (`int`): Of everything that is random.
        buffer_size (`int`, *optional*, defaults to 1000): Rows that are shuffled among each other.
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
        """Shards of this process: as many workers can share them."""
        return self.rows(epoch=0).num_shards

    def rows(self, epoch: int) -> datasets.IterableDataset:
        """The rows that this process and its workers read in an epoch, in its order."""
        # Not `set_epoch`: workers share that number, and need not be in the same epoch.
        generator = np.random.default_rng((self.seed, epoch))
        shuffled = self.dataset.shuffle(generator=generator, buffer_size=self.buffer_size)
        return split_dataset_by_node(shuffled, self.rank, self.world_size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info().id if get_worker_info() is not None else 0
        epoch, rows_read = self.places.get(worker, (0, 0))
        skipped = []
        while True:
            rows = enumerate(self.rows(epoch), start=1)
            number = 0
            for number, row in rows:
                if number <= rows_read:
                    continue
                rng = np.random.default_rng((self.seed, self.rank, worker, epoch, number))
                partners = []

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
                    skipped.append((error.clip, error.reason))
                    refuse_unusable(skipped)
                    continue
                last = max([number, *(taken for taken, _ in partners if taken)])
                yield {**example, "skipped": skipped, "place": (worker, epoch, last)}
                skipped = []
            if not number:
                raise InputError(
                    "the stream has no clip for each worker; use fewer workers, or a source of more shards"
                )
            epoch, rows_read = epoch + 1, 0


def refuse_unusable(skipped: Sequence[tuple[str, str]]) -> None:
    """Raises [`InputError`] after `MAX_UNUSABLE` clips in a row that cannot be used."""
    if len(skipped) >= MAX_UNUSABLE:
        clip, reason = skipped[-1]
        raise InputError(f"{len(skipped)} clips in a row cannot be used, the last of them {clip}: {reason}")


def collate_pretraining(examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """
    Puts examples into a batch.

    Returns:
        `dict` of `input_values`, float32 (batch, frames, mel bins); `bool_masked_pos`, bool (batch, patches), and with a
        second mask `generative_bool_masked_pos` of the same shape; `skipped`, a list of (clip, reason); and of a stream
        `place`, that of the last example.
    """
    masks = torch.stack([example["bool_masked_pos"] for example in examples], dim=1)
    batch = {
        "input_values": torch.stack([example["input_values"] for example in examples]),
        "bool_masked_pos": masks[0],
        "skipped": [clip for example in examples for clip in example["skipped"]],
    }
    if len(masks) > 1:
        batch["generative_bool_masked_pos"] = masks[1]
    if "place" in examples[-1]:
        batch["place"] = examples[-1]["place"]
    return batch
