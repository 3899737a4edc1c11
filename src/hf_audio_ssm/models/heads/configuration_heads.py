# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The fields of the configuration that classification heads read."""

from huggingface_hub.dataclasses import strict

from ..patch_encoder.configuration_checks import one_line_errors
from ..patch_encoder.configuration_patch_encoder import LARGEST, PatchEncoderConfig


@one_line_errors
@strict
class HeadConfig(PatchEncoderConfig):
    r"""
    The fields of [`PatchEncoderConfig`], and those of the classification heads.

    Args:
        classifier_type (`str`, *optional*, defaults to `"linear"`):
            The classification head: `"linear"` on the pooled output, `"layer_weighted"` on the mean tokens of all layers
            (of all pairs, where layers are paired), `"attentive"` on the patch tokens, `"prototypical"` on how similar each
            patch is to prototypes of each class, `"statistics"` on mean, standard deviation and maximum of the patch tokens
            over time, `"protobin"` on how similar patches are to binary prototypes of all classes, or `"cgp"` on how similar
            the tokens of all layers are to prototypes of all classes.
        classifier_dropout (`float`, *optional*):
            Dropout in the heads `"statistics"`, `"protobin"` and `"cgp"`. Defaults to 0.2.
        frames_per_label (`int`, *optional*, defaults to 100):
            Frames of a time step in frame classification; the default labels each second.
        num_prototypes (`int`, *optional*, defaults to 20):
            Prototypes of each class; heads whose classes share prototypes have `num_labels` times as many.
        focal_similarity (`str`, *optional*, defaults to `"mean"`):
            What `"prototypical"` subtracts from the patch tokens before it compares them: `"none"`, the `"cls"` token (the
            mean of the prefix tokens; Bird-MAE's choice, but of an encoder that trains it) or the `"mean"` patch token.
        prototype_topk (`int`, *optional*, defaults to 1):
            Patches that `"prototypical"` averages for each prototype in training; in evaluation it takes the best one.
        prototype_margin (`float`, *optional*):
            Angle (radians) by which `"prototypical"` brings the prototypes of other classes nearer in training. Off by
            default.
        orthogonality_loss_weight (`float`, *optional*, defaults to 1.0):
            Weight of the loss that keeps the prototypes of a class apart, of `"prototypical"`.
        statistics_of_filter_bank (`bool`, *optional*, defaults to `False`):
            Whether `"statistics"` also reads the statistics of the mel bins.
        kwargs:
            Patches, positions, pooling and pretraining: see [`PatchEncoderConfig`].

    Raises:
        `huggingface_hub.errors.StrictDataclassError`: naming the field, its value and what is allowed.
    """

    # Not scores: the Trainer must not collect them. Similarity maps are as large as all patches times all prototypes.
    keys_to_ignore_at_inference = ["similarity_maps", "timestamps", "step_attention_mask"]

    classifier_type: str = "linear"
    classifier_dropout: float | int | None = None
    frames_per_label: int = 100
    num_prototypes: int = 20
    focal_similarity: str = "mean"
    prototype_topk: int = 1
    prototype_margin: float | int | None = None
    orthogonality_loss_weight: float | int = 1.0
    statistics_of_filter_bank: bool = False

    def num_label_steps(self, num_columns: int) -> int:
        """Time steps of frame classification: as far as the centre of the last of `num_columns` columns of patches."""
        return int(self.column_centres(num_columns)[-1] // self.frames_per_label) + 1

    def validate_architecture(self) -> None:
        """Cross-field checks, run when the configuration is made or loaded."""
        super().validate_architecture()
        self.check_positive("frames_per_label", largest=LARGEST["max_length"])
        if self.classifier_dropout is not None and not 0 <= self.classifier_dropout < 1:
            self.refuse("classifier_dropout", "None, or at least 0 and below 1")


__all__ = ["HeadConfig"]
