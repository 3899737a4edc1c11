# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Pretrains an audio encoder without labels, by masked spectrogram patch modelling, from raw audio to a checkpoint.

    python examples/run_pretrain.py examples/configs/spoken_words.yaml
    accelerate launch examples/run_pretrain.py examples/configs/ssamba_tiny_400.yaml --train_data audio/ --output_dir out
    accelerate launch examples/run_pretrain.py examples/configs/ssamba_tiny_400.yaml --resume_from_checkpoint latest

Arguments come from YAML or JSON files, the command line, or both; what comes later wins. `main`, at the end of this file,
is the whole run in order: the encoder, the data, the optimiser, then step by step, with evaluations and checkpoints.

`output_dir` gets:

    checkpoints/step-N/   all that it takes to continue exactly (the newest `save_total_limit`)
    evaluations/step-N/   the model, loadable by `from_pretrained`, at each evaluation (as many), and `best/` so far
    pictures/step-N.png   what was masked, its reconstruction and their difference
    logs/                 losses, for TensorBoard or another tracker
    skipped_clips.csv     clips that could not be used, and why
"""

import csv
import difflib
import json
import math
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration, broadcast_object_list, gather_object, set_seed
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, StrictDataclassError
from matplotlib.figure import Figure
from PIL import Image
from tqdm import tqdm
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForPreTraining,
    HfArgumentParser,
    PreTrainedModel,
    SchedulerType,
    get_scheduler,
)
from transformers.feature_extraction_utils import FeatureExtractionMixin
from transformers.models.auto.feature_extraction_auto import FEATURE_EXTRACTOR_MAPPING

from hf_audio_ssm.data.decoding import read_audio
from hf_audio_ssm.data.filter_banks import cache_filter_banks
from hf_audio_ssm.data.pretraining import (
    PositionBatches,
    PretrainingClips,
    PretrainingExamples,
    PretrainingStream,
    collate_pretraining,
)
from hf_audio_ssm.data.sources import load_sources
from hf_audio_ssm.errors import ClipError, InputError
from hf_audio_ssm.model_card import pretrained_card
from hf_audio_ssm.models.patch_encoder.masked_patch_modeling import (
    discriminative_loss,
    generative_loss,
    usual_num_masked_patches,
)


PLATEAU = "plateau"
LOSSES = ("loss", "nce", "mse", "accuracy")
# Fields of a configuration that say where it came from, or what may change in the middle of a run.
NOT_COMPARED = ("_name_or_path", "architectures", "auto_map", "dtype", "transformers_version")


@dataclass
class DataArguments:
    """What to train on."""

    train_data: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Sources of clips: folders of audio, parquet files, data sets saved to disk, or names on the Hub as "
            "name[:configuration][@split]."
        },
    )
    train_weights: list[float] | None = field(
        default=None, metadata={"help": "How often each source is drawn from. Default: as often as it has clips."}
    )
    eval_data: list[str] = field(
        default_factory=list, metadata={"help": "Sources to evaluate on. Default: clips held out of `train_data`."}
    )
    num_eval_clips: int = field(
        default=1000,
        metadata={"help": "Clips to evaluate on, at most; where they are held out, at most a tenth of all."},
    )
    streaming: bool = field(default=False, metadata={"help": "Read the sources bit by bit while training."})
    shuffle_buffer_size: int = field(default=1000, metadata={"help": "Streamed clips shuffled among each other."})
    num_workers: int = field(default=2, metadata={"help": "Processes that read clips, for each training process."})
    cache_dir: str | None = field(
        default=None, metadata={"help": "Folder in which to keep the filter banks of all clips, computed once."}
    )
    normalization: str = field(
        default="audioset",
        metadata={
            "help": "Mean and standard deviation of the filter banks: AudioSet's, as published, or those of the data.",
            "choices": ["audioset", "data"],
        },
    )
    random_crop: bool = field(
        default=True, metadata={"help": "Crop long clips anywhere instead of at their beginning."}
    )
    speed: float = field(
        default=0.0, metadata={"help": "Share by which clips are played faster or slower at most, with their pitch."}
    )
    mixup: float = field(default=0.0, metadata={"help": "Share of clips that another one is mixed into."})

    def __post_init__(self):
        check_at_least(self, 1, "num_eval_clips", "shuffle_buffer_size")
        check_at_least(self, 0, "num_workers")
        if not self.train_data:
            raise InputError("--train_data must name at least one source of audio, got none")
        if not 0 <= self.mixup <= 1:
            raise InputError(f"--mixup must be a share from 0 to 1, got {self.mixup}")
        if not 0 <= self.speed <= 0.5:
            raise InputError(f"--speed must be a share from 0 to 0.5, got {self.speed}")
        if self.cache_dir is not None and (self.streaming or self.mixup or self.speed):
            raise InputError(
                "--cache_dir keeps filter banks of whole data sets; it needs --streaming False, --mixup 0 and --speed 0"
            )
        if self.streaming and not self.eval_data:
            raise InputError("--streaming needs --eval_data: no clips can be held out of a stream")


@dataclass
class ModelArguments:
    """What to train."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Pretrained model to go on from, instead of a new one."}
    )
    model_type: str = field(default="ssamba", metadata={"help": "Encoder of a new model."})
    config_overrides: str = field(
        default="{}",
        metadata={"help": "Fields of the configuration that differ, as JSON: '{\"hidden_size\": 384}'."},
    )
    num_masked_patches: int | None = field(
        default=None, metadata={"help": "Patches to mask in training. Default: the share of 400 in 512."}
    )
    generative_loss_weight: float | None = field(
        default=None, metadata={"help": "Weight of the reconstruction error. Default: the configuration's, 10."}
    )
    two_masks: bool = field(
        default=False, metadata={"help": "A mask and a pass of its own for each loss, as the original code does."}
    )

    def __post_init__(self):
        try:
            overrides = json.loads(self.config_overrides)
        except json.JSONDecodeError as error:
            raise InputError(f"--config_overrides must be JSON, got {self.config_overrides!r} ({error})") from error
        if not isinstance(overrides, dict):
            raise InputError(f"--config_overrides must map names to values, got {self.config_overrides!r}")
        for name in ("num_masked_patches", "generative_loss_weight"):
            if getattr(self, name) is not None:
                overrides[name] = getattr(self, name)
        self.overrides = overrides


