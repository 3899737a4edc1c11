# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The grid of patches of an original checkpoint: strides, mel bins and frames, as far as its tensors and a user tell them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ..models.filter_bank.feature_extraction_ssamba import NORMALIZATION_PRESETS
from .checkpoint_conversion import ConversionError, logger, shape_of
from .options import ConversionOptions


# The size of the pretraining spectrograms, in mel bins and frames; read for the configuration.
PRETRAINING_SIZES = ("p_input_fdim", "p_input_tdim")

FINE_TUNING_STRIDE = 10
PUBLISHED_LENGTHS = sorted({int(preset["max_length"]) for preset in NORMALIZATION_PRESETS.values()})


def _columns(frames: int, patch_size: tuple[int, int], stride: int) -> int:
    return (frames - patch_size[1]) // stride + 1 if frames >= patch_size[1] else 0


def _fields(strides: tuple[int, int], num_mel_bins: int, max_length: int) -> dict[str, int]:
    """The grid as fields of the configuration."""
    return {
        "frequency_stride": strides[0],
        "time_stride": strides[1],
        "num_mel_bins": num_mel_bins,
        "max_length": max_length,
    }


def _pretraining_size(state_dict: Mapping[str, torch.Tensor], name: str) -> int:
    value = state_dict.get(name)
    if value is None or value.numel() != 1 or value.is_floating_point() or value.is_complex() or value <= 0:
        found = "none" if value is None else f"{value.dtype} of shape {tuple(value.shape)}"
        raise ConversionError(f"{name} must be one positive integer, got {found}.")
    return int(value)


