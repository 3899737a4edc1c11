# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
A Trainer whose checkpoints are complete and verified, and which continues from them exactly: the same clips in the same order
with the same augmentation and dropout, and so the same weights, as if it had not been interrupted.
"""

from collections.abc import Iterator, Sized
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME
from transformers.trainer_pt_utils import BatchRebalanceSampler
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput, rotate_checkpoints
from transformers.utils import ADAPTER_SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_NAME

from ..common.errors import InputError
from ..data.labelled_collator import LabelledClipCollator
from .checkpoints import (
    begin_checkpoint,
    check_manifest,
    check_values,
    in_main_process,
    is_count,
    is_number,
    newest_complete,
    one_line_errors,
    read_json,
    write_manifest,
)
from .foreign_pickles import refuse_code


# ---- The order of clips ----


class PlacedClips(Dataset):
    """
    Training clips by their places: (epoch, index).

    Args:
        clips (`Dataset`): The clips.
        keeps_place (`bool`): Whether a clip's row has its `place`, for augmentation that depends on it alone.
    """

    def __init__(self, clips: Dataset, keeps_place: bool):
        self.clips = clips
        self.keeps_place = keeps_place

    def __len__(self) -> int:
        return len(self.clips)  # type: ignore[arg-type]

    def __getitem__(self, place: tuple[int, int]) -> Any:
        row = self.clips[place[1]]
        return {**row, "place": place} if self.keeps_place else row


class EpochSampler(Sampler[tuple[int, int]]):
    """
    Places of clips in the order of another sampler, which depends on the seed and the epoch alone.

    Args:
        sampler (`Sampler`): Draws from its `generator`, or draws nothing.
        seed (`int`): Seed of the order.

    Attributes:
        epoch (`int`): The epoch that the next iteration is of.
    """

    def __init__(self, sampler: Sampler, seed: int):
        self.sampler = sampler
        self.seed = seed
        self.epoch = 0
        if hasattr(sampler, "generator"):
            sampler.generator = torch.Generator()

    def __len__(self) -> int:
        return len(self.sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch
        if hasattr(self.sampler, "generator"):
            self.sampler.generator.manual_seed(self.seed + epoch)
        for index in self.sampler:
            yield epoch, index


class EpochBatchSampler(BatchRebalanceSampler):
    """transformers' batches of balanced lengths, of places instead of indices."""

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch = self.epoch
        for batch in super().__iter__():
            yield [(epoch, index) for index in batch]


class ExactContinuation(TrainerCallback):
    """
    What a [`ContinuingTrainer`] does in the course of training.

    Args:
        trainer ([`ContinuingTrainer`]): The Trainer.
    """

    def __init__(self, trainer: "ContinuingTrainer"):
        self.trainer = trainer
        self.epoch = 0
        self.saves_at_epoch_end = False

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        """Begins to count epochs, and tells the state the best checkpoint so far, which the Trainer forgets if it has moved."""
        self.epoch = int(state.epoch or 0)
        if self.trainer.best_before is not None:
            state.best_model_checkpoint = str(self.trainer.best_before)

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        """Tells the sampler the epoch."""
        if self.trainer.order is not None:
            self.trainer.order.epoch = self.epoch
        self.epoch += 1

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        """Puts off a checkpoint after an epoch's last step: a continued run begins with the next epoch, not with this one's end."""
        self.saves_at_epoch_end = control.should_save and state.epoch == int(state.epoch or 0)
        if self.saves_at_epoch_end:
            control.should_save = False

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        """Saves what was put off."""
        control.should_save = control.should_save or self.saves_at_epoch_end
        self.saves_at_epoch_end = False


# ---- The Trainer ----


def _is_optional(check: Any) -> Any:
    return lambda value: value is None or check(value)


# Of the values in a checkpoint's `trainer_state.json` that training reads: what each must fulfil, and this in words.
STATE_VALUES = {
    "global_step": (is_count, "a number of steps"),
    "epoch": (
        _is_optional(lambda value: is_number(value, finite=True) and value >= 0),
        "a number that is not negative",
    ),
    "log_history": (
        lambda value: isinstance(value, list) and all(isinstance(entry, dict) for entry in value),
        "a list of entries",
    ),
    "best_metric": (_is_optional(is_number), "a number or null"),
    "best_global_step": (_is_optional(is_count), "a number of steps or null"),
    "best_model_checkpoint": (_is_optional(lambda value: isinstance(value, str)), "a folder or null"),
    "train_batch_size": (_is_optional(lambda value: is_count(value) and value > 0), "a number of clips or null"),
    "stateful_callbacks": (lambda value: isinstance(value, dict), "states by callback"),
}


def _find_best(checkpoint: Path) -> Path | None:
    """The best checkpoint before this one, which may have moved with it; `None`, if there is none."""
    best = read_json(checkpoint / TRAINER_STATE_NAME)["best_model_checkpoint"]
    if best is None or Path(best).is_dir():
        return best and Path(best)
    moved = checkpoint.parent / Path(best).name
    if not moved.is_dir():
        raise InputError(f"{checkpoint} needs the best checkpoint before it, {best}, which is missing")
    return moved


