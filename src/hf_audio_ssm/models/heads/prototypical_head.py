# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Prototypical classification head, and its losses."""

import math
from collections.abc import Callable

import torch
from torch import nn
from transformers import initialization as init

from ..patch_encoder.patch_tokens import mean_patch_token
from .configuration_heads import HeadConfig
from .head import ClassificationHead


FOCAL_SIMILARITIES = ("none", "cls", "mean")


class PrototypicalHead(ClassificationHead):
    """
    Scores each class by how similar the patch tokens come to the class's own prototypes: Bird-MAE (arXiv 2504.12880),
    after AudioProtoPNet. The maths and the recipe are those of its authors' code.
    """

    features = "last_hidden_state"
    no_weight_decay = ("prototypes",)
    learning_rates = {"prototypes": "prototype_learning_rate"}
    takes_label_smoothing = False
    recipe = {"learning_rate": 4e-4, "weight_decay": 1e-4, "adam_beta2": 0.95, "max_grad_norm": 2.0}
    EPS = 1e-4

    def __init__(self, config: HeadConfig):
        super().__init__(config)
        shape = (config.num_labels, config.num_prototypes)
        self.prototypes = nn.Parameter(torch.empty(*shape, config.hidden_size))
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(config.num_labels))

    @classmethod
    def check_config(cls, config: HeadConfig) -> None:
        """Checks the fields of prototypes."""
        config.check_positive("num_prototypes", "prototype_topk")
        if not 0 <= config.orthogonality_loss_weight < math.inf:
            config.refuse("orthogonality_loss_weight", "zero or a positive number")
        if config.prototype_margin is not None and not 0 <= config.prototype_margin < math.pi / 2:
            config.refuse("prototype_margin", "None, or an angle of at least 0 and below pi / 2")
        config.check_choice("focal_similarity", FOCAL_SIMILARITIES)

    @classmethod
    def largest_parameter(cls, config: HeadConfig) -> tuple[int, ...]:
        """The prototypes of all classes."""
        return config.num_labels, config.num_prototypes, config.hidden_size

    def initialize(self) -> None:
        """Initialises as the authors do."""
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
            labels (`torch.Tensor`, *optional*): The true classes; in training, `config.prototype_margin` spares theirs.
            patch_attention_mask (`torch.BoolTensor` of shape `(batch_size, patches)`, *optional*):
                True for the patches that count; the others are similar to nothing.

        Returns:
            `torch.Tensor` of shape `(batch_size, num_labels, num_prototypes, patches)`, between 0 and 1.
        """
        features = features.to(self.prototypes.dtype)
        prefix, tokens = features.tensor_split((self.config.num_prefix_tokens,), dim=1)
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
        return self.classify(features, patch_attention_mask)[0]

    def classify(
        self,
        features: torch.Tensor,
        patch_attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The logits, and `similarity_maps` over the grid of patches."""
        similarity = self.compare(features, labels, patch_attention_mask)
        logits = self.score(similarity, patch_attention_mask)
        return logits, {"similarity_maps": similarity.unflatten(-1, (self.config.patch_grid()[0], -1))}

    def loss(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        loss_function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        """The loss of the task, asymmetric where a clip has several labels, and the weighted orthogonality loss."""
        if self.config.problem_type == "multi_label_classification":
            loss = asymmetric_loss(logits, labels)
        else:
            loss = super().loss(logits, labels, loss_function)
        return loss + self.config.orthogonality_loss_weight * self.orthogonality_loss()

    def multi_hot(self, labels: torch.Tensor) -> torch.Tensor:
        """Labels as `(batch_size, num_labels)`, whether they are class indices or already that."""
        # The index of a clip that does not count, -100, is no class.
        return labels if labels.ndim == 2 else nn.functional.one_hot(labels.clamp(min=0), self.config.num_labels)

    def orthogonality_loss(self) -> torch.Tensor:
        """How far the prototypes of each class are from being orthogonal to each other."""
        norm = (self.prototypes.square().sum(-1, keepdim=True) + self.EPS).sqrt() + self.EPS
        normalized = self.prototypes / norm
        gram = normalized @ normalized.transpose(1, 2)
        identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
        return torch.linalg.vector_norm(gram - identity) / gram.numel()


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
