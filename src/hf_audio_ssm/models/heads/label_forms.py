# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Labels in all forms that data sets have: any integers, floats, an extra axis; and what problem they pose."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers.configuration_utils import PreTrainedConfig


SINGLE_LABEL, MULTI_LABEL, REGRESSION = "single_label_classification", "multi_label_classification", "regression"


def read_clip_labels(
    labels: torch.Tensor, problem_type: str | None, num_labels: int, batch_size: int
) -> tuple[torch.Tensor, str]:
    """
    Checks the labels of clips.

    Args:
        labels (`torch.Tensor`): The labels.
        problem_type (`str`, *optional*): The configuration's; without one, `num_labels` and the labels decide.
        num_labels (`int`): The classes, or the numbers of a regression.
        batch_size (`int`): The clips.

    Returns:
        `tuple[torch.Tensor, str]`: the labels, class indices as int64 of shape `(batch_size,)`; and the problem's type.

    Raises:
        `ValueError`: for labels of another shape or type.
    """
    is_index = not labels.is_floating_point() and not labels.is_complex()
    by_clip, by_class = labels.shape in ((batch_size,), (batch_size, 1)), labels.shape == (batch_size, num_labels)
    if problem_type is None:
        kind = SINGLE_LABEL if is_index and labels.shape[1:] in ((), (1,)) else MULTI_LABEL
        problem_type = kind if num_labels > 1 else REGRESSION
    if problem_type == SINGLE_LABEL:
        if is_index and by_clip and num_labels > 1:
            return labels.flatten().long(), problem_type
        allowed = f"class indices, integers of shape ({batch_size},), or shares of the classes of shape"
    else:
        if by_clip and num_labels == 1:
            # A regression squeezes both.
            by_class, labels = True, labels.view(batch_size, 1)
        allowed = f"{'numbers' if problem_type == REGRESSION else 'zeros and ones'} of shape"
    if not by_class or labels.is_complex():
        raise ValueError(
            f"`labels` must be {allowed} ({batch_size}, {num_labels}) for {problem_type}, got {labels.dtype} of shape"
            f" {tuple(labels.shape)}."
        )
    return labels, problem_type


def read_step_labels(
    labels: torch.Tensor, problem_type: str | None, logits_shape: torch.Size
) -> tuple[torch.Tensor, str]:
    """
    Checks the labels of time steps.

    Args:
        labels (`torch.Tensor`): The labels.
        problem_type (`str`, *optional*): The configuration's; without one, the labels' shape decides.
        logits_shape (`torch.Size`): Clips, time steps and classes.

    Returns:
        `tuple[torch.Tensor, str]`: the labels, class indices as int64, zeros and ones as float32; and the problem's type.

    Raises:
        `ValueError`: for labels of another shape or type, and for regression.
    """
    if problem_type is None:
        problem_type = SINGLE_LABEL if labels.ndim == 2 else MULTI_LABEL
    if problem_type == REGRESSION:
        raise ValueError(
            "`problem_type` must be single_label_classification or multi_label_classification for labels along time, got "
            "'regression'."
        )
    expected = logits_shape[:2] if problem_type == SINGLE_LABEL else logits_shape
    if labels.shape != expected:
        raise ValueError(
            f"`labels` must have the shape {tuple(expected)} for {problem_type} of {logits_shape[1]} time steps, got "
            f"{tuple(labels.shape)}."
        )
    if problem_type == SINGLE_LABEL and (labels.is_floating_point() or labels.is_complex()):
        raise ValueError(f"`labels` must be class indices, integers, for {problem_type}, got {labels.dtype}.")
    # Before -100 is written into them, which unsigned integers and booleans do not hold.
    return labels.long() if problem_type == SINGLE_LABEL else labels.float(), problem_type


@contextmanager
def deciding(config: PreTrainedConfig, problem_type: str, num_labels: int) -> Iterator[None]:
    """Within, and after success, the configuration has the problem's type. Class indices out of range are told as such."""
    before = config.problem_type
    config.problem_type = problem_type
    try:
        yield
    except BaseException as error:
        config.problem_type = before
        if isinstance(error, IndexError):
            allowed = f"class indices from 0 to {num_labels - 1}, or -100 for none"
            raise ValueError(f"`labels` must be {allowed}: {error}") from error
        raise


__all__ = ["MULTI_LABEL", "REGRESSION", "SINGLE_LABEL", "deciding", "read_clip_labels", "read_step_labels"]
