# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The windows in which the encoder reads a long recording, and the recording's spectrogram at a picture's width."""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch

from ..audio.frames import FRAMES_PER_SECOND, frames_to_seconds
from ..models.patch_encoder.configuration_patch_encoder import PatchEncoderConfig


# Peak memory of an encoder without gradients, in floats a token and hidden dimension, and in floats a value of the
# filter bank; measured, with some reserve, see docs/long_audio.md.
TOKEN_FLOATS = 24
VALUE_FLOATS = 4
BYTES_PER_FLOAT = 4
PICTURE_COLUMNS = 2048


class WindowPlan(NamedTuple):
    """
    How a recording is cut into windows.

    Args:
        length (`int`): The longest window, in frames.
        overlap (`int`): The frames that a window shares with the one before it.
    """

    length: int
    overlap: int


def count_window_frames(config: PatchEncoderConfig, max_memory: float) -> int:
    """The frames that one pass of the encoder can read within `max_memory` bytes."""
    tokens_per_frame = config.patch_grid()[0] / config.time_stride
    values = config.num_mel_bins * VALUE_FLOATS + tokens_per_frame * config.hidden_size * TOKEN_FLOATS
    return int(max_memory / (BYTES_PER_FLOAT * values))


def plan_windows(
    config: PatchEncoderConfig, max_memory: float, window_seconds: float | None, overlap_seconds: float
) -> WindowPlan:
    """
    Plans windows that begin where time steps begin, and whose time steps follow on each other.

    Args:
        config (`PatchEncoderConfig`): The model's configuration.
        max_memory (`float`): Bytes that may be used beside the model.
        window_seconds (`float`, *optional*): The longest window, if the memory allows more.
        overlap_seconds (`float`): The overlap, at most a quarter of a window, at least a patch and two of its strides.

    Raises:
        `ValueError`: If an argument is out of range, or leaves windows that are too short.
    """
    for name, value in (("max_memory", max_memory), ("window_seconds", window_seconds)):
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"`{name}` must be a positive number, got {value!r}.")
    if not 0 <= overlap_seconds < math.inf:
        raise ValueError(f"`overlap_seconds` must be zero or a positive number, got {overlap_seconds!r}.")
    step = config.frames_per_label
    window = count_window_frames(config, max_memory)
    if window_seconds is not None:
        window = min(window, round(window_seconds * FRAMES_PER_SECOND))
    window -= window % step
    overlap = min(round(overlap_seconds * FRAMES_PER_SECOND), window // 4)
    # A window's last step is that of its last column's centre, up to a stride and half a patch before its end. The next
    # window's steps, which begin in the middle of the overlap, have to follow on it.
    least = math.ceil((config.patch_shape[1] + 2 * config.time_stride) / step) * step
    overlap = max(overlap - overlap % step, least)
    if window < 2 * overlap:
        raise ValueError(
            f"`max_memory` and `window_seconds` leave windows of {frames_to_seconds(window):g} s; at least "
            f"{frames_to_seconds(2 * overlap):g} s are needed, with time steps of {frames_to_seconds(step):g} s."
        )
    return WindowPlan(window, overlap)


def cut_windows(blocks: Iterable[torch.Tensor], plan: WindowPlan) -> Iterator[tuple[int, torch.Tensor]]:
    """
    Cuts consecutive frames into windows. Each but the last has `plan.length` frames, and each but the first begins
    `plan.overlap` frames before the one before it ends.

    Args:
        blocks (iterable of `torch.Tensor` of shape `(frames, mel bins)`): The frames.
        plan ([`WindowPlan`]): The plan.

    Yields:
        `tuple[int, torch.Tensor]`: The first frame of each window, and its values `(frames, mel bins)`.
    """
    start, length, parts = 0, 0, []
    for block in blocks:
        parts.append(block)
        length += len(block)
        # Only once there is more than a window: the last window then holds at least the overlap and a frame.
        while length > plan.length:
            values = torch.cat(parts)
            del parts
            yield start, values[: plan.length]
            start += plan.length - plan.overlap
            parts = [values[plan.length - plan.overlap :].clone()]
            length = len(parts[0])
            del values
    if parts:
        values = torch.cat(parts)
        parts.clear()
        yield start, values


class PooledSpectrogram:
    """A spectrogram of at most twice `PICTURE_COLUMNS` columns: the more frames there are, the more a column averages."""

    def __init__(self) -> None:
        self.columns: list[np.ndarray] = []
        self.frames_per_column = 1
        self.rest: np.ndarray | None = None

    def add(self, values: torch.Tensor) -> None:
        """Adds frames `(frames, mel bins)`."""
        frames = values.numpy() if self.rest is None else np.concatenate((self.rest, values.numpy()))
        whole = len(frames) // self.frames_per_column * self.frames_per_column
        self.rest = frames[whole:]
        self.columns.extend(frames[:whole].reshape(-1, self.frames_per_column, frames.shape[1]).mean(axis=1))
        while len(self.columns) >= 2 * PICTURE_COLUMNS:
            if len(self.columns) % 2:
                odd = np.repeat(self.columns.pop()[None], self.frames_per_column, axis=0)
                self.rest = np.concatenate((odd, self.rest))
            pairs = np.stack(self.columns)
            self.columns = list(pairs.reshape(-1, 2, pairs.shape[1]).mean(axis=1))
            self.frames_per_column *= 2

    def image(self) -> np.ndarray:
        """The columns so far, `(mel bins, columns)`."""
        rest = [] if self.rest is None else list(self.rest)
        return np.stack(self.columns or rest).T
