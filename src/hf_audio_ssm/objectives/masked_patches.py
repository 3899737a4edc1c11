# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Masked spectrogram patch modelling ([SSAMBA](https://arxiv.org/abs/2405.11831), [SSAST](https://arxiv.org/abs/2110.09784)): part
of a clip's patches is masked. Of the masked patches, the model tells which is which (contrastive), and it fills them in
(reconstruction).

Requirements: a model that computes the losses itself, `...ForPreTraining`. Inputs: unlabelled clips.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.feature_extraction_utils import FeatureExtractionMixin

from ..common.errors import InputError
from ..data.pretraining import PretrainingClip
from ..models.patch_encoder.configuration_patch_encoder import PatchEncoderConfig
from ..models.patch_encoder.masked_patch_modeling import (
    discriminative_loss,
    draw_patch_mask,
    generative_loss,
    usual_num_masked_patches,
)
from .objective import Description, Objective, ObjectiveOutput, Reconstruction


# Clips of a picture.
NUM_SHOWN = 3


def draw_masks(
    config: PatchEncoderConfig, num_frames: int, num_masked_patches: int, num_masks: int, rng: np.random.Generator
) -> torch.Tensor:
    """Draws independent masks of one clip: bool (masks, patches)."""
    return draw_patch_mask(
        num_masks,
        config.patch_grid(num_frames),
        num_masked_patches,
        config.mask_cluster_sizes,
        generator=torch.Generator().manual_seed(int(rng.integers(2**63))),
    )


@dataclass(frozen=True)
class MaskedPatchExamples:
    """
    Makes examples: the encoder's input, `bool_masked_pos`, and with two masks `generative_bool_masked_pos`. Evaluation always
    masks the same share of patches, once.

    Args:
        config (`PatchEncoderConfig`): The encoder's configuration: its grid of patches and the clusters of its masks.
        num_masked_patches (`int`): Patches to mask in each clip in training.
        two_masks (`bool`, *optional*, defaults to `False`): Whether to draw a mask for each loss in training.
    """

    config: PatchEncoderConfig
    num_masked_patches: int
    two_masks: bool = False

    def __call__(self, clip: PretrainingClip) -> dict[str, torch.Tensor]:
        """Makes an example of a clip."""
        input_values = clip.input_values()
        num_frames = len(input_values)
        if not clip.is_training:
            usual = usual_num_masked_patches(self.config.patch_grid(num_frames))
            (mask,) = draw_masks(self.config, num_frames, usual, 1, clip.rng)
            return {"input_values": input_values, "bool_masked_pos": mask}
        masks = draw_masks(self.config, num_frames, self.num_masked_patches, 1 + self.two_masks, clip.rng)
        names = ("bool_masked_pos", "generative_bool_masked_pos")
        return {"input_values": input_values, **dict(zip(names, masks, strict=False))}


