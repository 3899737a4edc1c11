# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""A pretraining run, from its arguments to checkpoints and a model."""

import functools
import math
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration, broadcast_object_list, set_seed
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from PIL import Image
from tqdm import tqdm

from ...common.errors import InputError
from ...data.bad_clips import BAD_CLIPS_FILE, SILENT, list_clips, refuse_bad_clips
from ...data.filter_banks import cache_filter_banks
from ...data.pretraining import PretrainingExamples
from ...hub.cards import Results, pretrained_card, read_base_model
from ...hub.emissions import PretrainingEmissions, is_one_machine
from ...hub.push import check_hub, explaining_push
from ...models.patch_encoder.packing import count_kept_patches
from ...objectives import make_objective
from ..checkpoints import in_main_process, one_line_errors
from .arguments import PretrainingArguments, PretrainingDataArguments, PretrainingModelArguments
from .batches import TrainingBatches
from .evaluation import Evaluation, Means, to_device
from .model_and_data import compute_mean_std, load_data, make_model
from .run_folder import RunFolder, comparable, comparable_arguments, find_checkpoint, load_state, read_state
from .schedule import Schedule, make_optimizer


DIVERGED = "a lower --learning_rate, --max_grad_norm 1 or another --mixed_precision may help. The last checkpoint is unchanged"
# The share of bad clips of a stream is that of so many clips or more.
MIN_CLIPS_OF_STREAM = 1000


@dataclass
class RunState:
    """
    Where a run is.

    Args:
        step (`int`): Steps done.
        best (`float`, *optional*): The best value of the objective's metric in evaluations.
        metrics (`dict[str, float]`): Of the last evaluation.
        skipped (`list[tuple[str, str]]`): Clips that this process could not use since the last report: (clip, reason).
        is_asked_to_stop (`bool`): Whether some process got SIGTERM.
        means ([`Means`]): The loss and the metrics since the last entry of the log.
        logged_at (`int`): The step of the last entry of the log.
        began (`float`): When the steps since then began, in seconds; moved by the time of evaluations.
    """

    step: int = 0
    best: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    is_asked_to_stop: bool = False
    means: Means = field(default_factory=Means)
    logged_at: int = 0
    began: float = 0.0


