# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What every classification head has: what it reads, its logits, its loss, and how it is trained."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F

from ..patch_encoder.initialized_module import InitializedModule
from ..patch_encoder.packing import PatchEncoderOutput
from .configuration_heads import HeadConfig
from .time_steps import StepFeatures, cut_steps


# Of the heads that drop out, unless `config.classifier_dropout` says otherwise.
DEFAULT_DROPOUT = 0.2


class ClassificationHead(InitializedModule):
    """
    Base of the heads that `config.classifier_type` names.

    A head turns one tensor, its features, into logits; [`read`] takes the features from the encoder's output. The features
    of a frozen encoder can thus be computed once, and heads trained on them alone. To add a head: a file with its class, and
    an entry in `CLASSIFICATION_HEADS`. A checkpoint of another head gives a new one the parameters of the same name and
    shape: names tell which heads share them.

    Attributes:
        features (`str`): The name of the features. Heads with the same name read the same.
        reads_hidden_states (`bool`): Whether the head reads the hidden states in place of the final tokens.
        no_weight_decay (`tuple[str, ...]`): Names of parameters excluded from weight decay, beside vectors.
        learning_rates (mapping):
            For each parameter with a learning rate of its own, its name and the training argument that gives the rate.
        takes_label_smoothing (`bool`): Whether the Trainer may replace the loss by cross-entropy with smoothed labels.
        labels_frames (`bool`): Whether the head labels time steps as well, each read as a small clip.
        compared_by_default (`bool`): Whether a comparison of probes that names none includes the head.
        recipe (mapping): Training arguments of a probe.
    """

    features: ClassVar[str] = "pooler_output"
    reads_hidden_states: ClassVar[bool] = False
    no_weight_decay: ClassVar[tuple[str, ...]] = ()
    learning_rates: ClassVar[Mapping[str, str]] = {}
    takes_label_smoothing: ClassVar[bool] = True
    labels_frames: ClassVar[bool] = False
    compared_by_default: ClassVar[bool] = True
    recipe: ClassVar[Mapping[str, Any]] = {"learning_rate": 1e-2, "weight_decay": 1e-2}

    def __init__(self, config: HeadConfig):
        super().__init__()
        self.config = config

    @classmethod
    def check_config(cls, config: HeadConfig) -> None:
        """
        Checks the fields that the head reads. Every head checks every configuration, whichever head it names.

        Raises:
            `ValueError`: naming the field, its value and what is allowed.
        """

    @classmethod
    def largest_parameter(cls, config: HeadConfig) -> tuple[int, ...]:
        """The sizes of the head's largest parameter, for a check that takes no memory."""
        return config.num_labels, config.hidden_size

    @classmethod
    def read(
        cls,
        outputs: PatchEncoderOutput,
        config: HeadConfig,
        input_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """
        Takes the features from the encoder's output. They must not depend on the fields that [`HeadConfig`] adds: probes
        with other options share them.

        Args:
            outputs ([`PatchEncoderOutput`]): With `hidden_states`, if the head reads them.
            config (`HeadConfig`): The encoder's configuration.
            input_values (`torch.Tensor` of shape `(batch_size, frames, num_mel_bins)`, *optional*): What the encoder read.
            attention_mask (`torch.Tensor` of shape `(batch_size, frames)`, *optional*): What the encoder was given.

        Returns:
            `torch.Tensor`: a row for each clip; by default the encoder's output of the name `features`.
        """
        return getattr(outputs, cls.features)

    @classmethod
    def read_steps(
        cls,
        outputs: PatchEncoderOutput,
        config: HeadConfig,
        input_values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
    ) -> StepFeatures:
        """The features of each time step, read as a small clip of its columns of patches; arguments as of [`read`]."""
        clips = cut_steps(outputs, config, input_values, attention_mask)
        features = cls.read(clips.outputs, config, clips.input_values, clips.attention_mask)
        grid = (len(outputs.last_hidden_state), -1)
        return StepFeatures(
            features.unflatten(0, grid),
            clips.step_attention_mask,
            clips.outputs.patch_attention_mask.unflatten(0, grid),  # type: ignore[union-attr]
        )

    def forward(self, features: torch.Tensor, patch_attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """
        Scores the classes.

        Args:
            features (`torch.Tensor`): As [`read`] gives them.
            patch_attention_mask (`torch.BoolTensor` of shape `(batch_size, patches)`, *optional*):
                True for the patches that count, where these are not all. Heads that read no patches ignore it.

        Returns:
            `torch.Tensor` of shape `(batch_size, num_labels)`.
        """
        raise NotImplementedError

    def classify(
        self,
        features: torch.Tensor,
        patch_attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """
        The logits, and what else the head returns: fields of [`PatchEncoderClassifierOutput`].

        Args:
            features, patch_attention_mask: As of [`forward`].
            labels (`torch.Tensor`, *optional*): The true classes, for heads that read them in training.
        """
        return self(features, patch_attention_mask), {}

    def loss(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        loss_function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        """
        The loss of the task, `config.problem_type`.

        Args:
            logits (`torch.Tensor` of shape `(batch_size, num_labels)`): The scores.
            labels (`torch.Tensor`):
                Class indices `(batch_size,)`, shares of the classes, zeros and ones, or numbers `(batch_size, num_labels)`.
            loss_function (`Callable`): transformers' loss of logits and labels.
        """
        problem_type = self.config.problem_type
        if problem_type == "single_label_classification" and labels.ndim == 2:
            # transformers takes no shares of classes, as mixup makes them.
            return F.cross_entropy(logits, labels.to(logits.dtype))
        # By their form: PEFT's copy of a head has a copy of the configuration, which may not name the problem yet.
        if labels.ndim == 2:
            labels = labels.to(logits.dtype)
        return loss_function(logits, labels)


def dropout_rate(config: HeadConfig) -> float:
    """The dropout rate of a head: `config.classifier_dropout`, or the default."""
    return DEFAULT_DROPOUT if config.classifier_dropout is None else config.classifier_dropout


def layer_streams(outputs: PatchEncoderOutput, config: HeadConfig) -> tuple[torch.Tensor, ...]:
    """The hidden states after each layer or, where layers run in pairs, after each pair; scaled as the encoder keeps them."""
    return outputs.hidden_states[config.layers_per_stream :: config.layers_per_stream]
