# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Training of classifiers with transformers' Trainer, and what the recipes of the originals add to it."""

import copy
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import peft
import torch
from huggingface_hub import ModelCard
from huggingface_hub.errors import HFValidationError, HTTPError
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset
from transformers import (
    FeatureExtractionMixin,
    PreTrainedModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import SchedulerType

from ..audio.decoding import read_seconds
from ..audio.frames import count_frames
from ..common.errors import InputError
from ..data.augmentation import Augmentation
from ..data.labelled import LabelledClips
from ..data.labelled_collator import LabelledClipCollator
from ..evaluation.metrics import METRICS, make_compute_metrics
from ..hub.adapters import save_classifier_config
from ..hub.card_callback import write_card
from ..hub.push import check_hub
from .arguments import FineTuningFields, check_at_least, check_seed
from .checkpoints import one_line_errors
from .exact_trainer import ContinuingTrainer
from .weight_decay import is_decayed, no_decay_names


WEIGHT_AVERAGE = "weight_average.safetensors"
# Of transformers' samplers, those that read the clips' lengths.
LENGTH_STRATEGIES = ("group_by_length", "batch_rebalance")


@dataclass
class FineTuningArguments(FineTuningFields, TrainingArguments):
    """
    The arguments of transformers, with the head's learning rate, the schedule and the weight averaging of SSAST's and
    SSAMBA's code.
    """

    # The collator reads columns that the model does not take.
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Must be false: the collator reads columns that the model does not take."}
    )
    dataloader_pin_memory: bool = field(
        default_factory=torch.cuda.is_available, metadata={"help": "Whether batches lie in pinned memory."}
    )

    def __post_init__(self) -> None:
        # transformers checks these when the run has begun, if at all.
        batches = ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps")
        check_at_least(self, 1, *batches)
        rates = ("learning_rate", "weight_decay", "max_grad_norm", "num_train_epochs", "warmup_steps")
        check_at_least(self, 0, *rates, "dataloader_num_workers", "logging_steps", "eval_steps", "save_steps")
        check_seed(self, "seed", "data_seed")
        # transformers would take the loss. The task's own metric is known with the data.
        self.is_best_by_task = self.metric_for_best_model is None
        super().__post_init__()
        # A command line gives it as text.
        resume = str(self.resume_from_checkpoint).lower()  # type: ignore[has-type]
        if resume in ("true", "false"):
            self.resume_from_checkpoint = resume == "true"
        for name in ("head_learning_rate_multiple", "prototype_learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"--{name} must be a positive number, got {getattr(self, name)}")
        if self.epoch_decay is not None and not 0 < self.epoch_decay <= 1:
            raise InputError(f"--epoch_decay must be above 0 and at most 1, got {self.epoch_decay}")
        if self.epoch_decay_start < 0 or self.epoch_decay_every < 1:
            raise InputError(
                "--epoch_decay_start must be at least 0 and --epoch_decay_every at least 1, got "
                f"{self.epoch_decay_start} and {self.epoch_decay_every}"
            )
        if self.max_steps > 0 and (self.epoch_decay is not None or self.average_from_epoch is not None):
            raise InputError(
                "--epoch_decay and --average_from_epoch count the epochs of --num_train_epochs, and exclude --max_steps, got "
                f"--max_steps {self.max_steps}; --num_train_epochs may be a fraction"
            )
        if not self.eval_do_concat_batches:
            raise InputError("--eval_do_concat_batches must be true, as metrics need all clips together, got False")
        if self.average_from_epoch is not None:
            last = self.average_to_epoch or math.ceil(self.num_train_epochs)
            if not 1 <= self.average_from_epoch <= last <= math.ceil(self.num_train_epochs):
                raise InputError(
                    f"--average_from_epoch and --average_to_epoch must be epochs of 1 ... {self.num_train_epochs:g}, in "
                    f"order, got {self.average_from_epoch} and {last}"
                )
            if self.load_best_model_at_end:
                raise InputError("--load_best_model_at_end and --average_from_epoch exclude each other, got both")
        elif self.average_to_epoch is not None:
            raise InputError(f"--average_to_epoch needs --average_from_epoch, got {self.average_to_epoch} alone")


def fold_arguments(arguments: FineTuningArguments, fold: int | None) -> FineTuningArguments:
    """
    The arguments of one fold's run, which writes into its own folder; the same arguments, if there are no folds.

    Raises:
        [`InputError`]: If the run would resume from a checkpoint outside that folder.
    """
    if fold is None:
        return arguments
    arguments = copy.copy(arguments)
    arguments.output_dir = os.path.join(arguments.output_dir, f"fold-{fold}")
    checkpoint = arguments.resume_from_checkpoint
    # The weights of another fold's run were trained on this fold's test clips.
    if isinstance(checkpoint, str) and Path(arguments.output_dir).resolve() not in Path(checkpoint).resolve().parents:
        raise InputError(
            f"--resume_from_checkpoint must be true with folds, as each fold has its own checkpoints, got {checkpoint!r}, "
            f"which is not of fold {fold}"
        )
    return arguments


def parameter_groups(model: nn.Module, arguments: FineTuningArguments) -> list[dict]:
    """
    Parameter groups for an optimizer. Encoder (or adapters) and classification head have their own learning rates, and so
    do the parameters in a head's `learning_rates`. Weight decay is that of [`is_decayed`].

    Args:
        model (`nn.Module`): A classifier, plain or wrapped by PEFT.
        arguments ([`FineTuningArguments`]): Learning rates and weight decay.

    Returns:
        `list[dict]`: groups with `name`, `params`, `lr` and `weight_decay`; groups without parameters are left out.
    """
    no_decay = no_decay_names(model)
    # Parameter -> the training argument with its learning rate.
    own_rates = {
        name: argument
        for module in model.modules()
        for name, argument in getattr(type(module), "learning_rates", {}).items()
    }
    groups: dict[str, dict] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        parts = name.split(".")
        part, rate = "encoder", arguments.learning_rate
        if "classifier" in parts:
            part, rate = "head", arguments.learning_rate * arguments.head_learning_rate_multiple
            if parts[-1] in own_rates:
                part, rate = parts[-1], getattr(arguments, own_rates[parts[-1]])
        decays = is_decayed(name, parameter, no_decay)
        key = part if decays else f"{part}, not decayed"
        group = {"name": key, "params": [], "lr": rate, "weight_decay": arguments.weight_decay if decays else 0.0}
        groups.setdefault(key, group)["params"].append(parameter)
    return list(groups.values())


class WeightAverage(TrainerCallback):
    """
    Averages the weights at the ends of epochs, as SSAST's and SSAMBA's code does for AudioSet. When training ends, the
    average replaces the weights, and `is_applied` becomes true. Checkpoints hold its state.

    Args:
        first (`int`): The first epoch to average, counted from 1.
        last (`int`, *optional*): The last epoch to average; that of the training by default.
    """

    def __init__(self, first: int, last: int | None = None):
        self.first, self.last = first, last
        self.count = 0
        self.mean: dict[str, torch.Tensor] = {}
        self.is_applied = False

    @torch.no_grad()
    def on_epoch_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **kwargs,
    ) -> None:
        """Adds the weights to the average."""
        # Training may end within an epoch.
        epoch = math.ceil(state.epoch - 1e-6)
        if epoch < self.first or (self.last is not None and epoch > self.last):
            return
        self.count += 1
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                current = parameter.float()
                mean = self.mean.get(name, current).to(current.device)
                self.mean[name] = mean.lerp(current, 1 / self.count)

    def save(self, checkpoint: Path) -> None:
        """Writes the average into a checkpoint."""
        if self.count:
            save_file(self.mean, checkpoint / WEIGHT_AVERAGE, metadata={"count": str(self.count)})

    def load(self, checkpoint: str | os.PathLike) -> None:
        """
        Continues with the state saved in a checkpoint, if it was already averaging.

        Raises:
            [`InputError`]: If the state cannot be read.
        """
        path = Path(checkpoint) / WEIGHT_AVERAGE
        if path.is_file():
            with one_line_errors(checkpoint, WEIGHT_AVERAGE):
                with safe_open(path, "pt") as file:
                    self.count = int(file.metadata()["count"])
                self.mean = load_file(path)

    @torch.no_grad()
    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **kwargs,
    ) -> None:
        """Replaces the weights by the average."""
        if self.count:
            for name, parameter in model.named_parameters():
                if name in self.mean:
                    parameter.copy_(self.mean[name])
            self.is_applied = True