class PretrainingRun:
    """
    A pretraining run. [`setup`] makes the model, the data and the optimizer, and writes nothing before all arguments are known to
    be usable. Then, while [`goes_on`] is true, each step is [`train_step`], and [`log`], [`evaluate`] or [`save`] when they are
    due. [`finish`] ends the run.

    Args:
        data ([`PretrainingDataArguments`]): What to train on.
        model ([`PretrainingModelArguments`]): What to train, and what it learns.
        arguments ([`PretrainingArguments`]): How to train.
    """

    def __init__(
        self, data: PretrainingDataArguments, model: PretrainingModelArguments, arguments: PretrainingArguments
    ):
        self.data_arguments = data
        self.model_arguments = model
        self.arguments = arguments
        self.state = RunState()

    # ---- The beginning ----

    def setup(self) -> None:
        """
        Makes all that the steps need.

        Raises:
            [`InputError`]: If an argument cannot be used.
        """
        arguments = self.arguments
        self.accelerator = Accelerator(
            mixed_precision=arguments.mixed_precision,
            gradient_accumulation_steps=arguments.gradient_accumulation_steps,
            dynamo_backend="inductor" if arguments.torch_compile else None,
            log_with=None if arguments.report_to == "none" else arguments.report_to,
            project_config=ProjectConfiguration(arguments.output_dir, f"{arguments.output_dir}/logs"),
        )
        self.is_main = self.accelerator.is_main_process
        signal.signal(signal.SIGTERM, lambda *_: self.accelerator.set_trigger())
        self.make_objective()
        self.read_checkpoint()
        self.load_data()
        self.count_steps()
        self.make_optimizer()
        self.load_checkpoint()
        self.open_folder()
        self.begin()

    def make_objective(self) -> None:
        """Makes the model, its feature extractor and the objective."""
        # All processes draw equal weights, and then random numbers of their own.
        set_seed(self.arguments.seed)
        model, self.feature_extractor = make_model(self.model_arguments)
        if self.arguments.gradient_checkpointing:
            model.activation_checkpointing_enable()
        self.objective = make_objective(
            self.model_arguments.objective, model, self.feature_extractor, self.model_arguments.options
        )
        set_seed(self.arguments.seed, device_specific=True)
        source = self.model_arguments.model_name_or_path
        self.base_model = read_base_model(source) if source is not None and self.is_main else None

    def read_checkpoint(self) -> None:
        """Finds the checkpoint to continue, if there is one."""
        self.compared = {
            "config": comparable(self.objective.config.to_dict()),
            "data": comparable_arguments(
                self.data_arguments, self.model_arguments, self.arguments, self.accelerator.num_processes
            ),
        }
        self.checkpoint: Path | None = None
        self.saved: dict[str, Any] = {}
        if self.arguments.resume_from_checkpoint is not None:
            self.checkpoint = in_main_process(functools.partial(find_checkpoint, self.arguments))
            self.saved = read_state(self.checkpoint, **self.compared)
            names = ("step", "best", "metrics")
            self.state = RunState(**{name: self.saved[name] for name in names}, logged_at=self.saved["step"])

    def load_data(self) -> None:
        """Loads the clips, and makes the batches and the evaluation."""
        data, arguments, objective = self.data_arguments, self.arguments, self.objective
        extractor = self.feature_extractor
        # Processes that share a disk let the first one write its caches.
        with self.accelerator.main_process_first():
            train, evaluation = load_data(data, arguments.seed, objective.columns)
        if self.checkpoint is not None:
            extractor.mean, extractor.std = self.saved["mean_std"]
        elif data.normalization == "data":
            mean_std = [compute_mean_std(extractor, train) if self.is_main else None]
            extractor.mean, extractor.std = broadcast_object_list(mean_std)[0]
        if data.cache_dir is not None:
            with self.accelerator.main_process_first():
                train, evaluation = (
                    cache_filter_banks(clips, extractor, data.cache_dir, data.num_workers)
                    for clips in (train, evaluation)
                )
        make_examples = functools.partial(PretrainingExamples, extractor, objective.make_example)
        examples = make_examples(random_crop=data.random_crop, speed=data.speed, mixup=data.mixup)
        self.train_clips, self.evaluation_clips = train, evaluation
        self.batches = TrainingBatches(
            train,
            examples,
            data,
            arguments.per_device_train_batch_size,
            arguments.seed,
            self.accelerator,
            objective.collate,
        )
        self.evaluation = Evaluation(
            evaluation,
            make_examples(random_crop=False, is_training=False),
            objective,
            data.num_workers,
            arguments.per_device_eval_batch_size,
        )

    def count_steps(self) -> None:
        """Counts the clips and the tokens of a step, and the steps."""
        arguments, config = self.arguments, self.objective.config
        self.clips_per_step = (
            arguments.per_device_train_batch_size
            * self.accelerator.num_processes
            * arguments.gradient_accumulation_steps
        )
        grid = config.patch_grid(self.feature_extractor.max_length)
        self.tokens_per_step = self.clips_per_step * (count_kept_patches(grid, config) + config.num_prefix_tokens)
        if arguments.max_steps is not None:
            self.max_steps = arguments.max_steps
        elif self.data_arguments.streaming:
            raise InputError("--streaming needs --max_steps: the length of a stream is unknown")
        else:
            self.max_steps = math.ceil(arguments.num_train_epochs * len(self.train_clips) / self.clips_per_step)

    def make_optimizer(self) -> None:
        """Makes the optimizer and its schedule, and has accelerate prepare the objective."""
        arguments, plugin = self.arguments, self.accelerator.state.deepspeed_plugin
        if plugin is not None:
            plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = arguments.per_device_train_batch_size
        optimizer = make_optimizer(self.objective, arguments)
        self.model, self.optimizer = self.accelerator.prepare(self.objective, optimizer)
        self.schedule = Schedule(self.optimizer, arguments, self.max_steps, self.objective.greater_is_better)

    def load_checkpoint(self) -> None:
        """Loads the checkpoint to continue, if there is one."""
        if self.checkpoint is not None:
            positions = self.saved["position"]
            load_state(self.accelerator, self.checkpoint, num_processes=len(positions))
            with one_line_errors(self.checkpoint, "the schedule's state"):
                self.schedule.load_state_dict(self.saved["schedule"])
            self.batches.load_position(positions[self.accelerator.process_index % len(positions)])

    def open_folder(self) -> None:
        """Makes the folder, the repository on the Hub and the trackers: the first that is written."""
        arguments = self.arguments
        self.folder = RunFolder(self.accelerator, arguments)
        self.folder.skipped = self.saved.get("skipped", {})
        if self.is_main and arguments.push_to_hub is not None:
            check_hub(f"--push_to_hub {arguments.push_to_hub}", arguments.push_to_hub)
            try:
                HfApi().create_repo(arguments.push_to_hub, exist_ok=True)
            except (HfHubHTTPError, HFValidationError) as error:
                raise InputError(f"--push_to_hub {arguments.push_to_hub}: cannot be written to ({error})") from error
        self.folder.path.mkdir(parents=True, exist_ok=True)
        self.folder.set_aside(self.state.step)
        if arguments.report_to != "none":
            values = vars(self.data_arguments) | vars(self.model_arguments) | vars(arguments)
            simple = {name: value if isinstance(value, (int, float)) else str(value) for name, value in values.items()}
            self.accelerator.init_trackers("pretraining", config=simple)

    def begin(self) -> None:
        """Says what will happen, and begins to read batches."""
        accelerator, state, arguments = self.accelerator, self.state, self.arguments
        facts = "".join(f"{name.lower()}: {value}; " for name, value in self.objective.describe().facts.items())
        kept = "" if self.data_arguments.eval_data else ", held out of the data"
        count = "a stream of clips" if self.data_arguments.streaming else f"{len(self.train_clips)} clips"
        accelerator.print(f"{count} to train on, {len(self.evaluation_clips)} to evaluate on{kept}")
        accelerator.print(
            f"{self.objective.model.num_parameters() / 1e6:.2f} million parameters; {facts}{self.clips_per_step} clips "
            f"({self.tokens_per_step} tokens) in a step, on {accelerator.num_processes} processes; "
            f"steps {state.step} to {self.max_steps}"
        )
        self.emissions: PretrainingEmissions | None = None
        if arguments.track_emissions and self.is_main and is_one_machine(accelerator.num_processes):
            self.emissions = PretrainingEmissions(arguments.output_dir)
        accumulation = arguments.gradient_accumulation_steps
        self.stream = self.batches.iterate(state.step * accumulation, self.max_steps * accumulation)
        self.bar = tqdm(
            total=self.max_steps, initial=state.step, desc="Training", unit="step", disable=not self.is_main
        )
        self.model.train()
        state.began = time.perf_counter()

    # ---- The steps ----

    @property
    def is_asked_to_stop(self) -> bool:
        """Whether some process got SIGTERM."""
        return self.state.is_asked_to_stop

    def goes_on(self) -> bool:
        """Whether there are steps to do."""
        return self.state.step < self.max_steps and not self.is_asked_to_stop

    def is_due(self, steps: int) -> bool:
        """Whether what is done every so many steps, and after the last, is due."""
        return self.state.step % steps == 0 or self.state.step == self.max_steps

    def train_step(self) -> None:
        """Does a step of the optimizer."""
        for _ in range(self.arguments.gradient_accumulation_steps):
            batch = next(self.stream)
            self.state.skipped += batch.pop("skipped")
            self.train_batch(to_device(batch, self.accelerator.device))
        self.schedule.after_step()
        self.state.step += 1
        self.objective.after_step(self.state.step, self.max_steps)
        self.bar.update()
        self.state.is_asked_to_stop = self.accelerator.check_trigger()

    def train_batch(self, batch: dict[str, Any]) -> None:
        """Computes the gradients of a batch, and changes the weights if it is the step's last."""
        accelerator = self.accelerator
        with accelerator.accumulate(self.model):
            output = self.model(**batch)
            accelerator.backward(output.loss)
            if accelerator.sync_gradients and self.arguments.max_grad_norm is not None:
                accelerator.clip_grad_norm_(self.model.parameters(), self.arguments.max_grad_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
        self.state.means.add(output, self.arguments.per_device_train_batch_size)

    def log(self) -> None:
        """
        Logs the means of the loss and the metrics since the last time, the learning rate and the speed.

        Raises:
            [`InputError`]: If the loss is not finite.
        """
        state = self.state
        self.report_skipped()
        means = state.means.compute(self.accelerator)
        seconds = time.perf_counter() - state.began
        speed = (state.step - state.logged_at) * self.tokens_per_step / seconds
        entry = {f"train/{name}": mean for name, mean in means.items()}
        entry |= {"train/learning_rate": self.optimizer.param_groups[0]["lr"], "train/tokens_per_second": speed}
        self.accelerator.log(entry, step=state.step)
        shown = dict.fromkeys(("loss", self.objective.metric))
        self.bar.set_postfix_str(", ".join(f"{name} {means[name]:.3f}" for name in shown) + f", {speed:.0f} tokens/s")
        if not math.isfinite(means["loss"]):
            raise InputError(f"the loss at step {state.step} is {means['loss']}; {DIVERGED}")
        state.means, state.logged_at, state.began = Means(), state.step, time.perf_counter()

    def report_skipped(self, more: Sequence[tuple[str, str]] = ()) -> None:
        """
        Lists the clips that could not be used since the last time, of all processes.

        Args:
            more (`Sequence[tuple[str, str]]`, *optional*): Those of an evaluation, as (clip, reason).

        Raises:
            [`InputError`]: If they are more than `--max_bad_share`, or are not to be skipped.
        """
        self.folder.report_skipped([*self.state.skipped, *more])
        self.state.skipped = []
        data, total = self.data_arguments, len(self.evaluation_clips)
        if data.streaming:
            # The length of a stream is unknown. Its beginning may be worse than the rest.
            total += max(MIN_CLIPS_OF_STREAM, self.state.step * self.clips_per_step)
        else:
            total += len(self.train_clips)
        bad = [(clip, reason) for clip, reason in self.folder.skipped.items() if not reason.startswith(SILENT)]
        refuse_bad_clips(bad, total, data.bad_clips, data.max_bad_share)

    def refuse_divergence(self) -> None:
        """Refuses to write weights that are not finite over good ones; raises [`InputError`]."""
        are_finite = torch.stack([parameter.detach().isfinite().all() for parameter in self.model.parameters()])
        if self.accelerator.reduce((~are_finite).sum(), reduction="sum") > 0:
            raise InputError(f"the weights after step {self.state.step} are not finite; {DIVERGED}")

    def evaluate(self) -> None:
        """
        Evaluates on the validation clips, and saves the model, as the best if it is.

        Raises:
            [`InputError`]: If a weight is not finite.
        """
        began = time.perf_counter()
        self.refuse_divergence()
        state, objective = self.state, self.objective
        picture = self.folder.path / "pictures" / f"step-{state.step}.png"
        state.metrics, unusable = self.evaluation.run(self.accelerator, self.model, picture)
        self.report_skipped(unusable)
        value = state.metrics[objective.metric]
        self.schedule.after_evaluation(value)
        sign = 1 if objective.greater_is_better else -1
        is_best = state.best is None or sign * value > sign * state.best
        state.best = value if is_best else state.best
        self.accelerator.log({f"eval/{name}": mean for name, mean in state.metrics.items()}, step=state.step)
        if self.is_main:
            self.log_picture(picture)
            self.bar.write(
                f"step {state.step}: " + ", ".join(f"{name} {mean:.4f}" for name, mean in state.metrics.items())
            )
        self.folder.save_model(self.model, objective, self.feature_extractor, self.card_maker(), state.step, is_best)
        # The speed is that of training alone.
        state.began += time.perf_counter() - began

    def log_picture(self, picture: Path) -> None:
        """Shows a picture, if there is one, in TensorBoard, if the run logs there."""
        for tracker in self.accelerator.trackers:
            if tracker.name == "tensorboard" and picture.is_file():
                with Image.open(picture) as image:
                    pixels = np.asarray(image.convert("RGB"))
                tracker.writer.add_image("reconstruction", pixels, self.state.step, dataformats="HWC")

    def card_maker(self) -> Callable[[str], ModelCard]:
        """What makes a model's card as things stand, of the name that the card's example loads."""
        data, description = self.data_arguments, self.objective.describe()
        notes = [*description.notes, *(["They were held out of the training data."] if not data.eval_data else [])]
        results = Results(
            {name: self.state.metrics[name] for name in description.measures},
            "validation",
            ", ".join(data.eval_data or data.train_data),
            len(self.evaluation_clips),
            notes,
        )
        # The emissions of a continued run would be those of its last part.
        is_whole = self.emissions is not None and self.checkpoint is None
        return functools.partial(
            pretrained_card,
            model=self.objective.model_to_save(),
            feature_extractor=self.feature_extractor,
            base_model=self.base_model,
            sources=data.train_data,
            training=self.describe_training(description.facts),
            results=results,
            emissions=self.emissions.describe() if self.emissions is not None and is_whole else None,
            summary=description.summary,
            task=description.task,
            measures=description.measures,
        )

    def describe_training(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Rows of a card's table on how the model was trained so far; `facts` are the objective's."""
        arguments, step = self.arguments, self.state.step
        times = ""
        if not self.data_arguments.streaming:
            num_clips = self.batches.count_clips(step * arguments.gradient_accumulation_steps)
            times = f", {num_clips / len(self.train_clips):.4g} times over {len(self.train_clips)} clips"
        return {
            "Training": f"{step} steps of {self.clips_per_step} clips{times}",
            **facts,
            "Optimizer": f"adamw_torch, betas {arguments.adam_beta1:g} and {arguments.adam_beta2:g}, "
            f"weight decay {arguments.weight_decay:g}",
            "Learning rate": f"{arguments.learning_rate:g}, {arguments.lr_scheduler_type} after "
            f"{arguments.warmup_steps} steps of warm-up",
            "Seed": arguments.seed,
            "Number format": {"no": "float32"}.get(arguments.mixed_precision, arguments.mixed_precision),
        }

    def save(self) -> None:
        """
        Writes a checkpoint.

        Raises:
            [`InputError`]: If a weight is not finite.
        """
        self.refuse_divergence()
        state, extractor = self.state, self.feature_extractor
        self.report_skipped()
        self.folder.save_checkpoint(
            {
                "step": state.step,
                "best": state.best,
                "metrics": state.metrics,
                "schedule": self.schedule.state_dict(),
                "position": self.batches.position(state.step * self.arguments.gradient_accumulation_steps),
                "mean_std": (extractor.mean, extractor.std),
                **self.compared,
            }
        )
        if self.is_asked_to_stop:
            self.accelerator.print(
                f"Asked to stop: saved step {state.step}; continue with --resume_from_checkpoint latest"
            )

    # ---- The end ----

    def finish(self) -> dict[str, float]:
        """
        Ends the run: reports unusable clips, and pushes the best model if the run is complete.

        Returns:
            `dict[str, float]`: The metrics of the last evaluation.
        """
        self.stream.close()
        self.bar.close()
        if self.emissions is not None:
            self.emissions.stop()
        if self.is_main and self.folder.skipped:
            path = self.folder.path / BAD_CLIPS_FILE
            print(f"{len(self.folder.skipped)} clips could not be used, see {path}:")
            print(list_clips(self.folder.skipped.items()))
        if self.is_main and self.state.step == self.max_steps:
            self.push()
        # Before the process group ends: the gradients' reducer, if it were freed last, would hold the interpreter's lock and wait
        # for a thread of gloo's that may need the lock.
        self.model, self.optimizer = self.accelerator.free_memory(self.model, self.optimizer)
        self.accelerator.end_training()
        return self.state.metrics

    def push(self) -> None:
        """Uploads the best model, if the arguments name a repository."""
        repository, best = self.arguments.push_to_hub, self.folder.path / "best"
        if repository is not None:
            with explaining_push(f"{best} is complete, but", repository):
                message = f"Pretraining, step {self.state.step}"
                HfApi().upload_folder(repo_id=repository, folder_path=best, commit_message=message)
