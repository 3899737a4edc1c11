# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
PyTorch SSAST (Self-Supervised Audio Spectrogram Transformer) model: the layers of transformers' AST on the tokens of a
patch encoder.

Written from the paper (arXiv 2110.09784) and the published behaviour of its original code (YuanGongND/ssast), whose
Transformer is timm's distilled DeiT.
"""

import torch
from torch import nn
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.audio_spectrogram_transformer.modeling_audio_spectrogram_transformer import (
    ASTLayer,
    ASTPreTrainedModel,
)
from transformers.utils.output_capturing import capture_outputs

from ..heads.audio_classification import PatchEncoderForAudioClassification
from ..heads.audio_frame_classification import PatchEncoderForAudioFrameClassification
from ..patch_encoder.masked_patch_modeling import PatchEncoderForPreTraining
from ..patch_encoder.modeling_patch_encoder import PatchEncoderModel, PatchEncoderPreTrainedModel
from ..patch_encoder.packing import Packing, PatchEncoderOutput
from ..patch_encoder.patch_tokens import PatchTokenEmbeddings
from .configuration_ssast import SsastConfig


class SsastEmbeddings(PatchTokenEmbeddings):
    """Patch tokens with [CLS] and the distillation token in front."""

    def __init__(self, config: SsastConfig, use_mask_token: bool = False):
        super().__init__(config, use_mask_token=use_mask_token)
        self.distillation_token = nn.Parameter(torch.empty(1, 1, config.hidden_size))

    def prefix_tokens(self) -> torch.Tensor:
        return torch.cat((self.cls_token, self.distillation_token), dim=1)

    def initialize(self) -> None:
        super().initialize()
        init.trunc_normal_(self.distillation_token, std=self.config.initializer_range)


class SsastPreTrainedModel(PatchEncoderPreTrainedModel, ASTPreTrainedModel):
    """Weight initialisation, attention implementations, loading and saving of SSAST models."""

    config: SsastConfig
    base_model_prefix = "ssast"
    _no_split_modules = ["SsastEmbeddings", "ASTLayer"]


class SsastModel(PatchEncoderModel, SsastPreTrainedModel):
    """
    The bare SSAST encoder.

    Args:
        config (`SsastConfig`): The configuration.
        use_mask_token (`bool`, *optional*, defaults to `False`): Whether to have the mask embedding of pretraining.
    """

    embeddings_class = SsastEmbeddings

    def __init__(self, config: SsastConfig, use_mask_token: bool = False):
        super().__init__(config, use_mask_token=use_mask_token)
        self.layers = nn.ModuleList([ASTLayer(config) for _ in range(config.num_hidden_layers)])
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    @capture_outputs(tie_last_hidden_states=False)
    def encode(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs
    ) -> PatchEncoderOutput:
        """Runs the layers and the last layer norm, with a mask where clips are padded."""
        for layer in self.layers:
            hidden_states = layer(hidden_states, attention_mask, **kwargs)
        return PatchEncoderOutput(last_hidden_state=self.layernorm(hidden_states))

    def encode_packed(self, hidden_states: torch.Tensor, packing: Packing, **kwargs) -> PatchEncoderOutput:
        """In the batch, with a mask: every implementation of attention takes one, and none takes groups of clips."""
        if packing.clip_shapes is None:
            return packing.unpack_outputs(self.encode(hidden_states, **kwargs))
        hidden_states = packing.unpack(hidden_states)
        attention_mask = create_bidirectional_mask(
            config=self.config, inputs_embeds=hidden_states, attention_mask=packing.attention_mask
        )
        return packing.blank_outputs(self.encode(hidden_states, attention_mask=attention_mask, **kwargs))

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """Initialises as the original does: the layers as AST's, the heads (other modules' matter) as PyTorch's."""
        if isinstance(module, nn.Linear):
            ASTPreTrainedModel._init_weights(self, module)
        else:
            super()._init_weights(module)


class SsastForAudioClassification(PatchEncoderForAudioClassification, SsastPreTrainedModel):
    """
    SSAST with the classification head of `config.classifier_type`, by default linear on the pooled output.

    Args:
        config (`SsastConfig`): The configuration; `num_labels`, `problem_type` and the fields of [`HeadConfig`] shape
            the head.
    """

    encoder_class = SsastModel


class SsastForAudioFrameClassification(PatchEncoderForAudioFrameClassification, SsastPreTrainedModel):
    """
    SSAST with a classification head on each time step, by default linear on the mean patch token.

    Args:
        config (`SsastConfig`): The configuration; `num_labels`, `problem_type`, `frames_per_label` and the other
            fields of [`HeadConfig`] shape the head.
    """

    encoder_class = SsastModel


class SsastForPreTraining(PatchEncoderForPreTraining, SsastPreTrainedModel):
    """
    SSAST with the heads of masked spectrogram patch modelling.

    Args:
        config (`SsastConfig`): The configuration; `num_masked_patches`, `mask_cluster_sizes` and
            `generative_loss_weight` shape the objective.
    """

    encoder_class = SsastModel


__all__ = [
    "SsastForAudioClassification",
    "SsastForAudioFrameClassification",
    "SsastForPreTraining",
    "SsastModel",
    "SsastPreTrainedModel",
]
