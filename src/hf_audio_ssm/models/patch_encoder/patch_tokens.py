# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Spectrogram patches as tokens: grid, embeddings and positions, for any encoder of patches."""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init

from .configuration_patch_encoder import PatchEncoderConfig
from .initialized_module import InitializedModule


def adapt_position_embeddings(
    position_embeddings: torch.Tensor, stored_grid: tuple[int, int], grid: tuple[int, int]
) -> torch.Tensor:
    """
    Fits stored position embeddings to another grid of patches by the rule of the original: an axis that becomes shorter
    keeps its centre, one that becomes longer is interpolated bilinearly; prefix tokens ([CLS]) keep their own entries.

    Args:
        position_embeddings (`torch.Tensor` of shape `(1, prefix tokens + stored rows * stored columns, hidden_size)`):
            Stored embeddings, prefix tokens first, then frequency-major.
        stored_grid (`tuple[int, int]`): Stored rows and columns (frequency, time).
        grid (`tuple[int, int]`): Wanted rows and columns.

    Returns:
        `torch.Tensor` of shape `(1, prefix tokens + rows * columns, hidden_size)`.
    """
    if tuple(stored_grid) == tuple(grid):
        return position_embeddings
    (stored_rows, stored_columns), (rows, columns) = stored_grid, grid
    num_prefix_tokens = position_embeddings.shape[1] - stored_rows * stored_columns
    prefix, patches = position_embeddings[:, :num_prefix_tokens], position_embeddings[:, num_prefix_tokens:]
    patches = patches.transpose(1, 2).unflatten(2, (stored_rows, stored_columns))
    if columns < stored_columns:
        patches = patches.narrow(3, stored_columns // 2 - columns // 2, columns)
    elif columns > stored_columns:
        patches = F.interpolate(patches, size=(stored_rows, columns), mode="bilinear", align_corners=False)
    if rows < stored_rows:
        patches = patches.narrow(2, stored_rows // 2 - rows // 2, rows)
    elif rows > stored_rows:
        patches = F.interpolate(patches, size=(rows, columns), mode="bilinear", align_corners=False)
    return torch.cat((prefix, patches.flatten(2).transpose(1, 2)), dim=1)


def check_tensors(**tensors: torch.Tensor | None) -> None:
    """Refuses arguments that are given and are not tensors."""
    for name, value in tensors.items():
        if value is not None and not isinstance(value, torch.Tensor):
            raise TypeError(
                f"`{name}` must be a torch tensor, got {type(value).__name__}; feature extractors give tensors with"
                ' `return_tensors="pt"`.'
            )


def check_spectrograms(input_values: torch.Tensor, config: PatchEncoderConfig) -> None:
    """Refuses what an encoder cannot read: other shapes, lengths below one patch, integers."""
    if input_values.ndim != 3 or input_values.shape[2] != config.num_mel_bins:
        raise ValueError(
            f"`input_values` must have the shape (batch_size, frames, num_mel_bins={config.num_mel_bins}), got "
            f"{tuple(input_values.shape)}."
        )
    if input_values.shape[0] < 1:
        raise ValueError(f"`input_values` must hold at least one clip, got the shape {tuple(input_values.shape)}.")
    if input_values.shape[1] < config.patch_shape[1]:
        raise ValueError(
            f"`input_values` must have at least {config.patch_shape[1]} frames, the length of one patch, got "
            f"{input_values.shape[1]}."
        )
    if not input_values.is_floating_point():
        raise TypeError(f"`input_values` must be a floating-point spectrogram, got {input_values.dtype}.")


def check_masked_positions(bool_masked_pos: torch.Tensor | None, patches_shape: tuple[int, int]) -> None:
    """Refuses a mask that does not have the shape `(batch_size, patches)`."""
    if bool_masked_pos is not None and bool_masked_pos.shape != patches_shape:
        raise ValueError(
            f"`bool_masked_pos` must have the shape (batch_size, patches) = {tuple(patches_shape)}, got "
            f"{tuple(bool_masked_pos.shape)}."
        )


class PatchEmbeddings(nn.Module):
    """Spectrogram `(batch_size, frames, num_mel_bins)` to patch embeddings `(batch_size, patches, hidden_size)`."""

    def __init__(self, config: PatchEncoderConfig):
        super().__init__()
        self.config = config
        self.projection = nn.Conv2d(
            1,
            config.hidden_size,
            kernel_size=config.patch_shape,
            stride=(config.frequency_stride, config.time_stride),
        )

    def forward(self, input_values: torch.Tensor) -> torch.Tensor:
        """
        The patches, frequency-major, without positions.

        Raises:
            `ValueError`: If the spectrogram has another number of bins, or is shorter than a patch.
        """
        check_spectrograms(input_values, self.config)
        spectrogram = input_values.to(self.projection.weight.dtype).transpose(1, 2)
        # Frequency-major: token = row * columns + column.
        return self.projection(spectrogram.unsqueeze(1)).flatten(2).transpose(1, 2)


class PatchTokenEmbeddings(InitializedModule):
    """
    Patch embeddings, masked where asked, with the prefix tokens in front and position embeddings added.

    Encoders with more prefix tokens than [CLS] say so in `config.num_prefix_tokens` and extend [`prefix_tokens`].
    """

    def __init__(self, config: PatchEncoderConfig, use_mask_token: bool = False):
        super().__init__()
        self.config = config
        rows, columns = config.position_grid
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.hidden_size))
        self.mask_token = nn.Parameter(torch.empty(1, 1, config.hidden_size)) if use_mask_token else None
        self.position_embeddings = nn.Parameter(
            torch.empty(1, config.num_prefix_tokens + rows * columns, config.hidden_size)
        )
        self.patch_embeddings = PatchEmbeddings(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def prefix_tokens(self) -> torch.Tensor:
        """The tokens before the patches, `(1, prefix tokens, hidden_size)`."""
        return self.cls_token

    def initialize(self) -> None:
        """Initialises tokens and positions as the original does."""
        init.trunc_normal_(self.cls_token, std=self.config.initializer_range)
        init.trunc_normal_(self.position_embeddings, std=self.config.initializer_range)
        if self.mask_token is not None:
            init.xavier_normal_(self.mask_token)

    def forward(self, input_values: torch.Tensor, bool_masked_pos: torch.Tensor | None = None) -> torch.Tensor:
        """
        Embeds spectrograms.

        Args:
            input_values (`torch.Tensor` of shape `(batch_size, frames, num_mel_bins)`): The spectrograms.
            bool_masked_pos (`torch.BoolTensor` of shape `(batch_size, patches)`, *optional*): Patches to mask.

        Returns:
            `torch.Tensor` of shape `(batch_size, prefix tokens + patches, hidden_size)`.

        Raises:
            `ValueError`: If there is no mask token, or a shape does not fit.
        """
        embeddings = self.patch_embeddings(input_values)
        if bool_masked_pos is not None:
            if self.mask_token is None:
                raise ValueError("`bool_masked_pos` needs a model made with `use_mask_token=True`.")
            check_masked_positions(bool_masked_pos, embeddings.shape[:2])
            mask = bool_masked_pos.to(device=embeddings.device, dtype=torch.bool)
            embeddings = torch.where(mask[..., None], self.mask_token.to(embeddings.dtype), embeddings)
        position_embeddings = adapt_position_embeddings(
            self.position_embeddings,
            tuple(self.config.position_grid),
            self.config.patch_grid(input_values.shape[1]),
        )
        prefix = self.prefix_tokens().expand(embeddings.shape[0], -1, -1)
        embeddings = torch.cat((prefix, embeddings), dim=1)
        return self.dropout(embeddings + position_embeddings)


def pool_tokens(
    hidden_states: torch.Tensor, config: PatchEncoderConfig, patch_attention_mask: torch.Tensor | None = None
) -> torch.Tensor:
    """
    One vector for each clip: the mean of its patch tokens, or (`config.pooling` "cls") of the prefix tokens.

    Args:
        hidden_states (`torch.Tensor` of shape `(batch_size, prefix tokens + patches, hidden_size)`): The final tokens.
        config (`PatchEncoderConfig`): The encoder's configuration.
        patch_attention_mask (`torch.BoolTensor` of shape `(batch_size, patches)`, *optional*):
            True for the patches that count, where these are not all.

    Returns:
        `torch.Tensor` of shape `(batch_size, hidden_size)`.
    """
    if config.pooling == "cls":
        return hidden_states[:, : config.num_prefix_tokens].mean(dim=1)
    return mean_patch_token(hidden_states[:, config.num_prefix_tokens :], patch_attention_mask)


def mean_patch_token(patches: torch.Tensor, patch_attention_mask: torch.Tensor | None = None) -> torch.Tensor:
    """The mean `(batch_size, hidden_size)` of patch tokens `(batch_size, patches, hidden_size)`, or of some of them."""
    if patch_attention_mask is None:
        return patches.mean(dim=1)
    counted = torch.where(patch_attention_mask[..., None], patches, 0).sum(dim=1)
    return counted / patch_attention_mask.sum(dim=1, keepdim=True)
