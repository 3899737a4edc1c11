# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Classification head on statistics over time."""

import torch
import torch.nn.functional as F
from torch import nn

from ..patch_encoder.packing import PatchEncoderOutput
from .configuration_heads import HeadConfig
from .head import ClassificationHead, dropout_rate


class Standardization(nn.BatchNorm1d):
    """Batch norm without affine part. A batch of one clip, which has no deviation, takes the running statistics in training."""

    def __init__(self, num_features: int):
        super().__init__(num_features, affine=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """`features` and the result have the shape `(batch_size, num_features)`."""
        if len(features) > 1:
            return super().forward(features)
        return F.batch_norm(features, self.running_mean, self.running_var, eps=self.eps)


class StatisticsHead(ClassificationHead):
    """
    Mean, standard deviation and maximum of the patch tokens over time, the rows of the grid kept apart, and
    (`config.statistics_of_filter_bank`) of the mel bins; standardised, with dropout, and a linear layer.
    """

    features = "statistics"
    labels_frames = True

    def __init__(self, config: HeadConfig):
        super().__init__(config)
        self.num_features = 3 * config.patch_grid()[0] * config.hidden_size
        if config.statistics_of_filter_bank:
            self.num_features += 3 * config.num_mel_bins
        self.standardization = Standardization(self.num_features)
        self.dropout = nn.Dropout(dropout_rate(config))
        self.statistics_dense = nn.Linear(self.num_features, config.num_labels)

    @classmethod
    def largest_parameter(cls, config: HeadConfig) -> tuple[int, ...]:
        """The linear layer."""
        return config.num_labels, 3 * config.patch_grid()[0], config.hidden_size

    @classmethod
    def read(
        cls,
        outputs: PatchEncoderOutput,
        config: HeadConfig,
        input_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """
        The statistics `(batch_size, 3 * rows * hidden_size + 3 * num_mel_bins)`, float32: of each row the mean, standard
        deviation and maximum of its tokens, from the lowest row up; then mean, standard deviation and maximum of the mel bins,
        whether the head reads them or not.
        """
        grid, mask = (config.patch_grid()[0], -1), outputs.patch_attention_mask
        tokens = outputs.last_hidden_state[:, config.num_prefix_tokens :].unflatten(1, grid)
        of_tokens = describe(tokens, None if mask is None else mask.unflatten(1, grid))
        mask_of_bins = None if attention_mask is None else attention_mask != 0
        of_bins = describe(input_values, mask_of_bins)  # type: ignore[arg-type]
        return torch.cat((of_tokens.flatten(1), of_bins), dim=1)

    def forward(self, features: torch.Tensor, patch_attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Logits of the features, see [`read`]."""
        features = features[:, : self.num_features].to(self.statistics_dense.weight.dtype)
        return self.statistics_dense(self.dropout(self.standardization(features)))


def describe(values: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """
    Mean, standard deviation (of the population) and maximum over time.

    Args:
        values (`torch.Tensor` of shape `(..., time, channels)`): The values.
        mask (`torch.BoolTensor` of shape `(..., time)`, *optional*): True for the times that count.

    Returns:
        `torch.Tensor` of shape `(..., 3 * channels)`, float32 or better; zeros where no time counts.
    """
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    if mask is None:
        mask = values.new_ones(values.shape[:-1], dtype=torch.bool)
    mask = mask[..., None]
    counts = mask.sum(dim=-2).clamp(min=1)
    mean = torch.where(mask, values, 0).sum(dim=-2) / counts
    variance = torch.where(mask, values - mean.unsqueeze(-2), 0).square().sum(dim=-2) / counts
    # The square root has no gradient at zero.
    std = torch.where(variance > 0, torch.where(variance > 0, variance, 1).sqrt(), 0)
    highest = values.masked_fill(~mask, -torch.inf).amax(dim=-2)
    highest = torch.where(mask.any(dim=-2), highest, 0)
    return torch.cat((mean, std, highest), dim=-1)
