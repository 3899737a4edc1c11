# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Labels along time from the tokens of any encoder of patches."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from transformers.modeling_outputs import TokenClassifierOutput
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple

from ...audio.frames import SECONDS_PER_FRAME
from ..patch_encoder.patch_tokens import check_tensors
from .classification_heads import CLASSIFICATION_HEADS
from .classifier import PatchEncoderClassifier
from .configuration_classifier import ClassifierConfig
from .head import ClassificationHead
from .label_forms import SINGLE_LABEL, deciding, read_step_labels
from .linear_head import LinearHead
from .time_steps import StepFeatures


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

    timestamps: torch.Tensor | None = None
    step_attention_mask: torch.Tensor | None = None


class PatchEncoderForAudioFrameClassification(PatchEncoderClassifier):
    """
    An encoder of patches with a head on each time step of `config.frames_per_label` frames, to be mixed in before the
    encoder's [`PreTrainedModel`]; subclasses name the `encoder_class`. With a linear head, this is the scene labelling of
    SSAMBA (arXiv 2405.11831, section 4), except that the original averages slices of the frequency-major sequence, which mix
    up times.
    """

    def make_head(self, config: ClassifierConfig) -> ClassificationHead:
        """The head of `config.classifier_type` where it labels frames, else a linear head."""
        head = CLASSIFICATION_HEADS[config.classifier_type]
        return head(config) if head.labels_frames else LinearHead(config)

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
                For each time step a class index (any integers, single-label), or a zero or one for each class (multi-label).
                `config.problem_type` decides, or else their shape. -100 is ignored, and so is all after a clip's end.
            attention_mask (`torch.Tensor` of shape `(batch_size, frames)`, *optional*):
                Ones, then zeros at the padded frames of shorter clips, see the encoder.

        Returns:
            [`PatchEncoderFrameClassifierOutput`]

        Raises:
            `ValueError`, `TypeError`: for labels of another shape or type, or another `config.problem_type`, see also the
            encoder.
        """
        check_tensors(labels=labels)
        outputs, hidden_states = self.run_encoder(input_values, attention_mask, **kwargs)
        steps = self.classifier.read_steps(
            outputs,
            self.config,
            input_values,  # type: ignore[arg-type]
            attention_mask,
        )
        logits = self.score_steps(steps)
        beginnings = torch.arange(logits.shape[1], device=logits.device) * self.config.frames_per_label
        timestamps = torch.stack((beginnings, beginnings + self.config.frames_per_label), dim=1) * SECONDS_PER_FRAME
        return PatchEncoderFrameClassifierOutput(
            loss=None if labels is None else self.frame_loss(logits, labels, steps.step_attention_mask),
            logits=logits,
            hidden_states=hidden_states,
            attentions=outputs.attentions,
            timestamps=timestamps,
            step_attention_mask=steps.step_attention_mask,
        )

    def score_steps(self, steps: StepFeatures) -> torch.Tensor:
        """Logits of the time steps, `(batch_size, steps, num_labels)`; zeros for the steps that a clip does not have."""
        features, patches, mask = steps.features, steps.patch_attention_mask, steps.step_attention_mask
        if mask is None:
            logits = self.classifier(features.flatten(0, 1), None if patches is None else patches.flatten(0, 1))
            return logits.unflatten(0, features.shape[:2])
        # The head sees no others: they must not count in running statistics.
        present = self.classifier(features[mask], None if patches is None else patches[mask])
        logits = present.new_zeros(*mask.shape, present.shape[1])
        logits[mask] = present
        return logits

    def frame_loss(
        self, logits: torch.Tensor, labels: torch.Tensor, step_attention_mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Cross-entropy (single-label), or binary cross-entropy (multi-label), of the labelled time steps."""
        labels, problem_type = read_step_labels(labels, self.config.problem_type, logits.shape)
        is_single = problem_type == SINGLE_LABEL
        if step_attention_mask is not None:
            mask = step_attention_mask if is_single else step_attention_mask[..., None]
            labels = torch.where(mask, labels, IGNORED_LABEL)
        with deciding(self.config, problem_type, self.num_labels):
            if is_single:
                return F.cross_entropy(logits.transpose(1, 2).float(), labels, ignore_index=IGNORED_LABEL)
            is_labelled = labels != IGNORED_LABEL
            targets = torch.where(is_labelled, labels, 0)
            losses = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
            return torch.where(is_labelled, losses, 0).sum() / is_labelled.sum()