class AugmentationStart(TrainerCallback):
    """
    Tells an augmentation the step at which training begins: a resumed training does not repeat the first draws. For the Trainer
    of transformers; [`FineTuningTrainer`] repeats exactly the draws of a training that was not interrupted.

    Args:
        augmentation (`Augmentation`): The augmentation of the training clips.
    """

    def __init__(self, augmentation: Augmentation):
        self.augmentation = augmentation

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        """Called by the Trainer."""
        self.augmentation.first_step = state.global_step


class FineTuningTrainer(ContinuingTrainer):
    """
    The Trainer of transformers, which continues exactly, with [`parameter_groups`] and what [`FineTuningArguments`] adds.

    Args:
        eval_data_collator (`Callable`, *optional*): Collates for evaluation and prediction; `data_collator` by default.
        arguments: The arguments of `Trainer`.
    """

    args: FineTuningArguments

    def __init__(self, *arguments, eval_data_collator: Callable | None = None, **kwargs):
        super().__init__(*arguments, **kwargs)
        self.eval_data_collator = eval_data_collator or self.data_collator
        self.card: ModelCard | None = None
        self.weight_average = None
        if self.args.average_from_epoch is not None:
            self.weight_average = WeightAverage(self.args.average_from_epoch, self.args.average_to_epoch)
            self.add_callback(self.weight_average)

    def get_eval_dataloader(self, eval_dataset: str | Dataset | None = None) -> DataLoader:
        """
        The clips of an evaluation in their order, collated by `eval_data_collator`.

        Args:
            eval_dataset (`str` or `Dataset`, *optional*): The clips, or their name among several; `eval_dataset` by default.
        """
        if eval_dataset is None:
            eval_dataset = self.eval_dataset
        elif isinstance(eval_dataset, str):
            eval_dataset = self.eval_dataset[eval_dataset]
        return self.get_test_dataloader(eval_dataset)  # type: ignore[arg-type]

    def get_test_dataloader(self, test_dataset: Dataset) -> DataLoader:
        """
        Clips in their order, collated by `eval_data_collator`. The Trainer's own loader would use `data_collator`, and would
        group clips by length as in training.

        Args:
            test_dataset (`Dataset`): The clips.
        """
        loader = DataLoader(
            test_dataset,
            batch_size=self.args.eval_batch_size,
            collate_fn=self.eval_data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            # Its own generator: an evaluation does not change the random numbers of training.
            generator=torch.Generator(),
        )
        return self.accelerator.prepare(loader)

    def create_model_card(self, *arguments, **kwargs) -> None:
        """Writes `card` if there is one, else the card of transformers."""
        if self.card is None:
            super().create_model_card(*arguments, **kwargs)
        elif self.is_world_process_zero():
            write_card(self.card, Path(self.args.output_dir))

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Saves, and may push, as transformers does; with adapters, also saves what PEFT leaves out."""
        if isinstance(self.model, peft.PeftModel) and self.args.should_save:
            # Also in the output folder, which is pushed during training.
            for folder in {output_dir or self.args.output_dir, self.args.output_dir}:
                save_classifier_config(self.model, folder)
        super().save_model(output_dir, _internal_call)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimizer of the arguments, on the groups of [`parameter_groups`]."""
        if self.optimizer is None:  # type: ignore[has-type]
            model = self.model if model is None else model
            groups = parameter_groups(model, self.args)
            for group in groups:
                # Schedules set it themselves, except those that wait for a plateau.
                group["initial_lr"] = group["lr"]
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, model)
            if self.args.coupled_weight_decay:
                optimizer_class = torch.optim.Adam
                options = {name: options[name] for name in ("lr", "betas", "eps") if name in options}
            self.optimizer = optimizer_class(groups, **options)
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """The originals' schedule in steps over epochs, if `epoch_decay` is given, else the Trainer's schedule."""
        if self.lr_scheduler is not None or self.args.epoch_decay is None:  # type: ignore[has-type]
            return super().create_scheduler(num_training_steps, optimizer)
        steps_per_epoch = num_training_steps / self.args.num_train_epochs
        warmup_steps = self.args.get_warmup_steps(num_training_steps)
        start, every, decay = self.args.epoch_decay_start, self.args.epoch_decay_every, self.args.epoch_decay

        def factor(step: int) -> float:
            # The summand undoes rounding at the first step of an epoch.
            epoch = math.floor(step / steps_per_epoch + 1e-9)
            decays = 0 if epoch < start else 1 + (epoch - start) // every
            return decay**decays * min(1.0, (step + 1) / max(1, warmup_steps))

        self.lr_scheduler = LambdaLR(self.optimizer if optimizer is None else optimizer, factor)
        self._created_lr_scheduler = True
        return self.lr_scheduler  # type: ignore[return-value]

    def save_more_state(self, folder: Path) -> None:
        """Writes the average of the weights into a checkpoint."""
        if self.weight_average is not None:
            self.weight_average.save(folder)

    def load_more_state(self, folder: Path) -> None:
        """Continues the average of the weights."""
        if self.weight_average is not None:
            self.weight_average.load(folder)