class MaskedPatches(Objective):
    """
    SSAMBA's and SSAST's objective: InfoNCE among the masked patches of a clip, plus ten times their squared error.

    Args:
        model (`PreTrainedModel`): The model, with the heads and the losses of masked patch modelling.
        feature_extractor (`FeatureExtractionMixin`): The model's feature extractor.
        two_masks (`bool`, *optional*, defaults to `False`):
            Whether each loss has its own mask and its own pass of the encoder, as in the authors' code.

    Raises:
        [`InputError`]: If the configuration's `num_masked_patches` leaves no patch of a clip unmasked.
    """

    metric = "accuracy"
    greater_is_better = True

    def __init__(self, model: PreTrainedModel, feature_extractor: FeatureExtractionMixin, two_masks: bool = False):
        super().__init__(model, feature_extractor)
        self.grid = model.config.patch_grid(feature_extractor.max_length)
        self.num_patches = math.prod(self.grid)
        self.num_masked_patches = model.config.num_masked_patches or usual_num_masked_patches(self.grid)
        self.two_masks = two_masks
        if self.num_masked_patches >= self.num_patches:
            raise InputError(
                f"--num_masked_patches must be below the number of patches of a clip, {self.num_patches}, got "
                f"{self.num_masked_patches}"
            )
        examples = MaskedPatchExamples(model.config, self.num_masked_patches, two_masks)
        self.make_example = examples  # type: ignore[method-assign]

    def forward(  # type: ignore[override]
        self,
        input_values: torch.Tensor,
        bool_masked_pos: torch.Tensor,
        generative_bool_masked_pos: torch.Tensor | None = None,
    ) -> ObjectiveOutput:
        """
        Computes the losses of a batch.

        Args:
            input_values (`torch.Tensor` of shape `(batch_size, frames, num_mel_bins)`): The spectrograms.
            bool_masked_pos (`torch.BoolTensor` of shape `(batch_size, patches)`): True for the masked patches.
            generative_bool_masked_pos (`torch.BoolTensor` of shape `(batch_size, patches)`, *optional*):
                Another mask for the squared error.

        Returns:
            [`ObjectiveOutput`] with the metrics `nce`, `mse` and `accuracy`.
        """
        if generative_bool_masked_pos is not None:
            return self.forward_two_masks(input_values, bool_masked_pos, generative_bool_masked_pos)
        outputs = self.model(input_values=input_values, bool_masked_pos=bool_masked_pos, return_dict=True)
        metrics = {name: outputs[name] for name in ("nce", "mse", "accuracy")}
        return ObjectiveOutput(outputs.loss, metrics, predictions=outputs.generative_predictions)

    def forward_two_masks(
        self, input_values: torch.Tensor, mask: torch.Tensor, generative_mask: torch.Tensor
    ) -> ObjectiveOutput:
        """Computes the losses with a mask each, in one pass over the clips twice; arguments as in [`forward`]."""
        count = len(input_values)
        outputs = self.model(
            input_values=torch.cat((input_values, input_values)),
            bool_masked_pos=torch.cat((mask, generative_mask)),
            return_loss=False,
            return_dict=True,
        )
        # The output's masks leave out the patches that patchout left out.
        mask, generative_mask = outputs.mask.bool().tensor_split((count,))
        patches = self.model.patchify(input_values).float()
        nce, accuracy = discriminative_loss(patches, outputs.discriminative_predictions[:count].float(), mask)
        mse = generative_loss(patches, outputs.generative_predictions[count:].float(), generative_mask)
        loss = nce + self.config.generative_loss_weight * mse
        return ObjectiveOutput(loss, {"nce": nce, "mse": mse, "accuracy": accuracy})

    def reconstruct(self, batch: Mapping[str, Any], output: ObjectiveOutput) -> Reconstruction:
        """The first clips of a batch of one mask: the input, what was visible of it, and the reconstruction."""
        inputs = batch["input_values"][:NUM_SHOWN].float()
        mask = batch["bool_masked_pos"][:NUM_SHOWN, :, None]
        patches, num_frames = self.model.patchify(inputs), inputs.shape[1]
        return Reconstruction(
            inputs,
            visible=self.model.unpatchify(torch.where(mask, torch.nan, patches), num_frames),
            reconstruction=self.model.unpatchify(
                torch.where(mask, output.predictions[:NUM_SHOWN].float(), patches), num_frames
            ),
        )

    def describe(self) -> Description:
        """What a model's card says of the objective."""
        masked = f"{self.num_masked_patches} of {self.num_patches}" + ", two masks" * self.two_masks
        return Description(
            summary="An audio encoder, trained without labels by masked spectrogram patch modelling "
            "([SSAMBA](https://arxiv.org/abs/2405.11831), [SSAST](https://arxiv.org/abs/2110.09784)): of the masked patches of "
            "a clip's spectrogram it tells which is which, and fills them in.",
            task=("masked-patch-modeling", "Masked spectrogram patch modelling"),
            measures={
                "accuracy": "accuracy among a clip's masked patches",
                "nce": "contrastive loss (nce)",
                "mse": "squared error of the reconstruction (mse)",
            },
            facts={"Masked patches": masked},
            notes=[f"In each, {usual_num_masked_patches(self.grid)} of {self.num_patches} patches were masked."],
        )
