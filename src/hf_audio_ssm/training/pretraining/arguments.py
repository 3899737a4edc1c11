# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Arguments of pretraining: the data, the model and the training. HfArgumentParser reads them from the command line or files. This
module imports no library that takes long: `--help` needs the fields alone.
"""

import importlib.util
import math
from dataclasses import dataclass, field
from pathlib import Path

from ...common.errors import InputError
from ...data.arguments import BadClipFields
from ..arguments import JsonText, check_at_least, check_seed, read_json_map


PLATEAU = "plateau"
# The paper's schedule, and those of transformers that need only the numbers of steps.
SCHEDULES = (
    PLATEAU,
    *("linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt"),
)


@dataclass
class PretrainingDataArguments(BadClipFields):
    """What to train on."""

    _argument_group_name = "data"

    train_data: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Sources of clips: folders of audio, parquet files, data sets saved to disk, or names on the Hub as "
            "`name`, `name:configuration`, either with `@split`."
        },
    )
    train_weights: list[float] | None = field(
        default=None, metadata={"help": "Weight of each source in the draw of clips. Default: its number of clips."}
    )
    eval_data: list[str] = field(
        default_factory=list, metadata={"help": "Sources to evaluate on. Default: clips held out from `train_data`."}
    )
    num_eval_clips: int = field(
        default=1000,
        metadata={"help": "Most clips to evaluate on. If they are held out, at most a tenth of all clips."},
    )
    streaming: bool = field(default=False, metadata={"help": "Stream the sources during training."})
    shuffle_buffer_size: int = field(default=1000, metadata={"help": "Clips in the shuffle buffer of a stream."})
    num_workers: int = field(
        default=2, metadata={"help": "Worker processes that read clips, for each training process."}
    )
    cache_dir: str | None = field(
        default=None, metadata={"help": "Folder for the filter banks of all clips, computed once."}
    )
    normalization: str = field(
        default="audioset",
        metadata={
            "help": "Mean and standard deviation of the filter banks: those published for AudioSet, or those of the data.",
            "choices": ["audioset", "data"],
        },
    )
    random_crop: bool = field(
        default=True, metadata={"help": "Crop long clips anywhere instead of at their beginning."}
    )
    speed: float = field(
        default=0.0,
        metadata={"help": "Most by which clips are played faster or slower, as a share; moves their pitch."},
    )
    mixup: float = field(default=0.0, metadata={"help": "Share of clips that another one is mixed into."})

    def __post_init__(self) -> None:
        super().__post_init__()
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
    """What to train, and what it learns."""

    _argument_group_name = "model"

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Pretrained model to start from. Default: a new model."}
    )
    model_type: str = field(default="ssamba", metadata={"help": "Encoder of a new model."})
    config_overrides: JsonText = field(
        default="{}",
        metadata={"help": "Fields of the configuration to change, as JSON: '{\"hidden_size\": 384}'."},
    )
    objective: str = field(default="masked_patches", metadata={"help": "Objective: what the model learns."})
    objective_options: JsonText = field(default="{}", metadata={"help": "Arguments of the objective, as JSON."})
    num_masked_patches: int | None = field(
        default=None, metadata={"help": "Patches to mask in training. Default: the share of 400 in 512."}
    )
    generative_loss_weight: float | None = field(
        default=None, metadata={"help": "Weight of the reconstruction error. Default: the configuration's, 10."}
    )
    two_masks: bool = field(
        default=False, metadata={"help": "Use a mask and a pass for each loss, as the original code does."}
    )

    def __post_init__(self) -> None:
        from ...objectives import objective_class

        objective_class(self.objective)
        self.overrides = read_json_map(self, "config_overrides")
        for name in ("num_masked_patches", "generative_loss_weight"):
            if getattr(self, name) is not None:
                self.overrides[name] = getattr(self, name)
        self.options = read_json_map(self, "objective_options")
        if self.two_masks:
            self.options["two_masks"] = True


@dataclass
class PretrainingArguments:
    """How to train."""

    _argument_group_name = "training"

    output_dir: str = field(default="outputs/pretraining", metadata={"help": "Folder for all output."})
    max_steps: int | None = field(
        default=None, metadata={"help": "Steps of the optimizer; overrides the number of epochs."}
    )
    num_train_epochs: float = field(default=10.0, metadata={"help": "Passes over the data, unless it is streamed."})
    per_device_train_batch_size: int = field(
        default=64, metadata={"help": "Clips in a training batch of one process."}
    )
    per_device_eval_batch_size: int = field(
        default=64, metadata={"help": "Clips in an evaluation batch of one process."}
    )
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "Batches in a step of the optimizer."})
    learning_rate: float = field(default=1e-4, metadata={"help": "Learning rate after the warm-up."})
    adam_beta1: float = field(default=0.95, metadata={"help": "AdamW's decay of the mean gradient."})
    adam_beta2: float = field(default=0.999, metadata={"help": "AdamW's decay of the mean squared gradient."})
    weight_decay: float = field(
        default=5e-8, metadata={"help": "AdamW's weight decay. Vectors and positions do not decay."}
    )
    max_grad_norm: float | None = field(
        default=None, metadata={"help": "Clip gradients to this norm. Default: no clipping."}
    )
    lr_scheduler_type: str = field(
        default=PLATEAU,
        metadata={
            "help": "`plateau` (the paper's): halve the learning rate when the validation metric has stopped improving; or a "
            f"schedule of transformers: {', '.join(SCHEDULES[1:])}."
        },
    )
    lr_patience: int = field(default=2, metadata={"help": "Evaluations without improvement that `plateau` waits for."})
    warmup_steps: int = field(default=1000, metadata={"help": "Steps over which the learning rate rises from zero."})
    mixed_precision: str = field(
        default="no", metadata={"help": "Number format of the computation.", "choices": ["no", "bf16", "fp16"]}
    )
    torch_compile: bool = field(default=False, metadata={"help": "Compile the model."})
    gradient_checkpointing: bool = field(
        default=False, metadata={"help": "Compute activations again in the backward pass, to save memory."}
    )
    logging_steps: int = field(default=50, metadata={"help": "Steps between two entries of the log."})
    eval_steps: int = field(default=4000, metadata={"help": "Steps between two evaluations."})
    save_steps: int = field(default=1000, metadata={"help": "Steps between two checkpoints."})
    save_total_limit: int = field(default=2, metadata={"help": "Checkpoints, and models of evaluations, to keep."})
    resume_from_checkpoint: str | None = field(
        default=None, metadata={"help": "Checkpoint to continue from: a folder, or `latest` of `output_dir`."}
    )
    report_to: str = field(
        default="tensorboard",
        metadata={"help": "Tracker: tensorboard, wandb, trackio or another of accelerate's, or none."},
    )
    track_emissions: bool = field(
        default=False,
        metadata={"help": "Estimate CO2 with codecarbon, for the card. Not for a continued run."},
    )
    push_to_hub: str | None = field(
        default=None, metadata={"help": "Repository of the Hub, org/name, to upload the best model to at the end."}
    )
    seed: int = field(
        default=0, metadata={"help": "Seed for the weights, the order of clips, the crops and the masks."}
    )

    def __post_init__(self) -> None:
        check_at_least(
            self,
            1,
            *("max_steps", "per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"),
            *("logging_steps", "eval_steps", "save_steps", "save_total_limit"),
        )
        check_at_least(self, 0, "warmup_steps", "lr_patience", "weight_decay")
        check_seed(self, "seed")
        for name in ("num_train_epochs", "learning_rate", "max_grad_norm"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"--{name} must be a positive number, got {value}")
        for name in ("adam_beta1", "adam_beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"--{name} must be at least 0 and below 1, got {getattr(self, name)}")
        if self.track_emissions and importlib.util.find_spec("codecarbon") is None:
            raise InputError("--track_emissions needs codecarbon: pip install codecarbon")
        if self.lr_scheduler_type not in SCHEDULES:
            raise InputError(
                f"--lr_scheduler_type must be one of {', '.join(SCHEDULES)}, got {self.lr_scheduler_type!r}"
            )
        if self.report_to not in ("none", "tensorboard"):
            from accelerate.utils import LoggerType

            names = [kind.value for kind in LoggerType]
            if self.report_to not in names:
                raise InputError(f"--report_to must be none or one of {', '.join(names)}, got {self.report_to!r}")
        if Path(self.output_dir).exists() and not Path(self.output_dir).is_dir():
            raise InputError(f"--output_dir must be a folder or a new name, got the file {self.output_dir!r}")
