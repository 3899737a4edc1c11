# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Classification heads on the tokens of any encoder of patches: what `config.classifier_type` names.

A head turns one tensor, its features, into logits; `read_features` takes them off the encoder's output. Features of a
frozen encoder can thus be computed once, and heads trained on them alone.
"""

import math

import torch
from torch import nn
from transformers import initialization as init

from ..patch_encoder.configuration_patch_encoder import PatchEncoderConfig
from ..patch_encoder.packing import PatchEncoderOutput
from ..patch_encoder.patch_tokens import mean_patch_token


def read_features(outputs: PatchEncoderOutput, name: str, config: PatchEncoderConfig) -> torch.Tensor:
    """
    What a head reads of the encoder's output.

    Args:
        outputs ([`PatchEncoderOutput`]): With `hidden_states`, where `name` is "layer_means".
        name (`str`): The head's `features`.
        config (`PatchEncoderConfig`): The encoder's configuration.

    Returns:
        `torch.Tensor`: for "pooler_output" of shape `(batch_size, hidden_size)`; for "last_hidden_state" `(batch_size, prefix
        tokens + patches, hidden_size)`; for "layer_means", the mean patch token after each layer or pair of layers,
        `(batch_size, layers, hidden_size)`.
    """
    if name == "layer_means":
        streams = outputs.hidden_states[config.layers_per_stream :: config.layers_per_stream]
        mask = outputs.patch_attention_mask
        means = [mean_patch_token(stream[:, config.num_prefix_tokens :], mask) for stream in streams]
        return torch.stack(means, dim=1)
    return getattr(outputs, name)


class LinearHead(nn.Module):
    """Layer norm and linear layer on the pooled output."""

    # What `read_features` takes off the encoder's output.
    features = "pooler_output"

    def __init__(self, config: PatchEncoderConfig):
        super().__init__()
        self.config = config
        # PyTorch's epsilon, as in the originals, whatever the encoder's.
        self.layernorm = nn.LayerNorm(config.hidden_size)
        self.dense = nn.Linear(config.hidden_size, config.num_labels) if config.num_labels > 0 else nn.Identity()

    def initialize(self) -> None:
        """Initialises the parameters that are not a submodule's."""

    def forward(self, features: torch.Tensor, patch_attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """
        Logits `(batch_size, num_labels)` of the features `(batch_size, hidden_size)`; heads that read tokens read only
        those in `patch_attention_mask`, `(batch_size, patches)`, if given.
        """
        return self.dense(self.layernorm(features))


class LayerWeightedHead(LinearHead):
    """A learned weighting (softmax) of the mean patch tokens after each layer, or pair of layers, and a linear head."""

    features = "layer_means"

    def __init__(self, config: PatchEncoderConfig):
        super().__init__(config)
        self.layer_weights = nn.Parameter(torch.empty(config.num_hidden_layers // config.layers_per_stream))

    def initialize(self) -> None:
        """Initialises the parameters that are not a submodule's."""
        init.zeros_(self.layer_weights)

    def forward(self, features: torch.Tensor, patch_attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Logits of the features `(batch_size, layers, hidden_size)`."""
        weights = self.layer_weights.softmax(dim=0).to(features.dtype)
        return super().forward(torch.einsum("l,bld->bd", weights, features))


class AttentiveHead(LinearHead):
    """A learned query q attends to the patch tokens T, softmax(q T^T / sqrt(d)) T, and a linear head."""

    features = "last_hidden_state"

    def __init__(self, config: PatchEncoderConfig):
        super().__init__(config)
        self.query = nn.Parameter(torch.empty(config.hidden_size))

    def initialize(self) -> None:
        """Initialises the parameters that are not a submodule's."""
        # Attention starts even: a linear head on the mean token.
        init.zeros_(self.query)

    def forward(self, features: torch.Tensor, patch_attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Logits of the features `(batch_size, prefix tokens + patches, hidden_size)`."""
        features = features[:, self.config.num_prefix_tokens :]
        scores = features @ self.query.to(features.dtype) / math.sqrt(features.shape[-1])
        if patch_attention_mask is not None:
            scores = scores.masked_fill(~patch_attention_mask, -torch.inf)
        return super().forward(torch.einsum("bn,bnd->bd", scores.softmax(dim=1), features))


class PrototypicalHead(nn.Module):
    """
    Scores each class by how similar the patch tokens come to the class's own prototypes: Bird-MAE (arXiv 2504.12880),
    after AudioProtoPNet. All maths as in its authors' code.
    """

    features = "last_hidden_state"
    EPS = 1e-4

    def __init__(self, config: PatchEncoderConfig):
        super().__init__()
        self.config = config
        shape = (config.num_labels, config.num_prototypes)
        self.prototypes = nn.Parameter(torch.empty(*shape, config.hidden_size))
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(config.num_labels))

    def initialize(self) -> None:
        """Initialises the parameters that are not a submodule's."""
        init.uniform_(self.prototypes, 0, 1)
        init.ones_(self.weight)
        init.constant_(self.bias, -2.0)

    def compare(
        self,
        features: torch.Tensor,
        labels: torch.Tensor | None = None,
        patch_attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """
        Similarity of each patch to each prototype.

        Args:
            features (`torch.Tensor` of shape `(batch_size, prefix tokens + patches, hidden_size)`): The final tokens.
            labels (`torch.Tensor`, *optional*): In training, whose prototypes are spared `config.prototype_margin`.
            patch_attention_mask (`torch.BoolTensor` of shape `(batch_size, patches)`, *optional*):
                True for the patches that count; the others are similar to nothing.

        Returns:
            `torch.Tensor` of shape `(batch_size, num_labels, num_prototypes, patches)`, between 0 and 1.
        """
        features = features.to(self.prototypes.dtype)
        prefix, tokens = features.split(
            (self.config.num_prefix_tokens, features.shape[1] - self.config.num_prefix_tokens), 1
        )
        if self.config.focal_similarity == "cls":
            tokens = tokens - prefix.mean(dim=1, keepdim=True)
        elif self.config.focal_similarity == "mean":
            tokens = tokens - mean_patch_token(tokens, patch_attention_mask)[:, None]
        # A cosine with two more channels of EPS on either side.
        token_norm = (tokens.square().sum(-1, keepdim=True) + 2 * self.EPS**2 + self.EPS).sqrt()
        norm = (self.prototypes.square().sum(-1, keepdim=True) + 2 * self.EPS**2 + self.EPS).sqrt() + self.EPS
        cosine = torch.einsum("bnd,cjd->bcjn", tokens / token_norm, self.prototypes / norm)
        extra = 2 * self.EPS**2 / (token_norm[:, None, None, :, 0] * norm)
        similarity = ((cosine + extra) / 1.01).relu()
        margin = self.config.prototype_margin
        if self.training and margin is not None and labels is not None:
            moved = ((similarity.acos() - margin).relu().cos()).relu()
            is_own = self.multi_hot(labels)[:, :, None, None] > 0
            similarity = torch.where(is_own, similarity, moved)
        if patch_attention_mask is not None:
            similarity = similarity.masked_fill(~patch_attention_mask[:, None, None], 0)
        return similarity

    def score(self, similarity: torch.Tensor, patch_attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Logits of the similarities: the mean of each prototype's best patches, weighted by class."""
        topk = min(self.config.prototype_topk, similarity.shape[-1]) if self.training else 1
        best = similarity.topk(topk, dim=-1).values
        if patch_attention_mask is None:
            best = best.mean(dim=-1)
        else:
            best = best.sum(dim=-1) / patch_attention_mask.sum(dim=1).clamp(max=topk)[:, None, None]
        return (best * self.weight.relu()).sum(dim=-1) + self.bias

    def forward(self, features: torch.Tensor, patch_attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Logits of the features `(batch_size, prefix tokens + patches, hidden_size)`."""
        return self.score(self.compare(features, patch_attention_mask=patch_attention_mask), patch_attention_mask)

    def multi_hot(self, labels: torch.Tensor) -> torch.Tensor:
        """Labels as `(batch_size, num_labels)`, whether they are class indices or already that."""
        return labels if labels.ndim == 2 else nn.functional.one_hot(labels, self.config.num_labels)

    def orthogonality_loss(self) -> torch.Tensor:
        """How far the prototypes of each class are from being orthogonal to each other."""
        norm = (self.prototypes.square().sum(-1, keepdim=True) + self.EPS).sqrt() + self.EPS
        normalized = self.prototypes / norm
        gram = normalized @ normalized.transpose(1, 2)
        identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
        return torch.linalg.vector_norm(gram - identity) / gram.numel()


CLASSIFICATION_HEADS = {
    "linear": LinearHead,
    "layer_weighted": LayerWeightedHead,
    "attentive": AttentiveHead,
    "prototypical": PrototypicalHead,
}


def asymmetric_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """
    Asymmetric loss for many labels, most of them absent (arXiv 2009.14119), with gamma 1 and 4 and clip 0.05.

    Args:
        logits (`torch.Tensor` of shape `(batch_size, num_labels)`): The scores.
        labels (`torch.Tensor` of shape `(batch_size, num_labels)`): 1 for present, 0 for absent, or a share.
    """
    labels = labels.to(logits.dtype)
    present = logits.sigmoid()
    absent = (1 - present + 0.05).clamp(max=1)
    log_likelihood = labels * present.clamp(min=1e-8).log() + (1 - labels) * absent.clamp(min=1e-8).log()
    likelihood = labels * present + (1 - labels) * absent
    return -(log_likelihood * (1 - likelihood).clamp(min=0) ** (labels + 4 * (1 - labels))).mean()
