# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Classification head on binarised prototypes."""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init

from .configuration_heads import HeadConfig
from .head import ClassificationHead, dropout_rate


class ProtobinHead(ClassificationHead):
    """
    Binarised prototypes ("Unmute the patch tokens", ICLR 2026): how similar the most similar patch is to each of `num_labels *
    num_prototypes` vectors of -1 and 1, which all classes share; with dropout, and a linear layer. Written from the paper's
    formulas.
    """

    features = "last_hidden_state"
    labels_frames = True
    recipe = {"learning_rate": 1e-3, "weight_decay": 0.05}

    def __init__(self, config: HeadConfig):
        super().__init__(config)
        num_prototypes = config.num_labels * config.num_prototypes
        self.binary_prototypes = nn.Parameter(torch.empty(num_prototypes, config.hidden_size))
        self.dropout = nn.Dropout(dropout_rate(config))
        self.binary_dense = nn.Linear(num_prototypes, config.num_labels)

    @classmethod
    def largest_parameter(cls, config: HeadConfig) -> tuple[int, ...]:
        """The prototypes, or the linear layer that reads how similar patches are to them."""
        return config.num_labels, config.num_prototypes, max(config.hidden_size, config.num_labels)

    def initialize(self) -> None:
        """Initialises as the authors do."""
        init.normal_(self.binary_prototypes, std=0.02)

    def signs(self) -> torch.Tensor:
        """The signs of the prototypes `(num_labels * num_prototypes, hidden_size)`; gradients pass as through identity."""
        signs = torch.where(self.binary_prototypes >= 0, 1.0, -1.0).to(self.binary_prototypes.dtype)
        return signs + (self.binary_prototypes - self.binary_prototypes.detach())

    def forward(self, features: torch.Tensor, patch_attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Logits of the features `(batch_size, prefix tokens + patches, hidden_size)`."""
        patches = features[:, self.config.num_prefix_tokens :].to(self.binary_prototypes.dtype)
        similarity = F.normalize(patches, dim=-1) @ F.normalize(self.signs(), dim=-1).T
        if patch_attention_mask is not None:
            similarity = similarity.masked_fill(~patch_attention_mask[..., None], -torch.inf)
        return self.binary_dense(self.dropout(similarity.amax(dim=1)))
