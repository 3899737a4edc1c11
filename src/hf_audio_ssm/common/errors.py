# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Errors that tell users what to change."""

from os import PathLike

from .printable import one_line


class InputError(ValueError):
    """Arguments or data cannot be used. The message says in one line which, what came, and what is expected."""

    def __str__(self) -> str:
        # Messages hold names and labels of others, and messages of libraries.
        return one_line(super().__str__())


class ClipError(InputError):
    """
    One clip cannot be used. A run over many clips catches this error, counts it and goes on.

    Args:
        clip (`str` or `PathLike`): The clip's path, or its name where it has no path.
        reason (`str`, *optional*): Why it cannot be used. Without it, `clip` is the whole message.
    """

    def __init__(self, clip: str | PathLike, reason: str = ""):
        if not reason and "Traceback (most recent call last)" in str(clip):
            # From a worker of a data loader, torch raises the error with the traceback's text. Its last line is the message.
            clip = str(clip).strip().splitlines()[-1].partition(": ")[2]
        # Both are `args`, for pickle.
        super().__init__(str(clip), reason)
        self.clip = str(clip)
        self.reason = reason

    def __str__(self) -> str:
        return one_line(f"{self.clip}: {self.reason}" if self.reason else self.clip)


class ClipWarning(UserWarning):
    """
    One clip is used although something is wrong with it, such as a file that ends early.

    Args:
        clip (`str` or `PathLike`): The clip's path, or its name where it has no path.
        reason (`str`): What is wrong.
    """

    def __init__(self, clip: str | PathLike, reason: str):
        super().__init__(str(clip), reason)
        self.clip = str(clip)
        self.reason = reason

    def __str__(self) -> str:
        return one_line(f"{self.clip}: {self.reason}")