@dataclass
class TrainingArguments:
    """How to train."""

    output_dir: str = field(default="outputs/pretraining", metadata={"help": "Folder for everything that is written."})
    max_steps: int | None = field(default=None, metadata={"help": "Steps of the optimiser; wins over epochs."})
    num_train_epochs: float = field(default=10.0, metadata={"help": "Passes over the data, where it is not streamed."})
    per_device_train_batch_size: int = field(default=64, metadata={"help": "Clips in a batch of one process."})
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "The same in evaluation."})
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "Batches in a step of the optimiser."})
    learning_rate: float = field(default=1e-4, metadata={"help": "Learning rate after the warm-up."})
    adam_beta1: float = field(default=0.95, metadata={"help": "AdamW's decay of the mean gradient."})
    adam_beta2: float = field(default=0.999, metadata={"help": "AdamW's decay of the mean squared gradient."})
    weight_decay: float = field(default=5e-8, metadata={"help": "AdamW's weight decay, of all but vectors."})
    max_grad_norm: float | None = field(default=None, metadata={"help": "Norm to clip gradients at. Default: none."})
    lr_scheduler_type: str = field(
        default=PLATEAU,
        metadata={
            "help": "`plateau` (the paper's): halved when the validation accuracy has stopped rising; or one of "
            "transformers', such as cosine."
        },
    )
    lr_patience: int = field(default=2, metadata={"help": "Evaluations without a rise that `plateau` lets pass."})
    warmup_steps: int = field(default=1000, metadata={"help": "Steps over which the learning rate rises from zero."})
    mixed_precision: str = field(
        default="no", metadata={"help": "Number format of the computation.", "choices": ["no", "bf16", "fp16"]}
    )
    torch_compile: bool = field(default=False, metadata={"help": "Compile the model."})
    gradient_checkpointing: bool = field(
        default=False, metadata={"help": "Compute activations twice, to save memory."}
    )
    logging_steps: int = field(default=50, metadata={"help": "Steps between two rows of the log."})
    eval_steps: int = field(default=4000, metadata={"help": "Steps between two evaluations."})
    save_steps: int = field(default=1000, metadata={"help": "Steps between two checkpoints."})
    save_total_limit: int = field(
        default=2, metadata={"help": "Checkpoints, and models of evaluations, that are kept."}
    )
    resume_from_checkpoint: str | None = field(
        default=None, metadata={"help": "Checkpoint to continue from: a folder, or `latest` of `output_dir`."}
    )
    report_to: str = field(
        default="tensorboard",
        metadata={"help": "Tracker: tensorboard, wandb, trackio or another of accelerate's, or none."},
    )
    push_to_hub: str | None = field(
        default=None, metadata={"help": "Repository of the Hub, org/name, to upload the best model to at the end."}
    )
    seed: int = field(default=0, metadata={"help": "Of the weights, the order of clips, the crops and the masks."})

    def __post_init__(self):
        check_at_least(
            self,
            1,
            *("max_steps", "per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"),
            *("logging_steps", "eval_steps", "save_steps", "save_total_limit"),
        )
        check_at_least(self, 0, "warmup_steps", "lr_patience", "weight_decay", "seed")
        for name in ("num_train_epochs", "learning_rate", "max_grad_norm"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"--{name} must be a positive number, got {value}")
        for name in ("adam_beta1", "adam_beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"--{name} must be at least 0 and below 1, got {getattr(self, name)}")
        schedules = [PLATEAU, *(kind.value for kind in SchedulerType if kind != SchedulerType.REDUCE_ON_PLATEAU)]
        if self.lr_scheduler_type not in schedules:
            raise InputError(
                f"--lr_scheduler_type must be one of {', '.join(schedules)}, got {self.lr_scheduler_type!r}"
            )
        if Path(self.output_dir).exists() and not Path(self.output_dir).is_dir():
            raise InputError(f"--output_dir must be a folder or a new name, got the file {self.output_dir!r}")


ARGUMENTS = (DataArguments, ModelArguments, TrainingArguments)


def check_at_least(arguments: Any, minimum: float, *names: str) -> None:
    for name in names:
        value = getattr(arguments, name)
        if value is not None and not minimum <= value < math.inf:
            raise InputError(f"--{name} must be at least {minimum}, got {value}")


# ---- Arguments: from files and the command line ----


def read_config(path: Path) -> dict[str, Any]:
    """The arguments in a YAML or JSON file, over those of the file that its key `include` names, beside it."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as YAML or JSON ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: must map arguments to values, got {type(content).__name__}")
    names = [entry.name for arguments in ARGUMENTS for entry in fields(arguments)]
    for key in content:
        if key not in [*names, "include"]:
            close = difflib.get_close_matches(str(key), names, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise InputError(f"{path}: there is no argument {key!r}{hint}")
    if "include" in content:
        content = read_config(path.parent / content.pop("include")) | content
    return content


def parse_arguments(command_line: list[str]) -> tuple[DataArguments, ModelArguments, TrainingArguments]:
    """The leading files' arguments, then those of the command line."""
    parser = HfArgumentParser(ARGUMENTS, description=__doc__.splitlines()[0])
    # Through the same parser, so that a file's values are converted and checked as the command line's are.
    words = []
    while command_line and command_line[0].endswith((".yaml", ".yml", ".json")):
        for name, value in read_config(Path(command_line[0])).items():
            if value is None:
                continue
            if isinstance(value, dict):
                value = json.dumps(value)
            words += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
        command_line = command_line[1:]
    return parser.parse_args_into_dataclasses(args=words + command_line)


# ---- The encoder and the data ----


def make_model(arguments: ModelArguments) -> tuple[PreTrainedModel, FeatureExtractionMixin]:
    """A new model for pretraining, or one to go on from, and its feature extractor."""
    source = arguments.model_name_or_path
    try:
        if source is not None:
            model = AutoModelForPreTraining.from_pretrained(source, **arguments.overrides)
            return model, AutoFeatureExtractor.from_pretrained(source)
        config = AutoConfig.for_model(arguments.model_type)
        unknown = [name for name in arguments.overrides if not hasattr(config, name)]
        if unknown:
            raise InputError(f"--config_overrides: {type(config).__name__} has no field {unknown[0]!r}")
        config = AutoConfig.for_model(arguments.model_type, **arguments.overrides)
        model = AutoModelForPreTraining.from_config(config)
    except InputError:
        raise
    except (OSError, ValueError, TypeError, StrictDataclassError) as error:
        raise InputError(f"cannot make the model {source or arguments.model_type}: {error}") from error
    feature_extractor = FEATURE_EXTRACTOR_MAPPING[type(config)](
        max_length=config.max_length, num_mel_bins=config.num_mel_bins
    )
    return model, feature_extractor


def load_data(
    arguments: DataArguments, seed: int
) -> tuple[datasets.Dataset | datasets.IterableDataset, datasets.Dataset]:
    """The clips to train and to evaluate on."""
    train = load_sources(arguments.train_data, arguments.train_weights, arguments.streaming, seed)
    if not arguments.eval_data:
        count = min(arguments.num_eval_clips, len(train) // 10)
        if not count:
            raise InputError(f"--train_data has {len(train)} clips, too few to hold any out; give --eval_data as well")
        split = train.train_test_split(test_size=count, seed=seed)
        return split["train"], split["test"]
    evaluation = load_sources(arguments.eval_data, streaming=arguments.streaming)
    if arguments.streaming:
        return train, datasets.Dataset.from_list(list(evaluation.take(arguments.num_eval_clips)))
    count = min(arguments.num_eval_clips, len(evaluation))
    return train, evaluation.shuffle(seed=seed).select(range(count)) if count < len(evaluation) else evaluation


def compute_mean_std(feature_extractor: FeatureExtractionMixin, dataset, limit: int = 2000) -> tuple[float, float]:
    """Mean and standard deviation of the filter banks of (the first 2000) clips."""

    def clips() -> Iterator[np.ndarray]:
        for row in dataset.take(limit):
            try:
                yield read_audio(row["audio"], feature_extractor.sampling_rate, feature_extractor.max_length / 100)
            except ClipError:
                # Reported when its turn comes in training.
                continue

    return feature_extractor.compute_mean_std(clips(), sampling_rate=feature_extractor.sampling_rate)


def make_loader(dataset, num_workers: int, **kwargs) -> torch.utils.data.DataLoader:
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
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class TrainingBatches:
    """
    The training batches of this process from any one on, of clips or a stream, and the position to continue from.

    A stream's workers take turns: batch b is of worker b % workers. To take it up, all go back to their state before the
    last full turn, and the batches of that turn that were used are passed over.
    """

    def __init__(
        self, dataset, examples, arguments: DataArguments, batch_size: int, seed: int, accelerator: Accelerator
    ):
        self.dataset = dataset
        self.examples = examples
        self.arguments = arguments
        self.batch_size = batch_size
        self.seed = seed
        self.ranks = {"rank": accelerator.process_index, "world_size": accelerator.num_processes}
        self.streaming = isinstance(dataset, datasets.IterableDataset)
        self.num_workers = arguments.num_workers
        if self.streaming:
            stream = PretrainingStream(dataset, examples, seed, arguments.shuffle_buffer_size, **self.ranks)
            self.num_workers = min(self.num_workers, stream.num_shards)
        self.places: dict[int, tuple[int, int]] = {}
        self.places_before_turn: dict[int, tuple[int, int]] = {}

    def iterate(self, start: int, stop: int) -> Iterator[dict[str, Any]]:
        """Yields batches `start` ... `stop` - 1."""
        if not self.streaming:
            clips = PretrainingClips(self.dataset, self.examples, self.seed)
            batches = PositionBatches(self.batch_size, start, stop, **self.ranks)
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

    def position(self, done: int) -> dict[str, Any]:
        """What [`load_position`] needs after `done` batches."""
        at_turn = done % max(1, self.num_workers) == 0
        return {"places": self.places if at_turn else self.places_before_turn, "num_workers": self.num_workers}

    def load_position(self, position: dict[str, Any]) -> None:
        if self.streaming and position["num_workers"] != self.num_workers:
            raise InputError(
                f"a stream continues with as many workers as before: --num_workers must be {position['num_workers']}, "
                f"got {self.num_workers}"
            )
        self.places = {int(worker): tuple(place) for worker, place in position["places"].items()}


class Schedule:
    """The learning rate: the paper's plateau after a warm-up, or one of transformers' schedules."""

    def __init__(self, optimizer: torch.optim.Optimizer, arguments: TrainingArguments, max_steps: int):
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
        if self.step <= self.arguments.warmup_steps:
            for group in self.optimizer.param_groups:
                group["lr"] = self.arguments.learning_rate * min(
                    1, (self.step + 1) / (self.arguments.warmup_steps + 1)
                )

    def after_step(self) -> None:
        self.step += 1
        if self.arguments.lr_scheduler_type == PLATEAU:
            self.warm_up()
        else:
            self.scheduler.step()

    def after_evaluation(self, accuracy: float) -> None:
        if self.arguments.lr_scheduler_type == PLATEAU and self.step > self.arguments.warmup_steps:
            self.scheduler.step(accuracy)

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "scheduler": self.scheduler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.scheduler.load_state_dict(state["scheduler"])


# ---- Losses, evaluation, pictures ----


def compute_losses(model, encoder: PreTrainedModel, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """
    loss, nce, mse and accuracy of a batch: with one mask the model's own; with two, of one pass over the clips twice.
    `encoder` is `model` without what accelerate put around it.
    """
    inputs, mask = batch["input_values"], batch["bool_masked_pos"]
    if "generative_bool_masked_pos" not in batch:
        outputs = model(input_values=inputs, bool_masked_pos=mask)
        return {name: outputs[name] for name in LOSSES}
    masks = torch.cat((mask, batch["generative_bool_masked_pos"]))
    outputs = model(input_values=torch.cat((inputs, inputs)), bool_masked_pos=masks, return_loss=False)
    patches = encoder.patchify(inputs).float()
    nce, accuracy = discriminative_loss(patches, outputs.discriminative_predictions[: len(inputs)].float(), mask)
    mse = generative_loss(
        patches, outputs.generative_predictions[len(inputs) :].float(), batch["generative_bool_masked_pos"]
    )
    return {
        "loss": nce + encoder.config.generative_loss_weight * mse,
        "nce": nce,
        "mse": mse,
        "accuracy": accuracy,
    }


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {
        name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for name, value in batch.items()
    }


class Evaluation:
    """Losses and accuracy on the validation clips, always with the same masks: 400 of 512 patches, or that share."""

    def __init__(self, dataset: datasets.Dataset, examples: PretrainingExamples, data: DataArguments, batch_size: int):
        self.clips = PretrainingClips(dataset, examples, seed=0, shuffle=False)
        self.num_workers = data.num_workers
        self.batch_size = batch_size

    def batches(self, rank: int, world_size: int) -> list[list[int]]:
        """This process's clips; all processes get as many batches, as sharded models need, the last of which may be empty."""
        count = len(self.clips.dataset)
        rounds = math.ceil(count / (world_size * self.batch_size))
        share = list(range(rank, count, world_size))
        return [share[i * self.batch_size : (i + 1) * self.batch_size] for i in range(rounds)]

    def run(self, accelerator: Accelerator, model, picture: Path) -> tuple[dict[str, float], list[tuple[str, str]]]:
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
                draw_reconstruction(picture, encoder, batch, outputs.generative_predictions)
        model.train()
        count, *sums = accelerator.reduce(totals, reduction="sum").tolist()
        return dict(zip(LOSSES, (value / count for value in sums), strict=True)), skipped


def draw_reconstruction(
    path: Path, encoder: PreTrainedModel, batch: dict[str, Any], predictions: torch.Tensor
) -> None:
    """Draws, of the first clips of a batch, the masked input, its reconstruction, and the difference, to a PNG file."""
    shown = slice(0, 3)
    inputs, mask = batch["input_values"][shown].float(), batch["bool_masked_pos"][shown, :, None]
    patches = encoder.patchify(inputs)
    length = inputs.shape[1]
    reconstruction = encoder.unpatchify(torch.where(mask, predictions[shown].float(), patches), length)
    visible = encoder.unpatchify(torch.where(mask, torch.nan, patches), length)
    panels = {"masked input": visible, "reconstruction": reconstruction, "difference": reconstruction - inputs}

    figure = Figure(figsize=(12, 2.5 * len(inputs)), layout="tight")
    axes = figure.subplots(len(inputs), len(panels), sharex=True, sharey=True, squeeze=False)
    for column, (title, values) in zip(axes.T, panels.items(), strict=True):
        for axis, clip, original in zip(column, values.cpu().numpy(), inputs.cpu(), strict=True):
            # Colours of a row mean the same in its input and its reconstruction; differences go from -2 to 2.
            low, high = (-2.0, 2.0) if title == "difference" else (float(original.min()), float(original.max()))
            cmap = "RdBu" if title == "difference" else "magma"
            extent = (0, length / 100, 0, clip.shape[1])
            axis.imshow(clip.T, origin="lower", aspect="auto", extent=extent, cmap=cmap, vmin=low, vmax=high)
        column[0].set_title(title)
        column[-1].set_xlabel("time (s)")
    for axis in axes[:, 0]:
        axis.set_ylabel("mel bin")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    figure.savefig(partial, format="png", dpi=80)
    partial.replace(path)


def log_picture(accelerator: Accelerator, picture: Path, step: int) -> None:
    """Shows a picture in TensorBoard, if that is where the losses go."""
    for tracker in accelerator.trackers:
        if tracker.name == "tensorboard" and accelerator.is_main_process:
            with Image.open(picture) as image:
                pixels = np.asarray(image.convert("RGB"))
            tracker.writer.add_image("reconstruction", pixels, step, dataformats="HWC")


# ---- What is written ----


def replace_folder(partial: Path, folder: Path) -> None:
    """Gives a finished folder its name; one that had the name before goes."""
    if folder.exists():
        old = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old)
    else:
        partial.rename(folder)


def steps_in(folder: Path) -> list[Path]:
    """The folders step-N in a folder, by N."""
    found = [path for path in folder.glob("step-*") if path.name.removeprefix("step-").isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


class Writer:
    """Everything that is written to `output_dir`; folders get their name when they are complete, and the oldest go."""

    def __init__(self, accelerator: Accelerator, arguments: TrainingArguments):
        self.accelerator = accelerator
        self.folder = Path(arguments.output_dir)
        self.limit = arguments.save_total_limit
        self.skipped: dict[str, str] = {}

    def partial(self, folder: Path) -> Path:
        """An empty folder, made by the main process, in which to write what becomes `folder`."""
        partial = folder.with_name(f".{folder.name}.partial")
        if self.accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        return partial

    def finish(self, partial: Path, folder: Path) -> None:
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            replace_folder(partial, folder)
            for path in steps_in(folder.parent)[: -self.limit]:
                shutil.rmtree(path)
        self.accelerator.wait_for_everyone()

    def save_checkpoint(self, state: dict[str, Any]) -> Path:
        """Everything that it takes to continue after `state["step"]`."""
        folder = self.folder / "checkpoints" / f"step-{state['step']}"
        if not folder.exists():
            partial = self.partial(folder)
            self.accelerator.save_state(partial)
            positions = gather_object([state["position"]])
            if self.accelerator.is_main_process:
                content = {**state, "position": positions, "skipped": self.skipped}
                (partial / "run.json").write_text(json.dumps(content, indent=2), encoding="utf-8")
            self.finish(partial, folder)
        return folder

    def save_model(self, model, feature_extractor, card, step: int, is_best: bool) -> None:
        """The model as `from_pretrained` loads it, with its feature extractor and card."""
        folder = self.folder / "evaluations" / f"step-{step}"
        weights = self.accelerator.get_state_dict(model)
        partial = self.partial(folder)
        if self.accelerator.is_main_process:
            self.accelerator.unwrap_model(model).save_pretrained(partial, state_dict=weights)
            feature_extractor.save_pretrained(partial)
            card.save(partial / "README.md")
            if is_best:
                best = self.folder / ".best.partial"
                shutil.rmtree(best, ignore_errors=True)
                shutil.copytree(partial, best)
                replace_folder(best, self.folder / "best")
        self.finish(partial, folder)

    def report_skipped(self, skipped: list[tuple[str, str]]) -> None:
        """Adds clips that could not be used, of all processes, to the list."""
        before = len(self.skipped)
        self.skipped.update(gather_object(skipped))
        if self.accelerator.is_main_process and len(self.skipped) > before:
            path = self.folder / "skipped_clips.csv"
            partial = path.with_suffix(".partial")
            with open(partial, "w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerows([("clip", "reason"), *self.skipped.items()])
            partial.replace(path)


def comparable(config: dict[str, Any]) -> dict[str, Any]:
    """What a configuration says of the model, as JSON holds it."""
    return json.loads(json.dumps({name: value for name, value in config.items() if name not in NOT_COMPARED}))


def read_checkpoint(arguments: TrainingArguments, config: dict[str, Any], data: dict[str, Any]) -> tuple[Path, dict]:
    """The checkpoint to continue from and its state, if it is one of this run."""
    folder = Path(arguments.resume_from_checkpoint)
    if arguments.resume_from_checkpoint == "latest":
        found = steps_in(Path(arguments.output_dir) / "checkpoints")
        if not found:
            raise InputError(f"--resume_from_checkpoint latest: no checkpoint in {arguments.output_dir}/checkpoints")
        folder = found[-1]
    try:
        state = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"--resume_from_checkpoint {folder}: is no checkpoint of this script ({error})") from error
    for what, now in (("config", config), ("data", data)):
        before = state.get(what, {})
        for name in sorted(set(now) | set(before)):
            if now.get(name) != before.get(name):
                raise InputError(
                    f"--resume_from_checkpoint {folder}: is of another run, whose {name} was "
                    f"{before.get(name)!r}, not {now.get(name)!r}; to go on from its model, use --model_name_or_path"
                )
    return folder, state


# ---- The run ----


def main(data: DataArguments, model_arguments: ModelArguments, arguments: TrainingArguments) -> dict[str, float]:
    """Runs all steps; returns the last evaluation."""
    accelerator = Accelerator(
        mixed_precision=arguments.mixed_precision,
        gradient_accumulation_steps=arguments.gradient_accumulation_steps,
        dynamo_backend="inductor" if arguments.torch_compile else None,
        log_with=None if arguments.report_to == "none" else arguments.report_to,
        project_config=ProjectConfiguration(arguments.output_dir, f"{arguments.output_dir}/logs"),
    )
    is_main = accelerator.is_main_process
    signal.signal(signal.SIGTERM, lambda *_: accelerator.set_trigger())

    # 1. The encoder: equal weights in all processes, then random numbers of their own.
    set_seed(arguments.seed)
    model, feature_extractor = make_model(model_arguments)
    set_seed(arguments.seed, device_specific=True)
    config = model.config
    grid = config.patch_grid(feature_extractor.max_length)
    num_patches = math.prod(grid)
    num_masked_patches = config.num_masked_patches or usual_num_masked_patches(grid)
    if num_masked_patches >= num_patches:
        raise InputError(
            f"--num_masked_patches must be below the number of patches of a clip, {num_patches}, got {num_masked_patches}"
        )
    if arguments.gradient_checkpointing:
        model.gradient_checkpointing_enable()

    # 2. What to continue from, if anything.
    run_config = comparable(config.to_dict())
    run_data = {
        name: getattr(data, name)
        for name in ("train_data", "train_weights", "streaming", "random_crop", "speed", "mixup")
    }
    run_data |= {"two_masks": model_arguments.two_masks, "seed": arguments.seed}
    if data.streaming:
        batch_size = arguments.per_device_train_batch_size
        run_data |= {"num_processes": accelerator.num_processes, "per_device_train_batch_size": batch_size}
    checkpoint, state = None, {"step": 0, "best_accuracy": -1.0}
    if arguments.resume_from_checkpoint is not None:
        checkpoint, state = read_checkpoint(arguments, run_config, run_data)

    # 3. The data. Processes that share a disk let the first one write its caches.
    with accelerator.main_process_first():
        train, evaluation_clips = load_data(data, arguments.seed)
    if checkpoint is not None:
        feature_extractor.mean, feature_extractor.std = state["mean_std"]
    elif data.normalization == "data":
        mean_std = [compute_mean_std(feature_extractor, train) if is_main else None]
        feature_extractor.mean, feature_extractor.std = broadcast_object_list(mean_std)[0]
    if data.cache_dir is not None:
        with accelerator.main_process_first():
            train, evaluation_clips = (
                cache_filter_banks(clips, feature_extractor, data.cache_dir, data.num_workers)
                for clips in (train, evaluation_clips)
            )
    examples = PretrainingExamples(
        feature_extractor,
        config,
        num_masked_patches,
        num_masks=2 if model_arguments.two_masks else 1,
        random_crop=data.random_crop,
        speed=data.speed,
        mixup=data.mixup,
    )
    evaluation_examples = PretrainingExamples(
        feature_extractor, config, usual_num_masked_patches(grid), random_crop=False
    )
    evaluation = Evaluation(evaluation_clips, evaluation_examples, data, arguments.per_device_eval_batch_size)
    batches = TrainingBatches(
        train, examples, data, arguments.per_device_train_batch_size, arguments.seed, accelerator
    )
    accumulation = arguments.gradient_accumulation_steps
    clips_per_step = arguments.per_device_train_batch_size * accelerator.num_processes * accumulation
    tokens_per_step = clips_per_step * (num_patches + config.num_prefix_tokens)
    max_steps = arguments.max_steps
    if max_steps is None:
        if data.streaming:
            raise InputError("--streaming needs --max_steps: a stream does not say how long it is")
        max_steps = math.ceil(arguments.num_train_epochs * len(train) / clips_per_step)

    # 4. The optimiser and its schedule.
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": arguments.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=arguments.learning_rate,
        betas=(arguments.adam_beta1, arguments.adam_beta2),
    )
    if accelerator.state.deepspeed_plugin is not None:
        accelerator.state.deepspeed_plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = (
            arguments.per_device_train_batch_size
        )
    model, optimizer = accelerator.prepare(model, optimizer)
    encoder = accelerator.unwrap_model(model)
    schedule = Schedule(optimizer, arguments, max_steps)
    accelerator.register_for_checkpointing(schedule)
    if checkpoint is not None:
        accelerator.load_state(checkpoint)
        batches.load_position(state["position"][accelerator.process_index % len(state["position"])])

    # 5. Where to write. Only now, when everything is known to fit.
    writer = Writer(accelerator, arguments)
    writer.skipped = state.get("skipped", {})
    if is_main and arguments.push_to_hub is not None:
        try:
            HfApi().create_repo(arguments.push_to_hub, exist_ok=True)
        except (HfHubHTTPError, HFValidationError) as error:
            raise InputError(f"--push_to_hub {arguments.push_to_hub}: cannot be written to ({error})") from error
    Path(arguments.output_dir).mkdir(parents=True, exist_ok=True)
    if arguments.report_to != "none":
        hyperparameters = vars(data) | vars(model_arguments) | vars(arguments)
        simple = {
            name: value if isinstance(value, (int, float)) else str(value) for name, value in hyperparameters.items()
        }
        accelerator.init_trackers("pretraining", config=simple)
    accelerator.print(
        f"{encoder.num_parameters() / 1e6:.2f} million parameters; {num_masked_patches} of {num_patches} patches masked; "
        f"{clips_per_step} clips ({tokens_per_step} tokens) in a step, on {accelerator.num_processes} processes; "
        f"steps {state['step']} to {max_steps}"
    )

    # 6. Training.
    step, best_accuracy, metrics = state["step"], state["best_accuracy"], state.get("metrics", {})
    skipped: list[tuple[str, str]] = []
    logged = torch.zeros(len(LOSSES), device=accelerator.device)
    logged_at, began = step, time.perf_counter()

    def save_checkpoint() -> None:
        nonlocal skipped
        writer.report_skipped(skipped)
        skipped = []
        position = batches.position(step * accumulation)
        content = {"step": step, "best_accuracy": best_accuracy, "metrics": metrics, "position": position}
        mean_std = (feature_extractor.mean, feature_extractor.std)
        writer.save_checkpoint({**content, "mean_std": mean_std, "config": run_config, "data": run_data})

    stream = batches.iterate(step * accumulation, max_steps * accumulation)
    bar = tqdm(total=max_steps, initial=step, desc="Training", unit="step", disable=not is_main)
    model.train()
    while step < max_steps:
        for _ in range(accumulation):
            batch = to_device(next(stream), accelerator.device)
            skipped += batch["skipped"]
            with accelerator.accumulate(model):
                losses = compute_losses(model, encoder, batch)
                accelerator.backward(losses["loss"])
                if accelerator.sync_gradients and arguments.max_grad_norm is not None:
                    accelerator.clip_grad_norm_(model.parameters(), arguments.max_grad_norm)
                optimizer.step()
                optimizer.zero_grad()
            logged += torch.stack([losses[name].detach().float() for name in LOSSES]) / accumulation
        schedule.after_step()
        step += 1
        bar.update()

        if step % arguments.logging_steps == 0 or step == max_steps:
            means = (accelerator.reduce(logged, reduction="mean") / (step - logged_at)).tolist()
            seconds = time.perf_counter() - began
            row = {f"train/{name}": mean for name, mean in zip(LOSSES, means, strict=True)}
            row["train/learning_rate"] = optimizer.param_groups[0]["lr"]
            row["train/tokens_per_second"] = (step - logged_at) * tokens_per_step / seconds
            accelerator.log(row, step=step)
            bar.set_postfix_str(
                f"loss {row['train/loss']:.3f}, accuracy {row['train/accuracy']:.3f}, "
                f"{row['train/tokens_per_second']:.0f} tokens/s"
            )
            if not math.isfinite(row["train/loss"]):
                raise InputError(
                    f"the loss at step {step} is {row['train/loss']}; a lower --learning_rate, or --max_grad_norm 1, or a "
                    "wider --mixed_precision may help. The last checkpoint is untouched"
                )
            logged.zero_()
            logged_at, began = step, time.perf_counter()

        if step % arguments.eval_steps == 0 or step == max_steps:
            picture = writer.folder / "pictures" / f"step-{step}.png"
            metrics, unusable = evaluation.run(accelerator, model, picture)
            writer.report_skipped(unusable)
            schedule.after_evaluation(metrics["accuracy"])
            is_best = metrics["accuracy"] > best_accuracy
            best_accuracy = max(best_accuracy, metrics["accuracy"])
            accelerator.log({f"eval/{name}": value for name, value in metrics.items()}, step=step)
            log_picture(accelerator, picture, step)
            if is_main:
                bar.write(f"step {step}: " + ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
            facts = {
                "Steps": step,
                "Clips in a step": clips_per_step,
                "Masked patches": f"{num_masked_patches} of {num_patches}" + ", two masks" * model_arguments.two_masks,
                "Learning rate": f"{arguments.learning_rate:g}, {arguments.lr_scheduler_type}",
                "Number format": {"no": "float32"}.get(arguments.mixed_precision, arguments.mixed_precision),
            }
            name = arguments.push_to_hub or Path(arguments.output_dir).name
            card = pretrained_card(name, encoder, feature_extractor, data.train_data, facts, metrics)
            writer.save_model(model, feature_extractor, card, step, is_best)
            began = time.perf_counter()

        is_asked_to_stop = accelerator.check_trigger()
        if step % arguments.save_steps == 0 or step == max_steps or is_asked_to_stop:
            save_checkpoint()
        if is_asked_to_stop:
            accelerator.print(f"Asked to stop: saved step {step}; continue with --resume_from_checkpoint latest")
            break
    stream.close()
    bar.close()

    # 7. The end.
    if is_main and writer.skipped:
        print(f"{len(writer.skipped)} clips could not be used, see {writer.folder / 'skipped_clips.csv'}:")
        for clip, reason in list(writer.skipped.items())[:10]:
            print(f"  {clip}: {reason}")
    if is_main and arguments.push_to_hub is not None and step == max_steps:
        message = f"Pretraining, step {step}"
        HfApi().upload_folder(
            repo_id=arguments.push_to_hub, folder_path=writer.folder / "best", commit_message=message
        )
    accelerator.end_training()
    return metrics


if __name__ == "__main__":
    try:
        main(*parse_arguments(sys.argv[1:]))
    except InputError as error:
        sys.exit(f"error: {error}")
