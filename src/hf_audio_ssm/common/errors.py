# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The errors that say what a user has to change."""

from os import PathLike


class InputError(ValueError):
    """The user's arguments or data cannot be used; the message says what, where and what is expected."""


class ClipError(InputError):
    """
    One clip cannot be used. A run over many clips catches it, counts it and goes on.

    Args:
        clip (`str` or `PathLike`): The clip's path, or what names it where it has none.
        reason (`str`, *optional*): Why it cannot be used; without it, `clip` says all.
    """

    def __init__(self, clip: str | PathLike, reason: str = ""):
        # Both as `args`, for pickle. Out of a data loader's worker, torch raises it with the text of the traceback alone.
        super().__init__(str(clip), reason)
        self.clip = str(clip)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.clip}: {self.reason}" if self.reason else self.clip