def derive_arguments(
    arguments: FineTuningArguments, model: PreTrainedModel, clips: LabelledClips
) -> FineTuningArguments:
    """
    A copy of the arguments with what the task and the head decide.

    Args:
        arguments ([`FineTuningArguments`]): What the user asks for.
        model (`PreTrainedModel`): The classifier, plain or wrapped by PEFT.
        clips (`LabelledClips`): Their task chooses the metric of the best checkpoint, unless the arguments name one.

    Raises:
        [`InputError`]: If the metric of the best checkpoint is none of the task's.
    """
    derived = copy.copy(arguments)
    if derived.load_best_model_at_end and derived.is_best_by_task:
        derived.metric_for_best_model = METRICS[clips.problem_type][0].key
        derived.greater_is_better = True
    metrics = ["loss", *(metric.key for metric in METRICS[clips.problem_type])]
    chosen = derived.metric_for_best_model
    if chosen is not None and chosen.removeprefix("eval_") not in metrics:
        raise InputError(f"--metric_for_best_model must be one of {', '.join(metrics)}, got {chosen!r}")
    if derived.lr_scheduler_type in (SchedulerType.REDUCE_ON_PLATEAU, SchedulerType.GREEDY):
        # Their default is the mode of a loss.
        mode = "max" if derived.greater_is_better else "min"
        derived.lr_scheduler_kwargs = {"mode": mode, **(derived.lr_scheduler_kwargs or {})}
    if model.classifier.reads_hidden_states and derived.ddp_find_unused_parameters is None:
        # The head does not read the encoder's last norm; with gradient checkpointing, the Trainer would count on all.
        derived.ddp_find_unused_parameters = True
    return derived


