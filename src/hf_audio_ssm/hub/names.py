# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What names a model on the Hub, and what a folder; and names without the places on this machine."""

import os
import re
from pathlib import Path, PureWindowsPath

from ..common.hub_access import is_hub_name


def model_on_hub(model: str) -> str | None:
    """
    The name of a model repository on the Hub.

    Args:
        model (`str`): What `from_pretrained` was given.

    Returns:
        `str`, or None for a folder here.
    """
    return model if is_hub_name(model) and not os.path.exists(model) else None


_PART = r"""[\\/]+[^\s\\/"'<>|,;]+"""
_ABSOLUTE_PATH = re.compile(
    rf"""(?<![\w:/.\\])(?:(?:file://|~(?=/)|[A-Za-z]:(?=[\\/]))(?:{_PART})+|(?:{_PART}){{2,}})[\\/]*"""
)


def public_name(name: str) -> str:
    """
    The name of a folder, file or repository for others: of an absolute path, the part below the current folder, or the last one.

    Args:
        name (`str`): The name.
    """
    bare = name.removeprefix("file://")
    is_absolute = bare.startswith(("/", "~", "\\")) or bool(PureWindowsPath(bare).drive)
    if not is_absolute:
        return bare
    path = Path(bare)
    if path.is_relative_to(Path.cwd()) and path != Path.cwd():
        return str(path.relative_to(Path.cwd()))
    last = re.split(r"[\\/]", bare.rstrip("\\/"))[-1]
    return "a folder" if last.strip(". ") == "" else last


def public_text(text: str) -> str:
    """A text for others: each absolute path in it is replaced by its [`public_name`]."""
    # What ends with a separator may go on with a name that has spaces.
    return _ABSOLUTE_PATH.sub(lambda found: "a folder" if found[0][-1] in "/\\" else public_name(found[0]), text)


def is_missing_folder(model: str) -> bool:
    """Whether a checkpoint's name is a path, which no repository on the Hub can have, and leads to no folder."""
    return not os.path.isdir(model) and not is_hub_name(model)
