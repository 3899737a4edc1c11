# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Classification of a clip from the tokens of any encoder of patches."""

from dataclasses import dataclass

import torch
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple

from ..patch_encoder.patch_tokens import check_spectrograms, check_tensors
from .classification_heads import CLASSIFICATION_HEADS
from .classifier import PatchEncoderClassifier
from .configuration_classifier import ClassifierConfig
from .head import ClassificationHead
from .label_forms import deciding, read_clip_labels


@dataclass
class PatchEncoderClassifierOutput(SequenceClassifierOutput):
    """
    Output of [`PatchEncoderForAudioClassification`].

    Args:
        similarity_maps (`torch.Tensor` of shape `(batch_size, num_labels, num_prototypes, rows, columns)`, *optional*):
            How similar each patch, by frequency and time, is to each prototype. Only the prototypical head returns it.
    """

    similarity_maps: torch.Tensor | None = None


class PatchEncoderForAudioClassification(PatchEncoderClassifier):
    """
    An encoder of patches with the classification head of `config.classifier_type`, to be mixed in before the encoder's
    [`PreTrainedModel`]. Subclasses name the `encoder_class`.
    """

    def make_head(self, config: ClassifierConfig) -> ClassificationHead:
        """The head of `config.classifier_type`."""
        return CLASSIFICATION_HEADS[config.classifier_type](config)

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        encoder_features: torch.Tensor | None = None,
        patch_attention_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> PatchEncoderClassifierOutput:
        r"""
        Args:
            input_values (`torch.Tensor` of shape `(batch_size, frames, num_mel_bins)`):
                Normalised log-mel spectrogram from the feature extractor.
            labels (`torch.Tensor` of shape `(batch_size,)` or `(batch_size, num_labels)`, *optional*):
                `config.problem_type` decides: class indices (any integers), also of shape `(batch_size, 1)`, or shares of
                the classes (single-label); zeros and ones for each class (multi-label); or numbers (regression). Without a
                problem type, `num_labels == 1` means regression, integer labels mean single-label, and others multi-label.
            attention_mask (`torch.Tensor` of shape `(batch_size, frames)`, *optional*):
                Ones, then zeros at the padded frames of shorter clips, see the encoder.
            encoder_features (`torch.Tensor`, *optional*):
                The head's features (its `read`), in place of `input_values`: the encoder does not run.
            patch_attention_mask (`torch.BoolTensor` of shape `(batch_size, patches)`, *optional*):
                The encoder's mask, with `encoder_features` of clips that differ in length.

        Returns:
            [`PatchEncoderClassifierOutput`]: `logits` of shape `(batch_size, num_labels)`; `loss` if `labels` are given;
            `similarity_maps` of the prototypical head.

        Raises:
            `ValueError`, `TypeError`: for labels of another shape or type, see also the encoder.
        """
        check_tensors(labels=labels, encoder_features=encoder_features, input_values=input_values)
        if input_values is not None and encoder_features is not None:
            raise ValueError("One of `input_values` and `encoder_features` must be given, got both.")
        if input_values is not None:
            check_spectrograms(input_values, self.config)
        source = input_values if encoder_features is None else encoder_features
        if labels is not None and source is not None:
            labels, _ = read_clip_labels(labels, self.config.problem_type, self.num_labels, len(source))
        hidden_states = attentions = None
        if encoder_features is None:
            outputs, hidden_states = self.run_encoder(input_values, attention_mask, **kwargs)
            encoder_features = self.classifier.read(outputs, self.config, input_values, attention_mask)
            patch_attention_mask = outputs.patch_attention_mask
            attentions = outputs.attentions

        logits, others = self.classifier.classify(encoder_features, patch_attention_mask, labels)
        return PatchEncoderClassifierOutput(
            loss=None if labels is None else self.classification_loss(logits, labels, **kwargs),
            logits=logits,
            hidden_states=hidden_states,
            attentions=attentions,
            **others,
        )

    def classification_loss(self, logits: torch.Tensor, labels: torch.Tensor, **kwargs) -> torch.Tensor:
        """The head's loss, for `config.problem_type`; where that is None, the labels decide it."""
        labels, problem_type = read_clip_labels(labels, self.config.problem_type, self.num_labels, len(logits))

        def loss_function(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return self.loss_function(labels, logits, self.config, **kwargs)

        with deciding(self.config, problem_type, self.num_labels):
            return self.classifier.loss(logits, labels, loss_function)