def check_label_smoothing(arguments: FineTuningArguments, model: PreTrainedModel, labels_are_shares: bool) -> None:
    """
    Checks that the Trainer's label smoothing, which needs one class a clip and cross-entropy, fits labels and head.

    Raises:
        [`InputError`]: If it does not.
    """
    if not arguments.label_smoothing_factor:
        return
    if not model.classifier.takes_label_smoothing:
        reason = f"the {model.config.classifier_type} head, which has its own loss"
    elif labels_are_shares:
        reason = "labels that are shares of classes"
    else:
        return
    raise InputError(f"--label_smoothing_factor must be 0 with {reason}, got {arguments.label_smoothing_factor}")


def add_lengths(
    clips: datasets.Dataset, arguments: FineTuningArguments, feature_extractor: FeatureExtractionMixin
) -> datasets.Dataset:
    """
    Adds the clips' lengths in frames, if clips are to be grouped by length.

    Raises:
        [`InputError`]: If all clips are padded to the same length.
    """
    if arguments.train_sampling_strategy not in LENGTH_STRATEGIES:
        return clips
    longest = feature_extractor.max_length
    if not feature_extractor.return_attention_mask:
        raise InputError(
            f"--train_sampling_strategy {arguments.train_sampling_strategy} needs --return_attention_mask true: "
            f"without it, all clips are padded to {longest} frames"
        )
    lengths = [min(longest, count_frames(read_seconds(row["audio"]))) for row in clips]
    return clips.add_column(arguments.length_column_name, lengths)


