# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What a pretraining run writes, and the checkpoint that it continues."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import RNG_STATE_NAME, DistributedType, gather_object
from huggingface_hub import ModelCard
from torch import nn
from transformers import FeatureExtractionMixin

from ...common.errors import InputError
from ...data.bad_clips import write_bad_clips
from ...hub.card_callback import write_card
from ...objectives import Objective
from ..checkpoints import (
    check_manifest,
    check_values,
    is_count,
    is_number,
    newest_complete,
    one_line_errors,
    read_json,
    write_manifest,
)
from ..foreign_pickles import refuse_code
from .arguments import PretrainingArguments, PretrainingDataArguments, PretrainingModelArguments
from .random_states import load_random_states, save_random_states


# The file of a checkpoint with the state of the run itself.
STATE = "run.json"
# Fields of a configuration that say where it came from, or that may change during a run.
NOT_COMPARED = ("_name_or_path", "architectures", "auto_map", "dtype", "transformers_version")


def replace_folder(partial: Path, folder: Path) -> None:
    """Gives a finished folder its name, and removes the folder that had the name before."""
    if folder.exists():
        old = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old)
    else:
        partial.rename(folder)


def restore_interrupted(folder: Path) -> None:
    """Gives a folder its name again, if a run was killed while [`replace_folder`] replaced it."""
    for old in folder.glob(".*.old"):
        replaced = old.with_name(old.name.removeprefix(".").removesuffix(".old"))
        if not replaced.exists():
            old.rename(replaced)


