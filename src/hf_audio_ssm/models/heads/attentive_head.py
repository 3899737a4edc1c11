# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Attentive classification head."""

import math

import torch
from torch import nn
from transformers import initialization as init

from .configuration_heads import HeadConfig
from .linear_head import LinearHead


class AttentiveHead(LinearHead):
    """A learned query q attends to the patch tokens T, softmax(q T^T / sqrt(d)) T, and a linear head."""

    features = "last_hidden_state"
    no_weight_decay = ("query",)
    labels_frames = False

    def __init__(self, config: HeadConfig):
        super().__init__(config)
        self.query = nn.Parameter(torch.empty(config.hidden_size))

    def initialize(self) -> None:
        """Attends to all patches the same: before training, a linear head on the mean token."""
        init.zeros_(self.query)

    def forward(self, features: torch.Tensor, patch_attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Logits of the features `(batch_size, prefix tokens + patches, hidden_size)`."""
        features = features[:, self.config.num_prefix_tokens :]
        scores = features @ self.query.to(features.dtype) / math.sqrt(features.shape[-1])
        if patch_attention_mask is not None:
            scores = scores.masked_fill(~patch_attention_mask, -torch.inf)
        return super().forward(torch.einsum("bn,bnd->bd", scores.softmax(dim=1), features))