def make_trainer(
    model: PreTrainedModel,
    feature_extractor: FeatureExtractionMixin,
    clips: LabelledClips,
    arguments: FineTuningArguments,
    augmentation: Augmentation | None = None,
) -> FineTuningTrainer:
    """
    The Trainer of a classifier on labelled clips, with the task's metrics. If the best checkpoint is loaded at the end, the
    task's first metric decides, unless the arguments name another.

    Args:
        model (`PreTrainedModel`): The classifier, plain or wrapped by PEFT.
        feature_extractor (`FeatureExtractionMixin`): The model's.
        clips (`LabelledClips`): The clips to train and to evaluate on.
        arguments (`FineTuningArguments`): How to train. They are copied, not changed.
        augmentation (`Augmentation`, *optional*): What is done to training clips.

    Raises:
        [`InputError`]: If clips are to be grouped by length, but are all padded to the same.
        [`InputError`]: If labels are to be smoothed, but are not one class a clip, or the head has its own loss.
        [`InputError`]: If the results are to be pushed to the Hub, and cannot be.
    """
    arguments = derive_arguments(arguments, model, clips)
    is_multi_hot = model.config.problem_type == "multi_label_classification"
    mixes = augmentation is not None and augmentation.mixes_labels
    check_label_smoothing(arguments, model, is_multi_hot or mixes)
    train = add_lengths(clips.splits["train"], arguments, feature_extractor)
    options = {
        "num_labels": len(clips.names),
        # The model does not read masked padding: it would only take memory.
        "padding": "longest" if feature_extractor.return_attention_mask else "max_length",
        "min_frames": model.config.patch_shape[1],
    }
    collator = LabelledClipCollator(
        feature_extractor, multi_hot=is_multi_hot or mixes, augmentation=augmentation, **options
    )
    repository = arguments.hub_model_id or Path(arguments.output_dir).resolve().name
    if arguments.push_to_hub:
        check_hub(f"--push_to_hub: {repository}", repository)
    try:
        return FineTuningTrainer(
            model=model,
            args=arguments,
            data_collator=collator,
            eval_data_collator=LabelledClipCollator(feature_extractor, multi_hot=is_multi_hot, **options),
            train_dataset=train,
            eval_dataset=clips.splits["validation"],
            processing_class=feature_extractor,
            compute_metrics=make_compute_metrics(clips.problem_type),
        )
    # With `push_to_hub`, the Trainer makes the repository.
    except (HTTPError, HFValidationError) as error:
        raise InputError(f"--push_to_hub: {repository} cannot be written to ({error})") from error
    # What the Trainer refuses of its arguments, such as a tracker in `report_to` that there is not.
    except ValueError as error:
        raise InputError(str(error)) from error
