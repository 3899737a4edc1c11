# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What to pretrain, on what, and how: arguments that HfArgumentParser reads from the command line or a file."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers.integrations import is_codecarbon_available

from ...common.errors import InputError


PLATEAU = "plateau"
# Those of transformers that need nothing but the numbers of steps come after it.
SCHEDULES = (
    PLATEAU,
    *("linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt"),
)


def check_at_least(arguments: Any, minimum: float, *names: str) -> None:
    """Refuses numbers below `minimum`, or not finite, naming the argument; None passes."""
    for name in names:
        value = getattr(arguments, name)
        if value is not None and not minimum <= value < math.inf:
            raise InputError(f"--{name} must be at least {minimum}, got {value}")


@dataclass
class PretrainingDataArguments:
    """What to train on."""

    train_data: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Sources of clips: folders of audio, parquet files, data sets saved to disk, or names on the Hub as "
            "`name`, `name:configuration`, either with `@split`."
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

    def __post_init__(self) -> None:
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
class PretrainingModelArguments:
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

    def __post_init__(self) -> None:
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
class PretrainingArguments:
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
            f"transformers': {', '.join(SCHEDULES[1:])}."
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
    track_emissions: bool = field(
        default=False,
        metadata={"help": "Have codecarbon estimate the CO2 of a run that is not continued, for its card."},
    )
    push_to_hub: str | None = field(
        default=None, metadata={"help": "Repository of the Hub, org/name, to upload the best model to at the end."}
    )
    seed: int = field(default=0, metadata={"help": "Of the weights, the order of clips, the crops and the masks."})

    def __post_init__(self) -> None:
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
        if self.track_emissions and not is_codecarbon_available():
            raise InputError("--track_emissions needs codecarbon: pip install codecarbon")
        if self.lr_scheduler_type not in SCHEDULES:
            raise InputError(
                f"--lr_scheduler_type must be one of {', '.join(SCHEDULES)}, got {self.lr_scheduler_type!r}"
            )
        if Path(self.output_dir).exists() and not Path(self.output_dir).is_dir():
            raise InputError(f"--output_dir must be a folder or a new name, got the file {self.output_dir!r}")
