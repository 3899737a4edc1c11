# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Layer-weighted classification head."""

import torch
from torch import nn
from transformers import initialization as init

from ..patch_encoder.packing import PatchEncoderOutput
from ..patch_encoder.patch_tokens import mean_patch_token
from .configuration_heads import HeadConfig
from .head import layer_streams
from .linear_head import LinearHead


class LayerWeightedHead(LinearHead):
    """A learned weighting (softmax) of the mean patch tokens after each layer, or pair of layers, and a linear head."""

    features = "layer_means"
    reads_hidden_states = True
    labels_frames = False

    def __init__(self, config: HeadConfig):
        super().__init__(config)
        self.layer_weights = nn.Parameter(torch.empty(config.num_hidden_layers // config.layers_per_stream))

    def initialize(self) -> None:
        """Weighs all layers the same."""
        init.zeros_(self.layer_weights)

    @classmethod
    def read(
        cls,
        outputs: PatchEncoderOutput,
        config: HeadConfig,
        input_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The mean patch token after each layer or pair of layers, `(batch_size, layers, hidden_size)`."""
        mask = outputs.patch_attention_mask
        streams = layer_streams(outputs, config)
        return torch.stack(
            [mean_patch_token(stream[:, config.num_prefix_tokens :], mask) for stream in streams], dim=1
        )

    def forward(self, features: torch.Tensor, patch_attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Logits of the features `(batch_size, layers, hidden_size)`."""
        weights = self.layer_weights.softmax(dim=0).to(features.dtype)
        return super().forward(torch.einsum("l,bld->bd", weights, features))
