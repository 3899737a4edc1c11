# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Labels along time from the tokens of any encoder of patches."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_outputs import TokenClassifierOutput
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple

from ..patch_encoder.configuration_patch_encoder import PatchEncoderConfig
from .classification_heads import LinearHead
from .classifier import PatchEncoderClassifier


# The filter bank's step in every feature extractor here.
SECONDS_PER_FRAME = 0.01
IGNORED_LABEL = -100


@dataclass
class PatchEncoderFrameClassifierOutput(TokenClassifierOutput):
    """
    Output of [`PatchEncoderForAudioFrameClassification`].

    Args:
        loss (`torch.Tensor` of shape `()`, *optional*):
            The mean over all labelled time steps of the batch.
        logits (`torch.Tensor` of shape `(batch_size, steps, num_labels)`):
            Scores of each time step; zeros where a clip has ended.
        timestamps (`torch.Tensor` of shape `(steps, 2)`):
            Beginning and end of each time step, in seconds.
        step_attention_mask (`torch.BoolTensor` of shape `(batch_size, steps)`, *optional*):
            True for the time steps that a clip has. `None` where clips do not differ.
        kwargs:
            As in the encoder.
    """

    timestamps: torch.FloatTensor | None = None
    step_attention_mask: torch.BoolTensor | None = None


def pool_steps(
    patches: torch.Tensor, config: PatchEncoderConfig, patch_attention_mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """
    Averages the tokens of each time step: of all mel rows, in the columns whose centre lies in the step. A step between
    the centres of two columns, where steps are finer than columns, takes the nearer column.

    Args:
        patches (`torch.Tensor` of shape `(batch_size, patches, hidden_size)`): The final patch tokens, frequency-major.
        config (`PatchEncoderConfig`): The encoder's configuration.
        patch_attention_mask (`torch.BoolTensor` of shape `(batch_size, patches)`, *optional*):
            True for the patches that count, where these are not all.

    Returns:
        `tuple[torch.Tensor, torch.Tensor | None]`: the means `(batch_size, steps, hidden_size)`, zeros where no patch
        counts, and which steps have one `(batch_size, steps)`; `None` where all patches count.
    """
    grid = (config.patch_grid()[0], -1)
    if patch_attention_mask is None:
        sums = patches.unflatten(1, grid).sum(dim=1)
        counts = torch.full(sums.shape[:2], grid[0], device=patches.device)
    else:
        sums = torch.where(patch_attention_mask[..., None], patches, 0).unflatten(1, grid).sum(dim=1)
        counts = patch_attention_mask.unflatten(1, grid).sum(dim=1)
    num_columns, step = counts.shape[1], config.frames_per_label
    stride, centre = config.time_stride, config.patch_shape[1] / 2

    # Columns `first` to `end` have their centres in the step, from its beginning (included) to its end.
    beginnings = torch.arange(config.num_label_steps(num_columns), device=patches.device, dtype=torch.float64) * step
    first = ((beginnings - centre) / stride).ceil().clamp(min=0)
    end = ((beginnings + step - centre) / stride).ceil()
    # Of two columns as near, the earlier.
    nearest = ((beginnings + step / 2 - centre) / stride - 0.5).ceil().clamp(min=0)
    first, end = torch.where(end > first, first, nearest).long(), torch.where(end > first, end, nearest + 1).long()
    columns = first[:, None] + torch.arange(max(1, -(-step // stride) + 1), device=patches.device)
    is_used = (columns < end[:, None]) & (columns < num_columns)
    columns = columns.clamp(max=num_columns - 1)
    counts = torch.where(is_used, counts[:, columns], 0).sum(dim=2)
    sums = torch.where(is_used[..., None], sums[:, columns], 0).sum(dim=2)
    return sums / counts.clamp(min=1)[..., None], None if patch_attention_mask is None else counts > 0


class PatchEncoderForAudioFrameClassification(PatchEncoderClassifier):
    """
    An encoder of patches with a linear head on each time step of `config.frames_per_label` frames, to be mixed in before
    the encoder's [`PreTrainedModel`]; subclasses name the `encoder_class`. The scene labelling of SSAMBA (arXiv
    2405.11831, section 4), but that the original averages slices of the frequency-major sequence, which mix up times.
    """

    def make_head(self, config: PatchEncoderConfig) -> nn.Module:
        """A linear head."""
        return LinearHead(config)

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> PatchEncoderFrameClassifierOutput:
        r"""
        Args:
            input_values (`torch.Tensor` of shape `(batch_size, frames, num_mel_bins)`):
                Normalised log-mel spectrogram from the feature extractor.
            labels (`torch.Tensor` of shape `(batch_size, steps)` or `(batch_size, steps, num_labels)`, *optional*):
                For each time step a class index (single-label), or a zero or one for each class (multi-label), by
                `config.problem_type`, or else by their shape; -100 is ignored, and so is all after a clip's end.
            attention_mask (`torch.Tensor` of shape `(batch_size, frames)`, *optional*):
                Ones, then zeros at the padded frames of shorter clips, see the encoder.

        Returns:
            [`PatchEncoderFrameClassifierOutput`]

        Raises:
            `ValueError`: for labels of another shape, or another `config.problem_type`.
        """
        outputs = self.base_model(input_values, attention_mask=attention_mask, **kwargs)
        patches = outputs.last_hidden_state[:, self.config.num_prefix_tokens :]
        pooled, step_attention_mask = pool_steps(patches, self.config, outputs.patch_attention_mask)
        logits = self.classifier(pooled)
        if step_attention_mask is not None:
            logits = torch.where(step_attention_mask[..., None], logits, 0)
        beginnings = torch.arange(logits.shape[1], device=logits.device) * self.config.frames_per_label
        timestamps = torch.stack((beginnings, beginnings + self.config.frames_per_label), dim=1) * SECONDS_PER_FRAME
        return PatchEncoderFrameClassifierOutput(
            loss=None if labels is None else self.frame_loss(logits, labels, step_attention_mask),
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            timestamps=timestamps,
            step_attention_mask=step_attention_mask,
        )

    def frame_loss(
        self, logits: torch.Tensor, labels: torch.Tensor, step_attention_mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Cross-entropy (single-label), or binary cross-entropy (multi-label), of the labelled time steps."""
        if self.config.problem_type is None:
            is_single = labels.ndim == 2
            self.config.problem_type = f"{'single' if is_single else 'multi'}_label_classification"
        if self.config.problem_type == "regression":
            raise ValueError(
                "`problem_type` must be single_label_classification or multi_label_classification for labels along time, got "
                "'regression'."
            )
        is_single = self.config.problem_type == "single_label_classification"
        expected = logits.shape[:2] if is_single else logits.shape
        if labels.shape != expected:
            raise ValueError(
                f"`labels` must have the shape {tuple(expected)} for {self.config.problem_type} of {logits.shape[1]} time "
                f"steps, got {tuple(labels.shape)}."
            )
        if step_attention_mask is not None:
            mask = step_attention_mask if is_single else step_attention_mask[..., None]
            labels = torch.where(mask, labels, IGNORED_LABEL)
        if is_single:
            return F.cross_entropy(logits.transpose(1, 2).float(), labels.long(), ignore_index=IGNORED_LABEL)
        is_labelled = labels != IGNORED_LABEL
        targets = torch.where(is_labelled, labels, 0).float()
        losses = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
        return torch.where(is_labelled, losses, 0).sum() / is_labelled.sum()