def infer_pretraining_grid(
    state_dict: Mapping[str, torch.Tensor],
    patch_size: tuple[int, int],
    num_prefix_tokens: int,
    options: ConversionOptions,
) -> dict[str, int]:
    """
    Strides and spectrogram size of a pretraining checkpoint, which records the latter; patches do not overlap.

    Args:
        state_dict (`Mapping[str, torch.Tensor]`): The checkpoint, by original names.
        patch_size (`tuple[int, int]`): Mel bins and frames of a patch.
        num_prefix_tokens (`int`): Tokens before those of the patches.
        options ([`ConversionOptions`]): What the user says of strides, frames and mel bins.

    Returns:
        `dict[str, int]`: `frequency_stride`, `time_stride`, `num_mel_bins` and `max_length`.

    Raises:
        [`ConversionError`]: If an option or the position embeddings contradict that.
    """
    sizes = [_pretraining_size(state_dict, name) for name in PRETRAINING_SIZES]
    for argument, size, name in zip(("num_mel_bins", "max_length"), sizes, PRETRAINING_SIZES, strict=True):
        if getattr(options, argument) not in (None, size):
            raise ConversionError(f"{options.given(argument)} contradicts the checkpoint, whose {name} is {size}.")
    strides = (options.frequency_stride or patch_size[0], options.time_stride or patch_size[1])
    if any(size < patch for size, patch in zip(sizes, patch_size, strict=True)):
        raise ConversionError(f"patches of {patch_size} are larger than the pretraining spectrogram of {sizes}.")
    grid = [(size - patch) // stride + 1 for size, patch, stride in zip(sizes, patch_size, strides, strict=True)]
    positions = shape_of(state_dict, "v.pos_embed", 3)[1] - num_prefix_tokens
    if math.prod(grid) != positions:
        given = options.given("frequency_stride", "time_stride")
        raise ConversionError(
            f"{f'{given} contradicts' if given else 'strides equal to the patches contradict'} the checkpoint: "
            f"v.pos_embed holds {positions} patch positions, but a spectrogram of {sizes[0]} mel bins x {sizes[1]} "
            f"frames (p_input_fdim, p_input_tdim) has {grid[0]} x {grid[1]} = {math.prod(grid)} patches of "
            f"{patch_size[0]} x {patch_size[1]} at strides {strides[0]}, {strides[1]}."
        )
    return _fields(strides, *sizes)


@dataclass(frozen=True)
class _Fit:
    """Strides that make the number of positions of a checkpoint, and the grid that they make."""

    strides: tuple[int, int]
    rows: int
    columns: int


def _candidate_strides(
    patch_size: tuple[int, int], num_mel_bins: int, options: ConversionOptions
) -> list[tuple[int, int]]:
    """The strides of the original's recipes, most likely first, with those that the user gives in their place."""
    recipes = [patch_size]
    if patch_size[0] == num_mel_bins:
        recipes.insert(0, (patch_size[0], 1))
    elif min(patch_size) > FINE_TUNING_STRIDE:
        recipes.insert(0, (FINE_TUNING_STRIDE, FINE_TUNING_STRIDE))
    given = (options.frequency_stride, options.time_stride)
    # A given stride points to its recipe: the other stride is then that recipe's, too, where it fits.
    recipes.sort(key=lambda recipe: (given[0] not in (None, recipe[0]), given[1] not in (None, recipe[1])))
    return list(dict.fromkeys((given[0] or recipe[0], given[1] or recipe[1]) for recipe in recipes))


def _fitting_strides(
    positions: int, patch_size: tuple[int, int], num_mel_bins: int, options: ConversionOptions
) -> list[_Fit]:
    """The candidates that make `positions`, most likely first; an error says what the others make, if none does."""
    fitting, misfits = [], []
    for strides in _candidate_strides(patch_size, num_mel_bins, options):
        rows = (num_mel_bins - patch_size[0]) // strides[0] + 1
        columns = _columns(options.max_length, patch_size, strides[1]) if options.max_length else positions // rows
        if rows * columns == positions:
            fitting.append(_Fit(strides, rows, columns))
        else:
            shape = f"{rows} x {columns} = {rows * columns}" if options.max_length else f"rows of {rows}"
            misfits.append(f"strides {strides[0]}, {strides[1]} make {shape}")
    if not fitting:
        given = options.given("frequency_stride", "time_stride", "max_length", "num_mel_bins")
        raise ConversionError(
            f"{f'{given} contradicts' if given else 'the known strides contradict'} the checkpoint: v.pos_embed "
            f"holds {positions} patch positions, but with {num_mel_bins} mel bins and patches of {patch_size[0]} x "
            f"{patch_size[1]}, {' and '.join(misfits)}."
        )
    return fitting


def infer_fine_tuned_grid(
    state_dict: Mapping[str, torch.Tensor],
    patch_size: tuple[int, int],
    num_prefix_tokens: int,
    options: ConversionOptions,
) -> dict[str, int]:
    """
    Strides and spectrogram size of a fine-tuned checkpoint, which records only the number of positions.

    Strides that are not given are those of the original's recipes (10, or one frame where patches are as tall as the
    spectrogram; or the patch) that make this number. Where both do, those that fit the data set's length are taken, else
    the former. A length that is not given is the data set's, or a published one, that makes the grid, else the shortest.

    Args:
        state_dict (`Mapping[str, torch.Tensor]`): The checkpoint, by original names.
        patch_size (`tuple[int, int]`): Mel bins and frames of a patch.
        num_prefix_tokens (`int`): Tokens before those of the patches.
        options ([`ConversionOptions`]): What the user says of strides, frames, mel bins and the data set.

    Returns:
        `dict[str, int]`: `frequency_stride`, `time_stride`, `num_mel_bins` and `max_length`.

    Raises:
        [`ConversionError`]: If no grid has this number of positions.
    """
    positions = shape_of(state_dict, "v.pos_embed", 3)[1] - num_prefix_tokens
    num_mel_bins = options.num_mel_bins or 128
    if num_mel_bins < patch_size[0] or (options.max_length or patch_size[1]) < patch_size[1]:
        given = options.given("frequency_stride", "time_stride", "max_length", "num_mel_bins")
        raise ConversionError(f"{given} is less than a patch of {patch_size[0]} x {patch_size[1]} of the checkpoint.")
    fitting = _fitting_strides(positions, patch_size, num_mel_bins, options)
    lengths = PUBLISHED_LENGTHS
    if options.dataset is not None:
        lengths = [int(NORMALIZATION_PRESETS[options.dataset]["max_length"]), *lengths]
        fitting = [
            fit for fit in fitting if _columns(lengths[0], patch_size, fit.strides[1]) == fit.columns
        ] or fitting
    taken, *others = fitting
    for other in others:
        logger.warning(
            f"the {positions} positions fit strides {taken.strides[0]}, {taken.strides[1]} ({taken.rows} x "
            f"{taken.columns} patches), which are taken, as well as {other.strides[0]}, {other.strides[1]} "
            f"({other.rows} x {other.columns}); for the latter, pass --frequency_stride {other.strides[0]} "
            f"--time_stride {other.strides[1]}."
        )
    max_length = options.max_length or _infer_length(taken, patch_size, lengths)
    return _fields(taken.strides, num_mel_bins, max_length)


def _infer_length(fit: _Fit, patch_size: tuple[int, int], lengths: list[int]) -> int:
    """The first of `lengths` that makes the columns of the grid, else the shortest number of frames that does."""
    stride = fit.strides[1]
    shortest = (fit.columns - 1) * stride + patch_size[1]
    published = [length for length in lengths if _columns(length, patch_size, stride) == fit.columns]
    max_length = published[0] if published else shortest
    logger.info(
        f"--max_length was not given; {max_length} frames are taken, "
        f"{'a published length that makes' if published else 'the shortest that make'} {fit.columns} columns of patches "
        f"({shortest} to {shortest + stride - 1} do)."
    )
    return max_length
