# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The interface of all objectives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import nn
from torch.utils.data import default_collate
from transformers import AutoModelForPreTraining, PreTrainedModel
from transformers.feature_extraction_utils import FeatureExtractionMixin
from transformers.utils import ModelOutput

from ..data.pretraining import PretrainingClip


@dataclass
class ObjectiveOutput(ModelOutput):
    """
    What an objective computes of a batch.

    Args:
        loss (`torch.Tensor` of shape `()`): The loss.
        metrics (`dict[str, torch.Tensor]`, *optional*):
            What is logged beside the loss, scalars by name: parts of the loss, accuracies. Every batch must give the same
            names.
        counts (`dict[str, torch.Tensor]`, *optional*):
            How many cases a metric is the mean of, by the metric's name. By default, the clips of the batch.
        predictions (`Any`, *optional*): What [`Objective.reconstruct`] needs.
    """

    loss: torch.Tensor = None  # type: ignore[assignment]
    metrics: dict[str, torch.Tensor] | None = None
    counts: dict[str, torch.Tensor] | None = None
    predictions: Any = None


class Reconstruction(NamedTuple):
    """
    Spectrograms for a picture, each of shape (clips, frames, mel bins).

    Args:
        inputs (`torch.Tensor`): The true spectrograms.
        visible (`torch.Tensor`): What the model saw of them, with NaN elsewhere.
        reconstruction (`torch.Tensor`): What the model made of it.
    """

    inputs: torch.Tensor
    visible: torch.Tensor
    reconstruction: torch.Tensor


@dataclass(frozen=True)
class Description:
    """
    What a model's card says of the objective.

    Args:
        summary (`str`): What the model was trained to do: a sentence, in Markdown.
        task (`tuple[str, str]`): The task that the results are for: its identifier and its name.
        measures (mapping): What each metric means, for those metrics that the card shows, in order.
        facts (mapping, *optional*): Rows of the table on the training.
        notes (`Sequence[str]`, *optional*): Sentences on how the metrics were measured.
    """

    summary: str
    task: tuple[str, str]
    measures: Mapping[str, str]
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


class Objective(nn.Module):
    """
    What a model learns: the examples it sees, the loss, and what follows a step. It holds the model that is trained, and with it
    all other modules that the loss needs, such as heads, a codebook or a teacher. Their weights and buffers are saved in
    checkpoints, and those that require gradients are trained. Parameters that the loss does not reach must not require gradients.

    Data loaders pass `make_example` and `collate` to their workers, so neither may hold the model: each is a static method, or a
    small object that can be pickled.

    accelerate and transformers' Trainer both run an objective as they run a model. With the Trainer, `label_names` of its
    arguments must name an input of the batch, or the Trainer reports no loss in evaluation.

    Args:
        model (`PreTrainedModel`): The model to train.
        feature_extractor (`FeatureExtractionMixin`): The model's feature extractor.

    Class attributes:

    - **model_class** -- The Auto class that makes the model.
    - **metric** -- The name of the metric, or `"loss"`, by which the best checkpoint and the learning rate's plateau are chosen.
    - **greater_is_better** -- Whether a greater metric is better.
    - **columns** -- Columns of the data, beside `audio`, that `make_example` reads. Where a source lacks one, it is None.
    """

    model_class: ClassVar[Any] = AutoModelForPreTraining
    metric: ClassVar[str] = "loss"
    greater_is_better: ClassVar[bool] = False
    columns: ClassVar[tuple[str, ...]] = ()
    # The loss is a mean over clips: the Trainer has to divide it by the number of accumulated batches.
    accepts_loss_kwargs: ClassVar[bool] = False

    def __init__(self, model: PreTrainedModel, feature_extractor: FeatureExtractionMixin):
        super().__init__()
        self.model = model

    @property
    def config(self) -> Any:
        """The model's configuration, which DeepSpeed and the Trainer ask for."""
        return self.model.config

    @property
    def _no_split_modules(self) -> Any:
        # FSDP wraps these modules one by one.
        return self.model._no_split_modules

    @staticmethod
    def make_example(clip: PretrainingClip) -> dict[str, Any]:
        """Makes an example, a `dict` of tensors and numbers, of a clip: by default, the encoder's input alone."""
        return {"input_values": clip.input_values()}

    @staticmethod
    def collate(examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Puts examples into a batch, the arguments of [`forward`]. By default, stacks tensors and numbers."""
        return default_collate(list(examples))

    def forward(self, **batch: Any) -> ObjectiveOutput:
        """Computes the loss and the metrics of a batch."""
        raise NotImplementedError(f"{type(self).__name__} needs a method `forward`")

    def after_step(self, step: int, max_steps: int) -> None:
        """
        Called after each step of the optimizer, such as to let a teacher follow the model. What it changes must be parameters
        or buffers, so that checkpoints hold it.

        Args:
            step (`int`): Steps done, from 1.
            max_steps (`int`): Steps of the whole run.
        """

    def model_to_save(self) -> PreTrainedModel:
        """The model that evaluations save: this objective's model, or another of its modules, such as a teacher."""
        return self.model

    def reconstruct(self, batch: Mapping[str, Any], output: ObjectiveOutput) -> Reconstruction | None:
        """Spectrograms of some clips of a batch for a picture, or None, where there is nothing to show."""
        return None

    def describe(self) -> Description:
        """What a model's card says of the objective."""
        name = type(self).__name__
        return Description(f"An audio encoder, trained by the objective {name}.", (name.lower(), name), {})
