# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What classifiers of clips and of time steps share: an encoder of patches and a head on it."""

import torch
from transformers.modeling_utils import PreTrainedModel

from ..patch_encoder.modeling_patch_encoder import CLASSIFIER_KEYS
from ..patch_encoder.packing import PatchEncoderOutput
from .adapter_labels import AdapterLabels
from .configuration_classifier import ClassifierConfig
from .head import ClassificationHead


class PatchEncoderClassifier(AdapterLabels):
    """
    An encoder of patches with a classification head, to be mixed in before the encoder's [`PreTrainedModel`]. Subclasses name
    the `encoder_class` and make the head.
    """

    encoder_class: type[PreTrainedModel]
    classifier: ClassificationHead
    # The loss is a mean over clips or time steps: the Trainer has to divide it when it accumulates gradients.
    accepts_loss_kwargs = False

    def __init__(self, config: ClassifierConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        setattr(self, self.base_model_prefix, self.encoder_class(config))
        self.classifier = self.make_head(config)
        self.post_init()
        # transformers hands on what the encoder ignores; a classifier reports the weights of another head.
        ignored = set(self._keys_to_ignore_on_load_unexpected)  # type: ignore[has-type]
        self._keys_to_ignore_on_load_unexpected = ignored - {CLASSIFIER_KEYS}
        # The encoder ignores classifiers; of this one, all weights are to be reported that a checkpoint has beside it.
        self._keys_to_ignore_on_load_unexpected.discard(r"^classifier\.")

    def make_head(self, config: ClassifierConfig) -> ClassificationHead:
        """The classification head."""
        raise NotImplementedError

    def run_encoder(
        self, input_values: torch.Tensor | None, attention_mask: torch.Tensor | None, **kwargs
    ) -> tuple[PatchEncoderOutput, tuple[torch.Tensor, ...] | None]:
        """The encoder's outputs, with all that the head reads, and the hidden states if the caller asked for them."""
        returns_hidden_states = kwargs.get("output_hidden_states") or self.config.output_hidden_states
        if self.classifier.reads_hidden_states:
            kwargs["output_hidden_states"] = True
        # Whatever the configuration says: only the model's own caller may get a tuple.
        kwargs["return_dict"] = True
        outputs = self.base_model(input_values, attention_mask=attention_mask, **kwargs)
        return outputs, outputs.hidden_states if returns_hidden_states else None

    def freeze_base_model(self) -> None:
        """Freezes the encoder: only the head is trained."""
        self.base_model.requires_grad_(False)

    def train(self, mode: bool = True) -> "PatchEncoderClassifier":
        """Sets training mode. A frozen encoder stays in evaluation mode, without drop path."""
        super().train(mode)
        if mode and not any(parameter.requires_grad for parameter in self.base_model.parameters()):
            self.base_model.eval()
        return self
