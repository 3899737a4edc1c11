# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
The one clock of the package: seconds, frames of the filter bank, and samples. A frame spans 25 ms, and a new one begins every
10 ms, as in Kaldi's default. Checkpoints carry this module; it imports nothing.
"""

FRAME_LENGTH_MS = 25
FRAME_SHIFT_MS = 10
FRAMES_PER_SECOND = 1000 // FRAME_SHIFT_MS
SECONDS_PER_FRAME = FRAME_SHIFT_MS / 1000


def frames_to_seconds(num_frames: float) -> float:
    """The time from the beginning of a frame to that of the frame `num_frames` later, in seconds."""
    return num_frames / FRAMES_PER_SECOND


def seconds_spanned(num_frames: int) -> float:
    """The length of the audio that `num_frames` frames read, in seconds: the last one is longer than the step to the next."""
    return ((num_frames - 1) * FRAME_SHIFT_MS + FRAME_LENGTH_MS) / 1000


def centre_of_frames(num_frames: int) -> float:
    """The middle of what `num_frames` frames span, in frame steps after the beginning of the first."""
    return seconds_spanned(num_frames) / 2 * FRAMES_PER_SECOND


def count_frames(seconds: float) -> int:
    """The whole frames in so many seconds of audio; 0 for less than one."""
    # The rounding keeps 0.025 s, which no float is, at one frame.
    return max(0, 1 + int((round(seconds * 1000, 6) - FRAME_LENGTH_MS) // FRAME_SHIFT_MS))


def samples_spanned(num_frames: int, sampling_rate: int) -> int:
    """The samples that `num_frames` frames read at a sampling rate in hertz."""
    return (num_frames - 1) * (sampling_rate * FRAME_SHIFT_MS // 1000) + sampling_rate * FRAME_LENGTH_MS // 1000