class ContinuingTrainer(Trainer):
    """
    The Trainer of transformers, which continues exactly. A checkpoint is complete when its manifest is written, last; from
    others no training continues. Nothing in a checkpoint runs code.

    Args:
        arguments: The arguments of `Trainer`.
    """

    def __init__(self, *arguments, **kwargs) -> None:
        super().__init__(*arguments, **kwargs)
        # The order of the training clips, the checkpoint that this training continues, and the best one before it.
        self.order: EpochSampler | EpochBatchSampler | None = None
        self.checkpoint: Path | None = None
        self.best_before: Path | None = None
        self.add_callback(ExactContinuation(self))

    def get_train_dataloader(self) -> DataLoader:
        """The training clips, by their places."""
        if not isinstance(self.train_dataset, Sized):
            return super().get_train_dataloader()
        return self._get_dataloader(
            dataset=PlacedClips(
                self.train_dataset,  # type: ignore[arg-type]
                keeps_place=isinstance(self.data_collator, LabelledClipCollator),
            ),
            description="Training",
            batch_size=self._train_batch_size,
            sampler_fn=lambda clips: self._get_train_sampler(),
            is_training=True,
        )

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        sampler = super()._get_train_sampler(train_dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        if isinstance(sampler, BatchRebalanceSampler):
            names = ("lengths", "effective_batch_size", "dp_size", "grad_accum", "shuffle", "rank", "drop_last")
            self.order = EpochBatchSampler(**{name: getattr(sampler, name) for name in names}, seed=seed)
        elif sampler is not None:
            self.order = EpochSampler(sampler, seed)
        return self.order

    # ---- Saving ----

    def save_more_state(self, folder: Path) -> None:
        """Writes more into a checkpoint, in the process that saves; nothing here."""

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial=trial), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
        args = self.args
        if args.should_save:
            begin_checkpoint(folder)
        # The Trainer would push a checkpoint, and remove others, before it is complete.
        push, limit = args.push_to_hub, args.save_total_limit
        args.push_to_hub, args.save_total_limit = False, None
        try:
            super()._save_checkpoint(model, trial)
        finally:
            args.push_to_hub, args.save_total_limit = push, limit
        if args.should_save:
            self.save_more_state(folder)
        self.accelerator.wait_for_everyone()
        if args.should_save:
            write_manifest(folder)
        if push:
            self._push_from_checkpoint(str(folder))
        if args.should_save:
            best = self.state.best_model_checkpoint
            rotate_checkpoints(str(folder.parent), limit, best_model_checkpoint=best, use_mtime=True)

    # ---- Continuing ----

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs) -> TrainOutput:
        """
        As the Trainer's, but `resume_from_checkpoint=True` continues from the newest complete checkpoint, and starts from the
        beginning if there is no checkpoint yet.

        Raises:
            [`InputError`]: If the checkpoint is not complete, or cannot be used.
        """
        self.checkpoint, self.best_before = None, None
        if resume_from_checkpoint:
            self.checkpoint = in_main_process(partial(self._find_checkpoint, resume_from_checkpoint))
        if self.checkpoint is not None:
            if self.args.load_best_model_at_end:
                self.best_before = _find_best(self.checkpoint)
            self.load_more_state(self.checkpoint)
        return super().train(resume_from_checkpoint=str(self.checkpoint) if self.checkpoint else None, **kwargs)

    def load_more_state(self, folder: Path) -> None:
        """Reads what [`save_more_state`] wrote; nothing here."""

    def _find_checkpoint(self, given: str | bool) -> Path | None:
        """The checkpoint to continue from, complete and unchanged; `None` if there are none yet."""
        if given is True:
            # A fold whose run has not begun has no checkpoint.
            prefix = f"{PREFIX_CHECKPOINT_DIR}-"
            folders = [
                folder
                for folder in Path(self.args.output_dir).glob(f"{prefix}*")
                if folder.is_dir() and folder.name.removeprefix(prefix).isdecimal()
            ]
            folders.sort(key=lambda folder: int(folder.name.removeprefix(prefix)))
            checkpoint = newest_complete(folders, say=print)
            if checkpoint is None:
                return None
        else:
            checkpoint = Path(str(given))
            check_manifest(checkpoint)
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            refuse_code(checkpoint)
        else:
            weights = ADAPTER_SAFE_WEIGHTS_NAME if isinstance(self.model, PeftModel) else SAFE_WEIGHTS_NAME
            for name in (weights, OPTIMIZER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME):
                if not (checkpoint / name).is_file():
                    raise InputError(
                        f"{checkpoint} has no {name}, so this training cannot continue from it; it is of another model, or was saved "
                        "with --save_only_model"
                    )
        path = checkpoint / TRAINER_STATE_NAME
        check_values(path, read_json(path), STATE_VALUES)
        with one_line_errors(checkpoint, TRAINER_STATE_NAME):
            TrainerState.load_from_json(str(path))
        return checkpoint

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        with one_line_errors(resume_from_checkpoint, "its weights"):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        ignored = set(self.model._keys_to_ignore_on_save or [])
        if names := sorted({*load_result.missing_keys, *load_result.unexpected_keys} - ignored):
            raise InputError(
                f"{self.checkpoint or 'the best checkpoint'} is of another model: {names[0]} is not in both"
            )
        super()._issue_warnings_after_load(load_result)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with one_line_errors(str(checkpoint), f"{OPTIMIZER_NAME} or {SCHEDULER_NAME}"):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_scaler(self, checkpoint: str | None) -> None:
        with one_line_errors(str(checkpoint), "scaler.pt"):
            super()._load_scaler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        saved = len(list(Path(str(checkpoint)).glob("rng_state*.pth")))
        if saved != self.args.world_size and self.is_world_process_zero():
            print(
                f"{checkpoint} is of {saved} processes, this training of {self.args.world_size}: random numbers differ from "
                "those of a training that was not interrupted"
            )
        with one_line_errors(str(checkpoint), "its random states"):
            super()._load_rng_state(checkpoint)
