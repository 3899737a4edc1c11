# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What model cards say of training, results, input and adapters."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from huggingface_hub import EvalResult
from transformers import PreTrainedModel, Trainer
from transformers.feature_extraction_utils import FeatureExtractionMixin

from ..audio.frames import FRAME_SHIFT_MS, FRAMES_PER_SECOND, frames_to_seconds
from ..common.printable import printable
from ..data.names import data_on_hub
from ..models import ENCODERS
from .names import public_name


@dataclass(frozen=True)
class Results:
    """
    What a run measured on one split of its data.

    Args:
        metrics (mapping): Values by name; empty, if nothing was measured yet.
        split (`str`): "test" or "validation".
        source (`str`): Where its clips come from: a folder, a file or a Hub name.
        num_clips (`int`): The number of clips.
        notes (`Sequence[str]`, *optional*): Sentences on how clips were chosen, or metrics measured.
        unit (`str`, *optional*, defaults to `"clips"`): What `num_clips` counts.
        robustness (mapping, *optional*): The first metric on changed clips and those of other sources, by what they are.
    """

    metrics: Mapping[str, float]
    split: str
    source: str
    num_clips: int
    notes: Sequence[str] = ()
    unit: str = "clips"
    robustness: Mapping[str, float] = field(default_factory=dict)

    def as_eval_results(self, task_type: str, task_name: str) -> list[EvalResult] | None:
        """
        The metrics for a card's metadata, which holds only finite numbers; None, if there is none.

        Args:
            task_type (`str`): The task's identifier.
            task_name (`str`): The task's name.
        """
        name, configuration, _ = data_on_hub(self.source) or (None, None, None)
        return [
            EvalResult(
                task_type=task_type,
                task_name=task_name,
                dataset_type=name or "local",
                dataset_name=printable(f"{self.split} {self.unit} of {public_name(self.source)}"),
                dataset_config=None if configuration is None else printable(configuration),
                dataset_split=printable(self.split),
                metric_type=printable(metric),
                metric_name=printable(metric),
                metric_value=round(value, 4),
            )
            for metric, value in self.metrics.items()
            if math.isfinite(value)
        ] or None


def describe_training(trainer: Trainer) -> dict[str, str]:
    """
    Rows of a card's table on the training so far.

    Args:
        trainer (`Trainer`): After some steps; a [`FineTuningTrainer`] tells more.
    """
    training, state = trainer.args, trainer.state
    clips = training.train_batch_size * training.gradient_accumulation_steps * training.world_size
    facts = {
        "Training": f"{state.global_step} steps of {clips} clips, {state.epoch or 0:.4g} times over the data",
        "Optimizer": _describe_optimizer(training),
        "Learning rate": f"{_describe_rates(trainer)}; {_describe_schedule(training, state.max_steps)}",
        "Seed": str(training.seed),
    }
    if training.bf16 or training.fp16:
        facts["Number format"] = "bfloat16" if training.bf16 else "float16"
    if (weights := _describe_weights(trainer)) is not None:
        facts["Weights"] = weights
    return facts


def _describe_optimizer(training: Any) -> str:
    is_coupled = getattr(training, "coupled_weight_decay", False)
    optimizer = "Adam" if is_coupled else getattr(training.optim, "value", training.optim)
    decay = f"weight decay {training.weight_decay:g}" + " in the gradient" * is_coupled
    return f"{optimizer}, betas {training.adam_beta1:g} and {training.adam_beta2:g}, {decay}"


def _describe_rates(trainer: Trainer) -> str:
    """The learning rate, or that of each group of parameters."""
    # The groups of a `FineTuningTrainer` have names: "head", and "head, not decayed".
    groups = [group for group in trainer.optimizer.param_groups if "name" in group]
    rates = {group["name"].partition(",")[0]: f"{group['initial_lr']:g}" for group in groups}
    if len(set(rates.values())) > 1:
        return ", ".join(f"{value} ({name})" for name, value in rates.items())
    return next(iter(rates.values()), f"{trainer.args.learning_rate:g}")


def _describe_schedule(training: Any, max_steps: int) -> str:
    if getattr(training, "epoch_decay", None) is not None:
        schedule = (
            f"times {training.epoch_decay:g} every {training.epoch_decay_every} epochs from epoch "
            f"{training.epoch_decay_start}"
        )
    else:
        schedule = getattr(training.lr_scheduler_type, "value", training.lr_scheduler_type)
    warmup = training.get_warmup_steps(max_steps)
    return f"{schedule} after {warmup} steps of warm-up" if warmup else schedule


def _describe_weights(trainer: Trainer) -> str | None:
    """Which weights the model has, where these are not the last step's."""
    training, state = trainer.args, trainer.state
    if getattr(getattr(trainer, "weight_average", None), "is_applied", False):
        last = training.average_to_epoch or math.ceil(training.num_train_epochs)
        return f"the mean of those after epochs {training.average_from_epoch} to {last}"
    if training.load_best_model_at_end and state.best_global_step:
        return (
            f"of step {state.best_global_step}, the best by {training.metric_for_best_model} on the validation split"
        )
    return None


def describe_input(feature_extractor: FeatureExtractionMixin, config: Any) -> dict[str, Any]:
    """
    The fields of the templates' part on the input.

    Args:
        feature_extractor (`FeatureExtractionMixin`): The model's feature extractor.
        config (`PreTrainedConfig`): The model's configuration. For models that are not the package's, only the sampling
            rate is described.
    """
    specification: dict[str, Any] = {"sampling_rate": feature_extractor.sampling_rate, "grid": None}
    if config.model_type not in ENCODERS:
        return specification
    rows, columns = config.patch_grid(feature_extractor.max_length)
    return specification | {
        "num_mel_bins": feature_extractor.num_mel_bins,
        "max_length": feature_extractor.max_length,
        "masks_padding": feature_extractor.return_attention_mask,
        "seconds": frames_to_seconds(feature_extractor.max_length),
        "mean": feature_extractor.mean,
        "std": feature_extractor.std,
        "patch": config.patch_shape,
        "strides": (config.frequency_stride, config.time_stride),
        "grid": (rows, columns),
        "column_ms": FRAME_SHIFT_MS * config.time_stride,
        "tokens_per_second": rows * FRAMES_PER_SECOND / config.time_stride,
    }


def describe_adapters(model: PreTrainedModel) -> str | None:
    """The adapters of a model that PEFT wraps; None for any other model."""
    described = []
    for adapter in getattr(model, "peft_config", {}).values():
        kind = str(adapter.peft_type.value)
        if hasattr(adapter, "use_dora"):
            kind = "DoRA" if adapter.use_dora else "rsLoRA" if adapter.use_rslora else "LoRA"
            kind += f" of rank {adapter.r}, alpha {adapter.lora_alpha:g}"
            kind += f", biases {adapter.bias}" * (adapter.bias != "none")
        # Names, or a pattern; some methods have other targets.
        targets = getattr(adapter, "target_modules", None) or ()
        targets = targets if isinstance(targets, str) else ", ".join(sorted(targets))
        described.append(f"{kind}, on {targets}" if targets else kind)
    return "; ".join(described) or None
