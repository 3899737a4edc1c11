# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Linear classification head."""

import torch
from torch import nn

from ..patch_encoder.packing import PatchEncoderOutput
from .configuration_heads import HeadConfig
from .head import ClassificationHead
from .time_steps import StepFeatures, pool_steps


class LinearHead(ClassificationHead):
    """Layer norm and linear layer on the pooled output."""

    labels_frames = True

    def __init__(self, config: HeadConfig):
        super().__init__(config)
        # PyTorch's epsilon, as in the originals, whatever the encoder's.
        self.layernorm = nn.LayerNorm(config.hidden_size)
        self.dense = nn.Linear(config.hidden_size, config.num_labels) if config.num_labels > 0 else nn.Identity()

    @classmethod
    def read_steps(
        cls,
        outputs: PatchEncoderOutput,
        config: HeadConfig,
        input_values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
    ) -> StepFeatures:
        """The mean patch token of each time step, whatever `config.pooling`."""
        patches = outputs.last_hidden_state[:, config.num_prefix_tokens :]
        return StepFeatures(*pool_steps(patches, config, outputs.patch_attention_mask))

    def forward(self, features: torch.Tensor, patch_attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Logits of the features `(batch_size, hidden_size)`."""
        return self.dense(self.layernorm(features))