def steps_in(folder: Path) -> list[Path]:
    """The folders step-N in a folder, in the order of N."""
    found = [path for path in folder.glob("step-*") if path.name.removeprefix("step-").isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


class RunFolder:
    """
    Everything that is written to `output_dir`. A folder gets its name when it is complete; the oldest are removed.

    Args:
        accelerator (`Accelerator`): The run's.
        arguments ([`PretrainingArguments`]): Where to write, and how many folders to keep.
    """

    def __init__(self, accelerator: Accelerator, arguments: PretrainingArguments):
        self.accelerator = accelerator
        self.path = Path(arguments.output_dir)
        self.limit = arguments.save_total_limit
        self.repo_id = arguments.push_to_hub
        self.skipped: dict[str, str] = {}

    def set_aside(self, step: int) -> None:
        """Renames what an earlier run left of steps after `step` to `earlier-...`, so that it is not taken for this run's."""
        if self.accelerator.is_main_process:
            restore_interrupted(self.path)
            earlier = [
                folder
                for kind in ("checkpoints", "evaluations")
                for folder in steps_in(self.path / kind)
                if int(folder.name.removeprefix("step-")) > step
            ]
            if step == 0 and (self.path / "best").exists():
                earlier.append(self.path / "best")
            for folder in earlier:
                replace_folder(folder, folder.with_name(f"earlier-{folder.name}"))
            if earlier:
                names = ", ".join(str(folder.relative_to(self.path)) for folder in earlier)
                print(f"{self.path} has {names} of an earlier run: renamed to earlier-...")
        self.accelerator.wait_for_everyone()

    def partial(self, folder: Path) -> Path:
        """Makes an empty folder, in the main process, for what becomes `folder` when it is complete."""
        partial = folder.with_name(f".{folder.name}.partial")
        if self.accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        return partial

    def finish(self, partial: Path, folder: Path) -> None:
        """Gives the folder its name, and removes the oldest folders beside it."""
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            replace_folder(partial, folder)
            for path in steps_in(folder.parent)[: -self.limit]:
                shutil.rmtree(path)
        self.accelerator.wait_for_everyone()

    def save_checkpoint(self, state: dict[str, Any]) -> Path:
        """Writes all that a run needs to continue after `state["step"]`."""
        folder = self.path / "checkpoints" / f"step-{state['step']}"
        partial = self.partial(folder)
        process = self.accelerator.process_index
        self.accelerator.save_state(partial)
        # accelerate's file of them is a pickle, and its absence does not end a run.
        (partial / f"{RNG_STATE_NAME}_{process}.pkl").unlink(missing_ok=True)
        save_random_states(partial, process, self.accelerator.device)
        positions = gather_object([state["position"]])
        if self.accelerator.is_main_process:
            content = {**state, "position": positions, "skipped": self.skipped}
            (partial / STATE).write_text(json.dumps(content, indent=2), encoding="utf-8")
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            write_manifest(partial)
        self.finish(partial, folder)
        return folder

    def save_model(
        self,
        model: nn.Module,
        objective: Objective,
        feature_extractor: FeatureExtractionMixin,
        make_card: Callable[[str], ModelCard],
        step: int,
        is_best: bool,
    ) -> None:
        """
        Writes the objective's model as `from_pretrained` loads it, with its feature extractor and its card.

        Args:
            model (`nn.Module`): The objective, as accelerate prepared it.
            objective ([`Objective`]): The objective itself.
            feature_extractor (`FeatureExtractionMixin`): The model's feature extractor.
            make_card (callable): Makes the card, of the name that its example loads.
            step (`int`): Steps done.
            is_best (`bool`): Whether this is the best model so far.
        """
        folder = self.path / "evaluations" / f"step-{step}"
        saved = objective.model_to_save()
        prefix = next(f"{name}." for name, module in objective.named_modules() if module is saved)
        # A compiled model puts its wrapper's name before those of the weights.
        states = self.accelerator.get_state_dict(model).items()
        states = {name.removeprefix("_orig_mod."): value for name, value in states}
        weights = {name.removeprefix(prefix): value for name, value in states.items() if name.startswith(prefix)}
        partial = self.partial(folder)
        if self.accelerator.is_main_process:
            saved.save_pretrained(partial, state_dict=weights)
            feature_extractor.save_pretrained(partial)
            write_card(make_card(f"./{self.path.resolve().name}/evaluations/{folder.name}"), partial)
            if is_best:
                best = self.path / ".best.partial"
                shutil.rmtree(best, ignore_errors=True)
                shutil.copytree(partial, best)
                write_card(make_card(self.repo_id or f"./{self.path.resolve().name}/best"), best)
                replace_folder(best, self.path / "best")
        self.finish(partial, folder)

    def report_skipped(self, skipped: list[tuple[str, str]]) -> None:
        """Adds the clips that could not be used, of all processes, to the list."""
        before = len(self.skipped)
        self.skipped.update(gather_object(skipped))
        if self.accelerator.is_main_process and len(self.skipped) > before:
            write_bad_clips(self.path, self.skipped.items())


def comparable(config: dict[str, Any]) -> dict[str, Any]:
    """The fields of a configuration that must not change when a run continues, as JSON holds them."""
    return json.loads(json.dumps({name: value for name, value in config.items() if name not in NOT_COMPARED}))


def comparable_arguments(
    data: PretrainingDataArguments,
    model: PretrainingModelArguments,
    arguments: PretrainingArguments,
    num_processes: int,
) -> dict[str, Any]:
    """The arguments that must not change when a run continues, as JSON holds them."""
    names = ["train_data", "train_weights", "streaming", "random_crop", "speed", "mixup"]
    compared = {name: getattr(data, name) for name in names}
    compared |= {
        "objective": model.objective,
        "objective_options": model.options,
        "two_masks": model.two_masks,
        "seed": arguments.seed,
        "lr_scheduler_type": arguments.lr_scheduler_type,
    }
    if data.streaming:
        compared |= {
            "shuffle_buffer_size": data.shuffle_buffer_size,
            "num_processes": num_processes,
            "per_device_train_batch_size": arguments.per_device_train_batch_size,
            "gradient_accumulation_steps": arguments.gradient_accumulation_steps,
        }
    return compared


def find_checkpoint(arguments: PretrainingArguments) -> Path:
    """
    Finds the checkpoint to continue from, complete and unchanged.

    Args:
        arguments ([`PretrainingArguments`]): Which checkpoint.

    Raises:
        [`InputError`]: If there is no such checkpoint.
    """
    if arguments.resume_from_checkpoint == "latest":
        folder = Path(arguments.output_dir) / "checkpoints"
        found = newest_complete(steps_in(folder), say=print)
        if found is None:
            raise InputError(f"--resume_from_checkpoint latest: no checkpoint in {folder}")
        return found
    checkpoint = Path(str(arguments.resume_from_checkpoint))
    if not (checkpoint / STATE).is_file():
        raise InputError(
            f"--resume_from_checkpoint must be a checkpoint of this script, got {checkpoint}, which has no {STATE}"
        )
    check_manifest(checkpoint)
    return checkpoint


def read_state(folder: Path, config: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """
    Reads the state of the run in a checkpoint.

    Args:
        folder (`Path`): The checkpoint.
        config (`dict`): What [`comparable`] gives for this run.
        data (`dict`): What [`comparable_arguments`] gives for this run.

    Raises:
        [`InputError`]: If another run wrote it, or a value is none that a run writes.
    """
    state = read_json(folder / STATE)
    for what, now in (("config", config), ("data", data)):
        before = state.get(what, {})
        before = before if isinstance(before, dict) else {}
        for name in sorted(set(now) | set(before)):
            if now.get(name) != before.get(name):
                raise InputError(
                    f"--resume_from_checkpoint must be a checkpoint of this run, got {folder} of a run whose {name} was "
                    f"{before.get(name)!r:.200}, not {now.get(name)!r:.200}; to start from its model, use --model_name_or_path"
                )
    check_values(folder / STATE, state, STATE_VALUES)
    return state


def is_mapping_to(value: Any, check: Callable[[Any], bool]) -> bool:
    """Whether a value of JSON is an object whose values all fulfil a condition."""
    return isinstance(value, dict) and all(map(check, value.values()))


def is_position(value: Any) -> bool:
    """Whether a value of JSON is what [`TrainingBatches.position`] returned."""
    return (
        isinstance(value, dict)
        and value.keys() == {"place", "places", "num_workers"}
        and is_count(value["place"])
        and is_count(value["num_workers"])
        and is_mapping_to(
            value["places"], lambda place: isinstance(place, list) and len(place) == 2 and all(map(is_count, place))
        )
        and all(worker.isdecimal() for worker in value["places"])
    )


def is_mean_std(value: Any) -> bool:
    """Whether a value of JSON is a mean and a standard deviation."""
    return (
        isinstance(value, list) and len(value) == 2 and all(is_number(x, finite=True) for x in value) and value[1] > 0
    )


# Of each value in a checkpoint's state: what it must fulfil, and this in words. A metric may be NaN, if it is of no cases.
STATE_VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "step": (is_count, "a number of steps"),
    "best": (lambda value: value is None or is_number(value), "a number or null"),
    "metrics": (lambda value: is_mapping_to(value, is_number), "numbers by name"),
    "position": (
        lambda value: isinstance(value, list) and bool(value) and all(map(is_position, value)),
        "the place in the data of each process",
    ),
    "mean_std": (is_mean_std, "a mean and a positive standard deviation"),
    "skipped": (lambda value: is_mapping_to(value, lambda reason: isinstance(reason, str)), "reasons by clip"),
    "schedule": (lambda value: isinstance(value, dict), "the schedule's state"),
}


def load_state(accelerator: Accelerator, folder: Path, num_processes: int) -> None:
    """
    Loads the model, the optimizer and the random states of a checkpoint.

    Args:
        accelerator (`Accelerator`): What prepared the model and the optimizer.
        folder (`Path`): The checkpoint.
        num_processes (`int`): Processes that saved it.

    Raises:
        [`InputError`]: If a file cannot be used.
    """
    if accelerator.distributed_type in (DistributedType.DEEPSPEED, DistributedType.FSDP):
        refuse_code(folder)
    with one_line_errors(folder, "its model or optimizer"):
        # Without code: tensors and numbers only. Nothing else is registered with the accelerator.
        accelerator.load_state(folder)
    if num_processes != accelerator.num_processes:
        accelerator.print(
            f"{folder} is of {num_processes} processes, this run of {accelerator.num_processes}: random numbers differ from "
            "those of a run that was not interrupted"
        )
    if accelerator.process_index < num_processes:
        load_random_states(folder, accelerator.process_index, accelerator.device)
