# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Clips of different lengths without padding, for any encoder of patches.

A batch with an attention mask is padded at the end of its clips. The encoder reads each clip's own patches only, with
positions for its own length, as if the clip came alone. A clip that is shorter than a patch is padded to one. Clips of the
same number of patch columns form a group, and the groups lie one after the other in one packed sequence. Functions of single
tokens run on the packed sequence; functions that mix tokens run group by group, see [`map_clips`].

Outputs are put back into the batch's grid: row r, column c of a clip is token `prefix + r * columns + c`, where `columns`
are those of the whole batch, whatever the clip's own length. Tokens in columns after a clip's end are zeros.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from .configuration_patch_encoder import PatchEncoderConfig
from .patch_tokens import PatchTokenEmbeddings, check_masked_positions


@dataclass
class PatchEncoderOutput(BaseModelOutputWithPooling):
    """
    Output of an encoder of patches.

    Args:
        patch_attention_mask (`torch.BoolTensor` of shape `(batch_size, patches)`, *optional*):
            True for the patches that the encoder read, frequency-major; the tokens of all others are zeros. `None` where
            it read all.
        kwargs:
            As in transformers' [`BaseModelOutputWithPooling`].
    """

    patch_attention_mask: torch.Tensor | None = None


@dataclass(frozen=True)
class Packing:
    """
    Where packed tokens belong in their batch.

    Args:
        clip_shapes (`tuple[tuple[int, int], ...]`, *optional*):
            Clips, and tokens of each, of every group in the packed sequence `(1, packed tokens, hidden_size)`. `None` for
            a single group, which is an ordinary batch of shorter clips.
        positions (`torch.LongTensor` of shape `(packed tokens,)`):
            The packed tokens' places in the batch, flattened.
        batch_shape (`tuple[int, int]`):
            Clips, and tokens of each, of the batch.
        num_prefix_tokens (`int`):
            Tokens before the patches.
    """

    clip_shapes: tuple[tuple[int, int], ...] | None
    positions: torch.Tensor
    batch_shape: tuple[int, int]
    num_prefix_tokens: int

    @property
    def attention_mask(self) -> torch.Tensor:
        """True for the tokens that are packed, `(batch_size, tokens)`."""
        mask = torch.zeros(self.batch_shape, dtype=torch.bool, device=self.positions.device)
        mask.view(-1)[self.positions] = True
        return mask

    def unpack(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Packed tokens in their batch `(batch_size, tokens, hidden_size)`, zeros for all others."""
        clips, tokens = self.batch_shape
        batch = hidden_states.new_zeros(clips * tokens, hidden_states.shape[2])
        return batch.index_copy(0, self.positions, hidden_states.flatten(0, 1)).unflatten(0, self.batch_shape)

    def unpack_outputs(self, outputs: PatchEncoderOutput) -> PatchEncoderOutput:
        """The packed tokens of an encoder's outputs in their batch."""
        return self._map_outputs(self.unpack, outputs)

    def blank_outputs(self, outputs: PatchEncoderOutput) -> PatchEncoderOutput:
        """The outputs of an encoder that ran on the batch, with zeros for the tokens that clips do not have."""
        mask = self.attention_mask[..., None]
        return self._map_outputs(lambda hidden_states: hidden_states.masked_fill(~mask, 0), outputs)

    def _map_outputs(
        self, function: Callable[[torch.Tensor], torch.Tensor], outputs: PatchEncoderOutput
    ) -> PatchEncoderOutput:
        outputs.last_hidden_state = function(outputs.last_hidden_state)
        if outputs.hidden_states is not None:
            # Those that were not asked for are None.
            outputs.hidden_states = tuple(
                None if state is None else function(state) for state in outputs.hidden_states
            )
        outputs.patch_attention_mask = self.attention_mask[:, self.num_prefix_tokens :]
        return outputs


def map_clips(
    function: Callable[[torch.Tensor], torch.Tensor],
    hidden_states: torch.Tensor,
    clip_shapes: Sequence[tuple[int, int]] | None = None,
) -> torch.Tensor:
    """
    Applies a function that mixes the tokens of a clip, or treats clips by themselves.

    Args:
        function (`Callable`): From `(clips, tokens, features)` to the same with any number of features.
        hidden_states (`torch.Tensor` of shape `(batch_size, tokens, features)`):
            A batch of clips of the same length or, with `clip_shapes`, a packed sequence `(1, packed tokens, features)`.
        clip_shapes (`Sequence[tuple[int, int]]`, *optional*): The groups of a packed sequence, see [`Packing`].

    Returns:
        `torch.Tensor` in the layout of `hidden_states`.
    """
    if clip_shapes is None:
        return function(hidden_states)
    groups = hidden_states.split([clips * tokens for clips, tokens in clip_shapes], dim=1)
    outputs = [
        function(group.unflatten(1, shape).squeeze(0)).flatten(0, 1)
        for group, shape in zip(groups, clip_shapes, strict=True)
    ]
    return torch.cat(outputs).unsqueeze(0)


def is_written_down() -> bool:
    """Whether `torch.export` or `torch.jit.trace` writes down what runs."""
    # New in torch 2.7.
    is_exporting = getattr(torch.compiler, "is_exporting", None)
    return torch.jit.is_tracing() or (is_exporting is not None and is_exporting())


def group_clips(
    input_values: torch.Tensor, attention_mask: torch.Tensor | None, config: PatchEncoderConfig
) -> dict[int, list[int]]:
    """
    The clips of each number of patch columns, in ascending order.

    Args:
        input_values (`torch.Tensor` of shape `(batch_size, frames, num_mel_bins)`): The spectrograms.
        attention_mask (`torch.Tensor` of shape `(batch_size, frames)`, *optional*): Ones, then zeros at padded frames.
        config (`PatchEncoderConfig`): The encoder's configuration.

    Returns:
        `dict[int, list[int]]`: the clips' indices, by columns; without a mask, all clips have the batch's.

    Raises:
        `ValueError`: for a mask of another shape, with anything but ones and then zeros, or with no ones for a clip, and for
        spectrograms that are shorter than a patch. Also for any mask in `torch.export` and `torch.jit.trace`.
    """
    if attention_mask is None:
        return {config.patch_grid(input_values.shape[1])[1]: list(range(input_values.shape[0]))}
    if is_written_down():
        raise ValueError(
            "`attention_mask` must be None in `torch.export` and `torch.jit.trace`, got a mask: the lengths of the clips decide "
            "which operators run. Give the graph clips of one length."
        )
    if attention_mask.shape != input_values.shape[:2]:
        raise ValueError(
            f"`attention_mask` must have the shape (batch_size, frames) = {tuple(input_values.shape[:2])}, got "
            f"{tuple(attention_mask.shape)}."
        )
    frames = (attention_mask != 0).sum(dim=1)
    expected = torch.arange(input_values.shape[1], device=attention_mask.device) < frames[:, None]
    is_right = (attention_mask == expected.to(attention_mask.dtype)).all(dim=1)
    frames, is_right = torch.stack((frames, is_right.to(frames.dtype))).tolist()
    for clip in range(len(frames)):
        if not is_right[clip]:
            raise ValueError(
                f"`attention_mask` must hold ones for a clip's frames and zeros for the padding after them; "
                f"attention_mask[{clip}] has other values, or padding before frames."
            )
        if not frames[clip] or input_values.shape[1] < config.patch_shape[1]:
            raise ValueError(
                f"`attention_mask` must leave each clip at least one frame, and `input_values` must have at least "
                f"{config.patch_shape[1]}, the length of one patch; attention_mask[{clip}] leaves {frames[clip]} of "
                f"{input_values.shape[1]}."
            )
    groups: dict[int, list[int]] = {}
    for clip in sorted(range(len(frames)), key=frames.__getitem__):
        groups.setdefault(config.patch_grid(max(frames[clip], config.patch_shape[1]))[1], []).append(clip)
    return groups


def pack_tokens(
    embeddings: PatchTokenEmbeddings,
    input_values: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    bool_masked_pos: torch.Tensor | None = None,
) -> tuple[torch.Tensor, Packing | None]:
    """
    Embeds the patches of each clip's own frames; in training without those that patchout leaves out.

    Args:
        embeddings ([`PatchTokenEmbeddings`]): Embeds clips of the same length.
        input_values, attention_mask, bool_masked_pos: As in an encoder's `forward`.

    Returns:
        `tuple[torch.Tensor, Packing | None]`: the tokens `(batch_size, tokens, hidden_size)` and `None` where nothing is
        padded or left out; else packed tokens, and where they belong.

    Raises:
        `ValueError`: see [`group_clips`].
    """
    config = embeddings.config
    leaves_out = embeddings.training and max(config.frequency_patchout, config.time_patchout, config.patchout) > 0
    if attention_mask is None and not leaves_out:
        return embeddings(input_values, bool_masked_pos), None
    groups = group_clips(input_values, attention_mask, config)
    batch_size, num_frames = input_values.shape[:2]
    grid = config.patch_grid(num_frames)
    if not leaves_out and all(columns == grid[1] for columns in groups):
        return embeddings(input_values, bool_masked_pos), None
    batch_shape = (batch_size, config.num_prefix_tokens + grid[0] * grid[1])
    check_masked_positions(bool_masked_pos, (batch_size, grid[0] * grid[1]))

    positions = torch.arange(batch_shape[0] * batch_shape[1], device=input_values.device).view(batch_shape)
    prefix, patches = positions.tensor_split((config.num_prefix_tokens,), dim=1)
    tokens, packed_positions = [], []
    for columns, clips in groups.items():
        frames = (columns - 1) * config.time_stride + config.patch_shape[1]
        mask = None if bool_masked_pos is None else cut_columns(bool_masked_pos[clips], grid, columns)
        group = embeddings(input_values[clips, :frames], mask)
        group_positions = torch.cat((prefix[clips], cut_columns(patches[clips], grid, columns)), dim=1)
        if leaves_out:
            kept = draw_patchout(len(clips), (grid[0], columns), config, input_values.device)
            kept = torch.cat((prefix[:1].expand(len(clips), -1), kept + config.num_prefix_tokens), dim=1)
            group = group.gather(1, kept[..., None].expand(-1, -1, group.shape[2]))
            group_positions = group_positions.gather(1, kept)
        tokens.append(group)
        packed_positions.append(group_positions.flatten())
    clip_shapes = None if len(tokens) == 1 else tuple(tuple(group.shape[:2]) for group in tokens)
    packing = Packing(clip_shapes, torch.cat(packed_positions), batch_shape, config.num_prefix_tokens)
    return tokens[0] if clip_shapes is None else torch.cat([g.flatten(0, 1) for g in tokens]).unsqueeze(0), packing


def draw_patchout(
    batch_size: int, grid: tuple[int, int], config: PatchEncoderConfig, device: torch.device | None = None
) -> torch.Tensor:
    """
    Draws the patches that patchout keeps, by the shares of `config`: as many of each clip, in their order.

    Args:
        batch_size (`int`): Number of clips.
        grid (`tuple[int, int]`): Rows and columns (frequency, time) of patches.
        config (`PatchEncoderConfig`): The encoder's configuration.
        device (`torch.device`, *optional*): Where to draw.

    Returns:
        `torch.LongTensor` of shape `(batch_size, kept patches)`, frequency-major indices; at least one.
    """

    def draw(total: int, share: float) -> torch.Tensor:
        order = torch.rand(batch_size, total, device=device).argsort(dim=1)
        return order[:, : _count_kept(total, share)].sort(dim=1).values

    rows, columns = draw(grid[0], config.frequency_patchout), draw(grid[1], config.time_patchout)
    patches = (rows[:, :, None] * grid[1] + columns[:, None]).flatten(1)
    return patches.gather(1, draw(patches.shape[1], config.patchout))


def count_kept_patches(grid: tuple[int, int], config: PatchEncoderConfig) -> int:
    """How many patches of a clip, of a grid (rows, columns), patchout keeps in training."""
    kept_rows, kept_columns = (
        _count_kept(grid[0], config.frequency_patchout),
        _count_kept(grid[1], config.time_patchout),
    )
    return _count_kept(kept_rows * kept_columns, config.patchout)


def _count_kept(total: int, share: float) -> int:
    return max(1, total - round(share * total))


def cut_columns(patches: torch.Tensor, grid: tuple[int, int], columns: int) -> torch.Tensor:
    """The first `columns` columns of values `(batch_size, patches)` on a grid (rows, columns), frequency-major."""
    return patches.unflatten(1, grid)[:, :, :columns].flatten(1)
