# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Time steps of frame classification: which columns of patches belong to each, and what heads read of them."""

from dataclasses import dataclass

import torch

from ..patch_encoder.packing import PatchEncoderOutput
from .configuration_heads import HeadConfig


@dataclass
class StepFeatures:
    """
    What a head reads of each time step.

    Args:
        features (`torch.Tensor` of shape `(batch_size, steps, ...)`): A head's features of each step.
        step_attention_mask (`torch.BoolTensor` of shape `(batch_size, steps)`, *optional*):
            True for the steps that a clip has. `None` where clips do not differ.
        patch_attention_mask (`torch.BoolTensor` of shape `(batch_size, steps, patches)`, *optional*):
            True for the patches of each step, for heads that read patches.
    """

    features: torch.Tensor
    step_attention_mask: torch.Tensor | None = None
    patch_attention_mask: torch.Tensor | None = None


@dataclass
class StepClips:
    """
    Time steps as small clips, all of the same size, those of the first clip of the batch first.

    Args:
        outputs ([`PatchEncoderOutput`]):
            Prefix tokens of the clip, patches of the step's columns, their mean and their mask; hidden states likewise.
        input_values (`torch.Tensor` of shape `(batch_size * steps, frames, num_mel_bins)`): The frames of these columns.
        attention_mask (`torch.BoolTensor` of shape `(batch_size * steps, frames)`): True for the frames that count.
        step_attention_mask (`torch.BoolTensor` of shape `(batch_size, steps)`, *optional*): As of [`StepFeatures`].
    """

    outputs: PatchEncoderOutput
    input_values: torch.Tensor
    attention_mask: torch.Tensor
    step_attention_mask: torch.Tensor | None


def find_columns(
    config: HeadConfig, num_columns: int, device: torch.device | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    The columns of patches of each time step: those whose centre lies in the step. A step between the centres of two columns,
    where steps are finer than columns, takes the nearer column.

    Args:
        config (`HeadConfig`): The encoder's configuration.
        num_columns (`int`): Columns of patches.
        device (`torch.device`, *optional*): Where to put the result.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: the columns `(steps, width)`, and which of them the step has, `(steps, width)`.
    """
    step, stride, centre = config.frames_per_label, config.time_stride, config.column_centres(1)[0]
    # Columns `first` to `end` have their centres in the step, from its beginning (included) to its end.
    beginnings = torch.arange(config.num_label_steps(num_columns), device=device, dtype=torch.float64) * step
    first = ((beginnings - centre) / stride).ceil().clamp(min=0)
    end = ((beginnings + step - centre) / stride).ceil()
    # Of two columns as near, the earlier.
    nearest = ((beginnings + step / 2 - centre) / stride - 0.5).ceil().clamp(min=0)
    first, end = torch.where(end > first, first, nearest).long(), torch.where(end > first, end, nearest + 1).long()
    columns = first[:, None] + torch.arange(max(1, -(-step // stride) + 1), device=device)
    is_used = (columns < end[:, None]) & (columns < num_columns)
    return columns.clamp(max=num_columns - 1), is_used


def begin_in_clip(config: HeadConfig, is_counted: torch.Tensor, num_steps: int) -> torch.Tensor:
    """
    Which time steps a clip of a padded batch has: as alone, those that begin by the centre of its last column.

    Args:
        config (`HeadConfig`): The encoder's configuration.
        is_counted (`torch.BoolTensor` of shape `(batch_size, columns)`): True for the columns that a clip has.
        num_steps (`int`): Time steps of the batch.

    Returns:
        `torch.BoolTensor` of shape `(batch_size, num_steps)`.
    """
    columns = torch.arange(is_counted.shape[1], device=is_counted.device)
    last = torch.where(is_counted, columns, -1).amax(dim=1, keepdim=True).double()
    beginnings = torch.arange(num_steps, device=is_counted.device) * config.frames_per_label
    return beginnings <= last * config.time_stride + config.column_centres(1)[0]


def pool_steps(
    patches: torch.Tensor, config: HeadConfig, patch_attention_mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """
    Averages the tokens of each time step: of all mel rows, in the columns of [`find_columns`].

    Args:
        patches (`torch.Tensor` of shape `(batch_size, patches, hidden_size)`): The final patch tokens, frequency-major.
        config (`HeadConfig`): The encoder's configuration.
        patch_attention_mask (`torch.BoolTensor` of shape `(batch_size, patches)`, *optional*):
            True for the patches that count, where these are not all.

    Returns:
        `tuple[torch.Tensor, torch.Tensor | None]`: the means `(batch_size, steps, hidden_size)`, zeros where no patch
        counts, and which steps a clip has `(batch_size, steps)`; `None` where all patches count.
    """
    grid = (config.patch_grid()[0], -1)
    if patch_attention_mask is None:
        sums = patches.unflatten(1, grid).sum(dim=1)
        counts = torch.full(sums.shape[:2], grid[0], device=patches.device)
    else:
        sums = torch.where(patch_attention_mask[..., None], patches, 0).unflatten(1, grid).sum(dim=1)
        counts = patch_attention_mask.unflatten(1, grid).sum(dim=1)
    columns, is_used = find_columns(config, counts.shape[1], patches.device)
    step_counts = torch.where(is_used, counts[:, columns], 0).sum(dim=2)
    sums = torch.where(is_used[..., None], sums[:, columns], 0).sum(dim=2)
    means = sums / step_counts.clamp(min=1)[..., None]
    if patch_attention_mask is None:
        return means, None
    return means, begin_in_clip(config, counts > 0, len(columns)) & (step_counts > 0)


def cut_steps(
    outputs: PatchEncoderOutput,
    config: HeadConfig,
    input_values: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
) -> StepClips:
    """
    Cuts clips into their time steps, each a small clip of the columns of [`find_columns`].

    Args:
        outputs ([`PatchEncoderOutput`]): Of the encoder.
        config (`HeadConfig`): The encoder's configuration.
        input_values (`torch.Tensor` of shape `(batch_size, frames, num_mel_bins)`): What the encoder read.
        attention_mask (`torch.Tensor` of shape `(batch_size, frames)`, *optional*): What the encoder was given.

    Returns:
        [`StepClips`]
    """
    rows, num_columns = config.patch_grid(input_values.shape[1])
    columns, is_used = find_columns(config, num_columns, input_values.device)
    num_steps = len(columns)

    def cut(tokens: torch.Tensor) -> torch.Tensor:
        prefix, patches = tokens.tensor_split((config.num_prefix_tokens,), dim=1)
        patches = patches.unflatten(1, (rows, num_columns))[:, :, columns].transpose(1, 2).flatten(2, 3)
        prefix = prefix[:, None].expand(-1, num_steps, -1, -1)
        return torch.cat((prefix, patches), dim=2).flatten(0, 1)

    step_attention_mask = None
    mask = is_used[None, :, None, :].expand(len(input_values), -1, rows, -1)
    if outputs.patch_attention_mask is not None:
        counted = outputs.patch_attention_mask.unflatten(1, (rows, num_columns))
        mask = mask & counted[:, :, columns].transpose(1, 2)
        begins = begin_in_clip(config, counted.any(dim=1), num_steps)
        step_attention_mask = begins & mask.flatten(2).any(dim=2)
    frames, is_read = _find_frames(config, columns, mask.any(dim=2))
    frames = frames.clamp(max=input_values.shape[1] - 1)
    if attention_mask is not None:
        is_read = is_read & (attention_mask[:, frames] != 0)
    mask = mask.flatten(2).flatten(0, 1)
    last_hidden_state = cut(outputs.last_hidden_state)
    patches = torch.where(mask[..., None], last_hidden_state[:, config.num_prefix_tokens :], 0)
    hidden_states = outputs.hidden_states
    if hidden_states is not None:
        complete = range(0, len(hidden_states), config.layers_per_stream)
        hidden_states = tuple(cut(state) if i in complete else None for i, state in enumerate(hidden_states))
    return StepClips(
        outputs=PatchEncoderOutput(
            last_hidden_state=last_hidden_state,
            pooler_output=patches.sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1),
            hidden_states=hidden_states,
            patch_attention_mask=mask,
        ),
        input_values=input_values[:, frames].flatten(0, 1),
        attention_mask=is_read.flatten(0, 1),
        step_attention_mask=step_attention_mask,
    )


def _find_frames(
    config: HeadConfig, columns: torch.Tensor, is_counted: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    The frames that each step's columns `(steps, width)` read, `(steps, frames)`, from the first column's beginning on, and which
    of them lie before the end of the last column that counts, `(batch_size, steps, frames)`.
    """
    width, stride, count = config.patch_shape[1], config.time_stride, columns.shape[1]
    last = torch.where(is_counted, torch.arange(count, device=columns.device), -1).amax(dim=2, keepdim=True)
    offsets = torch.arange((count - 1) * stride + width, device=columns.device)
    return columns[:, :1] * stride + offsets, (last >= 0) & (offsets < last * stride + width)
