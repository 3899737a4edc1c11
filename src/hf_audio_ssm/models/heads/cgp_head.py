# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Convex gated probing: a classification head on the tokens of all layers."""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init

from ..patch_encoder.packing import PatchEncoderOutput
from ..patch_encoder.patch_tokens import mean_patch_token
from .configuration_heads import HeadConfig
from .head import ClassificationHead, dropout_rate, layer_streams


class CgpHead(ClassificationHead):
    """
    Convex gated probing (ICML 2026): a convex combination of the normalised tokens of all layers, compared with `num_labels *
    num_prototypes` prototypes that all classes share. Of each prototype the least similar patch, the summary ([CLS], or the
    mean patch where there are no prefix tokens) and the most similar patch are read; with dropout, and a linear layer. Written
    from the paper's formulas.
    """

    features = "layer_tokens"
    reads_hidden_states = True
    labels_frames = True
    # The tokens of all layers take as many times the memory of the final ones as there are layers.
    compared_by_default = False
    recipe = {"learning_rate": 1e-3, "weight_decay": 0.05}

    def __init__(self, config: HeadConfig):
        super().__init__(config)
        num_prototypes = config.num_labels * config.num_prototypes
        self.gate = nn.Parameter(torch.empty(config.num_hidden_layers // config.layers_per_stream))
        self.gated_prototypes = nn.Parameter(torch.empty(num_prototypes, config.hidden_size))
        self.dropout = nn.Dropout(dropout_rate(config))
        self.gated_dense = nn.Linear(3 * num_prototypes, config.num_labels)

    @classmethod
    def largest_parameter(cls, config: HeadConfig) -> tuple[int, ...]:
        """The prototypes, or the linear layer that reads how similar patches are to them."""
        return config.num_labels, config.num_prototypes, max(config.hidden_size, 3 * config.num_labels)

    def initialize(self) -> None:
        """Weighs all layers the same."""
        init.ones_(self.gate)
        init.normal_(self.gated_prototypes, std=0.02)

    @classmethod
    def read(
        cls,
        outputs: PatchEncoderOutput,
        config: HeadConfig,
        input_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The tokens after each layer or pair of layers, `(batch_size, layers, prefix tokens + patches, hidden_size)`."""
        return torch.stack(layer_streams(outputs, config), dim=1)

    def forward(self, features: torch.Tensor, patch_attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Logits of the features, see [`read`]."""
        prefix, patches = features.to(self.gated_prototypes.dtype).tensor_split(
            (self.config.num_prefix_tokens,), dim=2
        )
        weights, prototypes = self.gate.softmax(dim=0), F.normalize(self.gated_prototypes, dim=-1)
        patches = torch.einsum("l,blnd->bnd", weights, F.normalize(patches, dim=-1))
        if self.config.num_prefix_tokens:
            summary = torch.einsum("l,bld->bd", weights, F.normalize(prefix.mean(dim=2), dim=-1))
        else:
            summary = mean_patch_token(patches, patch_attention_mask)
        similarity = patches @ prototypes.T
        least = most = similarity
        if patch_attention_mask is not None:
            is_left_out = ~patch_attention_mask[..., None]
            least, most = (
                similarity.masked_fill(is_left_out, torch.inf),
                similarity.masked_fill(is_left_out, -torch.inf),
            )
        read = torch.cat((least.amin(dim=1), summary @ prototypes.T, most.amax(dim=1)), dim=-1)
        return self.gated_dense(self.dropout(read))
