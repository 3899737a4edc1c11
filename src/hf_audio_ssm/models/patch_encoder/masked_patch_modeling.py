# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Masked spectrogram patch modelling: masks, the joint objective and its heads, for any encoder of patches."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_utils import PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.generic import can_return_tuple

from .configuration_patch_encoder import PatchEncoderConfig
from .packing import group_clips, is_written_down
from .patch_tokens import check_spectrograms, check_tensors


def usual_num_masked_patches(grid: tuple[int, int]) -> int:
    """The share of a grid (rows, columns) that is 400 of 512 patches, at which every published run was validated."""
    return max(1, math.prod(grid) * 400 // 512)


def draw_patch_mask(
    batch_size: int,
    grid: tuple[int, int],
    num_masked_patches: int,
    cluster_sizes: tuple[int, ...] | list[int] | None = (3, 4, 5),
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """
    Draws the patches to mask as the original does: a cluster size C per clip, then C x C clusters at random starts until
    more than `num_masked_patches` patches are covered, of which the lowest indices are kept. Patch 0 is never masked. A
    grid of one row, or `cluster_sizes=None`, masks single patches drawn uniformly from all.

    The starts that count are those drawn for the first time, and these are a random permutation of all patches: with it
    the clips of a batch need no loop, and nothing waits for the device.

    Args:
        batch_size (`int`): Number of clips.
        grid (`tuple[int, int]`): Rows and columns (frequency, time) of patches.
        num_masked_patches (`int`): Masked patches of each clip, below the number of patches.
        cluster_sizes (`tuple[int, ...]`, *optional*): Side lengths to draw from.
        device (`torch.device`, *optional*): Where to draw.
        generator (`torch.Generator`, *optional*): Source of randomness; torch's default one for the device otherwise.

    Returns:
        `torch.BoolTensor` of shape `(batch_size, rows * columns)`, true where masked.

    Raises:
        `ValueError`: If the grid has no more than `num_masked_patches` patches.
    """
    rows, columns = grid
    num_patches = rows * columns
    if not 0 < num_masked_patches < num_patches:
        raise ValueError(
            f"`num_masked_patches` must be positive and below the number of patches, {rows} x {columns} = "
            f"{num_patches}, got {num_masked_patches}."
        )
    order = torch.rand(batch_size, num_patches, device=device, generator=generator).argsort(dim=1)
    # rank[:, s]: when a cluster first starts at patch s.
    rank = order.argsort(dim=1)
    if cluster_sizes is None or rows == 1:
        return rank < num_masked_patches

    choices = torch.tensor(list(cluster_sizes), device=device)
    choice = torch.randint(len(choices), (batch_size,), device=device, generator=generator)
    size = choices[choice][:, None]
    covered_at = torch.full_like(rank, num_patches)
    for row in range(max(cluster_sizes)):
        for column in range(max(cluster_sizes)):
            # As in the original, a cluster at the end of a row runs on into the next row.
            offset = columns * row + column
            if offset < num_patches:
                reached = F.pad(rank[:, : num_patches - offset], (offset, 0), value=num_patches)
                in_cluster = size > max(row, column)
                covered_at = torch.minimum(covered_at, torch.where(in_cluster, reached, num_patches))
    covered_at[:, 0] = num_patches
    # The cluster that brings the count above `num_masked_patches` is the last; where only patch 0 is left over, all count.
    last = covered_at.sort(dim=1).values[:, num_masked_patches, None].clamp(max=num_patches - 1)
    covered = covered_at <= last
    return covered & (covered.cumsum(dim=1) <= num_masked_patches)


def mean_over_masked(values: torch.Tensor, bool_masked_pos: torch.Tensor) -> torch.Tensor:
    """Mean over each clip's masked patches, then over clips; both arguments `(batch_size, patches)`."""
    return (torch.where(bool_masked_pos, values, 0).sum(dim=1) / bool_masked_pos.sum(dim=1)).mean()


def discriminative_loss(
    patches: torch.Tensor, predictions: torch.Tensor, bool_masked_pos: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Contrastive loss and accuracy among the masked patches of each clip (SSAST, arXiv 2110.09784, section 2.3).

    Args:
        patches (`torch.Tensor` of shape `(batch_size, patches, patch values)`): The true patches.
        predictions (`torch.Tensor` of shape `(batch_size, patches, patch values)`): The predictions for them.
        bool_masked_pos (`torch.BoolTensor` of shape `(batch_size, patches)`): The mask.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: the loss and the accuracy, both scalars.
    """
    scores = patches @ predictions.transpose(1, 2)
    is_pair_masked = bool_masked_pos[:, :, None] & bool_masked_pos[:, None, :]
    scores = scores.masked_fill(~is_pair_masked, torch.finfo(scores.dtype).min)
    log_probabilities = scores.log_softmax(dim=2)
    nce = -mean_over_masked(log_probabilities.diagonal(dim1=1, dim2=2), bool_masked_pos)
    # As in the original, the best TRUE patch for each prediction, of probabilities normalised the other way.
    best = log_probabilities.masked_fill(~is_pair_masked, -torch.inf).argmax(dim=1)
    is_right = best == torch.arange(scores.shape[1], device=scores.device)
    return nce, mean_over_masked(is_right.to(scores.dtype), bool_masked_pos)


def generative_loss(patches: torch.Tensor, predictions: torch.Tensor, bool_masked_pos: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the masked patches; arguments as in [`discriminative_loss`]."""
    return mean_over_masked((predictions - patches).square().mean(dim=2), bool_masked_pos)


@dataclass
class MaskedPatchModelingOutput(ModelOutput):
    """
    Output of masked spectrogram patch modelling. Patches are frequency-major, their values rows of mel bins, flattened.

    Args:
        loss (`torch.Tensor` of shape `()`):
            `nce + generative_loss_weight * mse`.
        nce (`torch.Tensor` of shape `()`):
            Contrastive loss: which true patch belongs to which prediction, among the masked ones of the same clip.
        mse (`torch.Tensor` of shape `()`):
            Mean squared error of the reconstructed masked patches.
        accuracy (`torch.Tensor` of shape `()`):
            Share of predictions whose best match among the clip's true masked patches is the right one.
        discriminative_predictions (`torch.Tensor` of shape `(batch_size, patches, patch values)`):
            Predictions for the contrastive loss; those of unmasked patches are not trained.
        generative_predictions (`torch.Tensor` of shape `(batch_size, patches, patch values)`):
            Reconstructed patches; those of unmasked patches are not trained.
        mask (`torch.LongTensor` of shape `(batch_size, patches)`):
            1 where a patch was masked, 0 elsewhere.
        hidden_states (`tuple[torch.Tensor]`, *optional*):
            As in the encoder.
        attentions (`tuple[torch.Tensor]`, *optional*):
            As in the encoder, if it attends.
    """

    loss: torch.Tensor | None = None
    nce: torch.Tensor | None = None
    mse: torch.Tensor | None = None
    accuracy: torch.Tensor | None = None
    discriminative_predictions: torch.Tensor | None = None
    generative_predictions: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class PatchPredictionHead(nn.Module):
    """Two-layer perceptron from a token to the values of its patch."""

    def __init__(self, config: PatchEncoderConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.act = nn.ReLU()
        self.decoder = nn.Linear(config.hidden_size, math.prod(config.patch_shape))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """From tokens `(..., hidden_size)` to `(..., patch values)`."""
        return self.decoder(self.act(self.dense(hidden_states)))


class PatchEncoderForPreTraining:
    """
    An encoder of patches with the heads of masked spectrogram patch modelling, to be mixed in before the encoder's
    [`PreTrainedModel`]: joint discriminative and generative objective (arXiv 2405.11831, section 3.3), with one mask and
    one pass of the encoder for both, as in the paper's algorithm. Subclasses name the `encoder_class`, which takes
    `use_mask_token`.
    """

    encoder_class: type[PreTrainedModel]

    def __init__(self, config: PatchEncoderConfig):
        super().__init__(config)
        setattr(self, self.base_model_prefix, self.encoder_class(config, use_mask_token=True))
        self.discriminative_head = PatchPredictionHead(config)
        self.generative_head = PatchPredictionHead(config)
        self.post_init()

    def patchify(self, input_values: torch.Tensor) -> torch.Tensor:
        """
        Cuts a spectrogram `(batch_size, frames, num_mel_bins)` into its true patches `(batch_size, patches, patch
        values)`, frequency-major; a patch's values are rows of mel bins.
        """
        config = self.config
        patches = F.unfold(
            input_values.transpose(1, 2).unsqueeze(1),
            kernel_size=config.patch_shape,
            stride=(config.frequency_stride, config.time_stride),
        )
        return patches.transpose(1, 2)

    def unpatchify(self, patches: torch.Tensor, num_frames: int) -> torch.Tensor:
        """
        Puts patches `(batch_size, patches, patch values)` back into spectrograms `(batch_size, num_frames,
        num_mel_bins)`; where patches overlap, to their mean, and where none reaches, to zero.
        """
        config = self.config

        def fold(values: torch.Tensor) -> torch.Tensor:
            return F.fold(
                values.transpose(1, 2),
                output_size=(config.num_mel_bins, num_frames),
                kernel_size=config.patch_shape,
                stride=(config.frequency_stride, config.time_stride),
            )

        counts = fold(torch.ones_like(patches[:1])).clamp(min=1)
        return (fold(patches) / counts).squeeze(1).transpose(1, 2)

    def draw_mask(self, input_values: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """
        Draws `bool_masked_pos` for a batch of spectrograms from torch's generator, each clip's on its own grid; see
        [`draw_patch_mask`].

        Raises:
            `ValueError`: In `torch.export` of a model for any length.
        """
        batch_size, num_frames = input_values.shape[:2]
        if is_written_down() and isinstance(num_frames, torch.SymInt):
            raise ValueError(
                "`bool_masked_pos` must be given in `torch.export` with an open number of frames, got None: the number of masked "
                "patches follows from the length."
            )
        rows, num_columns = self.config.patch_grid(num_frames)
        bool_masked_pos = torch.zeros(batch_size, rows, num_columns, dtype=torch.bool, device=input_values.device)
        for columns, clips in group_clips(input_values, attention_mask, self.config).items():
            mask = draw_patch_mask(
                len(clips),
                (rows, columns),
                self.config.num_masked_patches or usual_num_masked_patches((rows, columns)),
                cluster_sizes=self.config.mask_cluster_sizes,
                device=input_values.device,
            )
            bool_masked_pos[clips, :, :columns] = mask.unflatten(1, (rows, columns))
        return bool_masked_pos.flatten(1)

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        bool_masked_pos: torch.Tensor | None = None,
        return_loss: bool = True,
        **kwargs: Unpack[TransformersKwargs],
    ) -> MaskedPatchModelingOutput:
        r"""
        Args:
            input_values (`torch.Tensor` of shape `(batch_size, frames, num_mel_bins)`):
                Normalised log-mel spectrogram from the feature extractor.
            attention_mask (`torch.Tensor` of shape `(batch_size, frames)`, *optional*):
                Ones, then zeros at the padded frames of shorter clips, see the encoder.
            bool_masked_pos (`torch.BoolTensor` of shape `(batch_size, patches)`, *optional*):
                Patches to mask, on the batch's grid, frequency-major, at least one of each clip's own; drawn with
                [`draw_mask`] if not given.
            return_loss (`bool`, *optional*, defaults to `True`):
                Whether to compute the losses and the accuracy.

        Returns:
            [`MaskedPatchModelingOutput`]
        """
        if input_values is None:
            raise ValueError(
                "`input_values` must be given: a spectrogram (batch_size, frames, num_mel_bins), got None."
            )
        check_tensors(input_values=input_values, attention_mask=attention_mask, bool_masked_pos=bool_masked_pos)
        check_spectrograms(input_values, self.config)
        if bool_masked_pos is None:
            bool_masked_pos = self.draw_mask(input_values, attention_mask)
        else:
            bool_masked_pos = bool_masked_pos.to(device=input_values.device, dtype=torch.bool)

        outputs = self.base_model(
            input_values,
            attention_mask=attention_mask,
            bool_masked_pos=bool_masked_pos,
            **{**kwargs, "return_dict": True},
        )
        if outputs.patch_attention_mask is not None:
            bool_masked_pos = bool_masked_pos & outputs.patch_attention_mask
        # Reading the mask would break the graph of a compiled or exported model.
        if not torch.compiler.is_compiling() and not bool_masked_pos.any(dim=1).all():
            raise ValueError(
                "`bool_masked_pos` must mask at least one patch of each clip that patchout does not leave out, got a clip "
                "with none."
            )
        tokens = outputs.last_hidden_state[:, self.config.num_prefix_tokens :]
        discriminative_predictions = self.discriminative_head(tokens)
        generative_predictions = self.generative_head(tokens)

        loss = nce = mse = accuracy = None
        if return_loss:
            patches = self.patchify(input_values.float())
            nce, accuracy = discriminative_loss(patches, discriminative_predictions.float(), bool_masked_pos)
            mse = generative_loss(patches, generative_predictions.float(), bool_masked_pos)
            loss = nce + self.config.generative_loss_weight * mse
        return MaskedPatchModelingOutput(
            loss=loss,
            nce=nce,
            mse=mse,
            accuracy=accuracy,
            discriminative_predictions=discriminative_predictions,
            generative_predictions=generative_predictions,
            mask=bool_masked_pos.long(),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )
