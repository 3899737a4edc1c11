# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What classifiers of clips and of time steps share: an encoder of patches and a head on it."""

from torch import nn
from transformers.modeling_utils import PreTrainedModel

from ..patch_encoder.configuration_patch_encoder import PatchEncoderConfig


class PatchEncoderClassifier:
    """
    An encoder of patches with a classification head, to be mixed in before the encoder's [`PreTrainedModel`]; subclasses name
    the `encoder_class` and make the head.
    """

    encoder_class: type[PreTrainedModel]
    # The loss is a mean over clips or time steps: the Trainer has to divide it when it accumulates gradients.
    accepts_loss_kwargs = False

    def __init__(self, config: PatchEncoderConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        setattr(self, self.base_model_prefix, self.encoder_class(config))
        self.classifier = self.make_head(config)
        self.post_init()

    def make_head(self, config: PatchEncoderConfig) -> nn.Module:
        """The classification head."""
        raise NotImplementedError

    def freeze_base_model(self) -> None:
        """Stops the encoder's parameters from being trained; only the head will be."""
        self.base_model.requires_grad_(False)

    def train(self, mode: bool = True) -> "PatchEncoderClassifier":
        """Sets training mode; an encoder of which nothing is trained stays in evaluation mode, without drop path."""
        super().train(mode)
        if mode and not any(parameter.requires_grad for parameter in self.base_model.parameters()):
            self.base_model.eval()
        return self
