# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Classification of a clip from the tokens of any encoder of patches."""

import torch
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.modeling_utils import PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple

from .configuration_patch_encoder import PatchEncoderConfig


class ClassificationHead(nn.Module):
    """Layer norm and linear layer on the pooled output."""

    def __init__(self, config: PatchEncoderConfig):
        super().__init__()
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dense = nn.Linear(config.hidden_size, config.num_labels) if config.num_labels > 0 else nn.Identity()

    def forward(self, pooled_output: torch.Tensor) -> torch.Tensor:
        return self.dense(self.layernorm(pooled_output))


class PatchEncoderForAudioClassification:
    """
    An encoder of patches with a classification head on its pooled output, to be mixed in before the encoder's
    [`PreTrainedModel`]; subclasses name the `encoder_class`.
    """

    encoder_class: type[PreTrainedModel]

    def __init__(self, config: PatchEncoderConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        setattr(self, self.base_model_prefix, self.encoder_class(config))
        self.classifier = ClassificationHead(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SequenceClassifierOutput:
        r"""
        Args:
            input_values (`torch.Tensor` of shape `(batch_size, frames, num_mel_bins)`):
                Normalised log-mel spectrogram from the feature extractor.
            labels (`torch.Tensor` of shape `(batch_size,)` or `(batch_size, num_labels)`, *optional*):
                Class indices (single-label), zeros and ones for each class (multi-label), or numbers (regression), by
                `config.problem_type`; without one, `num_labels == 1` means regression, integer labels single-label and
                others multi-label.
            attention_mask (`torch.Tensor` of shape `(batch_size, frames)`, *optional*):
                Must be all ones, see the encoder.

        Returns:
            `SequenceClassifierOutput`: `logits` of shape `(batch_size, num_labels)`; `loss` if `labels` are given.
        """
        outputs = self.base_model(input_values, attention_mask=attention_mask, **kwargs)
        logits = self.classifier(outputs.pooler_output)
        loss = None
        if labels is not None:
            loss = self.loss_function(labels, logits, self.config, **kwargs)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )
