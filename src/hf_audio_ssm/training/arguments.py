# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
The fields of the arguments of training. This module imports no library that takes long: `--help` needs the fields alone. What is
done with the fields is in the classes that complete them.
"""

import math
from dataclasses import dataclass, field
from typing import Annotated, Any

from ..common.configuration_files import parse_json
from ..common.definitions import read_names
from ..common.errors import InputError
from ..common.printable import printable


# An argument that is a JSON object, as text; in files, it may also be a mapping.
JsonText = Annotated[str, "JSON"]

CLASSIFIER_TYPES = read_names("hf_audio_ssm.models.heads.classification_heads", "CLASSIFICATION_HEADS")
ADAPTER_METHODS = read_names("hf_audio_ssm.hub.adapters", "ADAPTER_METHODS")
# Of a comparison.
METHODS = ("knn", *CLASSIFIER_TYPES, *ADAPTER_METHODS, "full")


def check_at_least(arguments: Any, minimum: float, *names: str) -> None:
    """Refuses numbers below `minimum`, or not finite; None passes."""
    for name in names:
        value = getattr(arguments, name)
        if value is not None and not minimum <= value < math.inf:
            raise InputError(f"--{name} must be at least {minimum}, got {value}")


def check_seed(arguments: Any, *names: str) -> None:
    """Refuses numbers that NumPy takes for no seed; None passes."""
    for name in names:
        value = getattr(arguments, name)
        if value is not None and not 0 <= value < 2**32:
            raise InputError(f"--{name} must be in 0 ... 2**32 - 1, got {value}")


def read_json_map(arguments: Any, name: str) -> dict[str, Any]:
    """
    Reads an argument that is a JSON object.

    Args:
        arguments (`Any`): A dataclass.
        name (`str`): The argument, a [`JsonText`].

    Raises:
        [`InputError`]: If it is not one.
    """
    text = getattr(arguments, name)
    try:
        value = parse_json(text)
    except ValueError as error:
        raise InputError(f"--{name} must be JSON, got {printable(repr(text), 80)} ({error})") from error
    if not isinstance(value, dict):
        raise InputError(f"--{name} must map names to values, got {printable(repr(text), 80)}")
    return value


def default_methods() -> tuple[str, ...]:
    """The methods of a comparison that names none."""
    from ..models.heads.classification_heads import CLASSIFICATION_HEADS

    return ("knn", *(name for name, head in CLASSIFICATION_HEADS.items() if head.compared_by_default))


@dataclass
class ClassifierFields:
    """Fields of [`ClassifierArguments`]."""

    _argument_group_name = "model"
    _completed_by = "hf_audio_ssm.training.classifiers.ClassifierArguments"

    model: str = field(metadata={"help": "Checkpoint or adapters: a folder or a Hub name."})
    classifier_type: str | None = field(
        default=None,
        metadata={
            "help": f"Head: {', '.join(CLASSIFIER_TYPES)}. Default: the checkpoint's, linear unless it has one."
        },
    )
    freeze_base_model: bool = field(default=False, metadata={"help": "Train the head alone."})
    frequency_stride: int | None = field(
        default=None, metadata={"help": "Step between patches in mel bins. Default: the checkpoint's."}
    )
    time_stride: int | None = field(
        default=None, metadata={"help": "Step between patches in frames. Default: the checkpoint's."}
    )
    max_length: int | None = field(
        default=None,
        metadata={
            "help": "Frames (10 ms) that clips are cut or padded to. Default: for probes and comparisons the checkpoint's; else "
            "those of the longest clip and of 0.6 s of silence, at most a minute."
        },
    )
    return_attention_mask: bool = field(
        default=False,
        metadata={"help": "Do not read the padding of clips that are shorter than --max_length."},
    )
    normalization: str = field(
        default="keep",
        metadata={
            "help": "Mean and standard deviation of the filter banks: keep, data (of the training clips) or a "
            "preset of the feature extractor."
        },
    )
    binary_cross_entropy: bool = field(
        default=False, metadata={"help": "Use binary cross-entropy per class for clips of one label."}
    )
    config_overrides: JsonText = field(
        default="{}", metadata={"help": "Other fields of the configuration, as JSON: '{\"num_prototypes\": 10}'."}
    )

    def __post_init__(self) -> None:
        self.overrides = read_json_map(self, "config_overrides")
        if self.classifier_type not in (None, *CLASSIFIER_TYPES):
            raise InputError(
                f"--classifier_type must be one of {', '.join(CLASSIFIER_TYPES)}, got {self.classifier_type!r}"
            )
        for name in ("classifier_type", "frequency_stride", "time_stride", "max_length"):
            if getattr(self, name) is not None:
                self.overrides[name] = getattr(self, name)


@dataclass
class ComparisonArguments:
    """What is compared. HfArgumentParser reads the fields from the command line or a file."""

    _argument_group_name = "comparison"

    output_dir: str = field(metadata={"help": "Folder for the table, the picture and the classifiers."})
    methods: list[str] = field(
        default_factory=list,
        metadata={
            "help": f"Methods to compare, of {', '.join(METHODS)}. Default: k-NN and the probes that train fast."
        },
    )
    epochs: int = field(default=50, metadata={"help": "Passes over the training clips, for probes."})
    encoder_epochs: int = field(
        default=20,
        metadata={"help": "Passes over the training clips, for methods that train the encoder: adapters and full."},
    )
    batch_size: int = field(default=8, metadata={"help": "Clips in a training step."})
    seeds: list[int] = field(
        default_factory=lambda: [0],
        metadata={"help": "Seeds of the draw of clips, of new weights and of their order."},
    )
    cache_dir: str | None = field(
        default=None,
        metadata={"help": "Folder that keeps the features of the frozen encoder. Default: keep none."},
    )
    adapter_rank: int = field(default=8, metadata={"help": "Rank of LoRA, DoRA and rsLoRA."})
    adapter_targets: list[str] | None = field(
        default=None, metadata={"help": "Modules to adapt. Default: all projections of the encoder."}
    )

    def __post_init__(self) -> None:
        if not self.methods:
            self.methods = list(default_methods())
        for method in self.methods:
            if method not in METHODS:
                raise InputError(f"--methods must be among {', '.join(METHODS)}, got {method!r}")
        check_at_least(self, 1, "epochs", "encoder_epochs", "batch_size", "adapter_rank")
        for seed in self.seeds:
            if not 0 <= seed < 2**32:
                raise InputError(f"--seeds must be in 0 ... 2**32 - 1, got {seed}")


@dataclass
class FineTuningFields:
    """Fields that [`FineTuningArguments`] adds to those of transformers' TrainingArguments."""

    _argument_group_name = "training"
    _completed_by = "hf_audio_ssm.training.fine_tuning.FineTuningArguments"
    _described_in = ("transformers.training_args", "TrainingArguments")
    # Those that most runs set.
    _shown = frozenset(
        "output_dir num_train_epochs max_steps per_device_train_batch_size per_device_eval_batch_size "
        "gradient_accumulation_steps learning_rate lr_scheduler_type warmup_steps weight_decay label_smoothing_factor "
        "bf16 seed dataloader_num_workers eval_strategy save_strategy save_total_limit load_best_model_at_end "
        "logging_steps report_to resume_from_checkpoint push_to_hub hub_model_id hub_private_repo".split()
    )

    head_learning_rate_multiple: float = field(
        default=1.0, metadata={"help": "Learning rate of the classification head as a multiple of --learning_rate."}
    )
    prototype_learning_rate: float = field(
        default=0.04, metadata={"help": "Learning rate of the prototypes of a prototypical head."}
    )
    epoch_decay: float | None = field(
        default=None,
        metadata={"help": "Factor on the learning rate from epoch to epoch, in place of --lr_scheduler_type."},
    )
    epoch_decay_start: int = field(default=5, metadata={"help": "Epochs before the first --epoch_decay."})
    epoch_decay_every: int = field(default=1, metadata={"help": "Epochs from one --epoch_decay to the next."})
    average_from_epoch: int | None = field(
        default=None, metadata={"help": "First epoch (counted from 1) whose weights go into the average that is kept."}
    )
    average_to_epoch: int | None = field(
        default=None, metadata={"help": "Last epoch whose weights go into the average. Default: the last of all."}
    )
    coupled_weight_decay: bool = field(
        default=False,
        metadata={"help": "Use Adam with weight decay in the gradient, as the originals do, instead of AdamW."},
    )
    robustness: bool = field(
        default=True,
        metadata={"help": "Also test on changed clips: silence around them, another level, and noise."},
    )
    robustness_data: str | None = field(
        default=None, metadata={"help": "Clips of another source with the same labels, to test on as well."}
    )
