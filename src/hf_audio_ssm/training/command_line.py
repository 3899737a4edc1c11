# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Arguments of scripts: dataclasses whose fields come from YAML or JSON files and from the command line."""

import difflib
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser

from ..common.errors import InputError


def read_config(path: Path, classes: Sequence[type]) -> dict[str, Any]:
    """
    Reads the arguments in a YAML or JSON file. They override those of the file beside it that its key `include` names.

    Raises:
        [`InputError`]: If the file cannot be read, or has a key that is no field of the dataclasses.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as YAML or JSON ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: must map arguments to values, got {type(content).__name__}")
    names = [entry.name for arguments in classes for entry in fields(arguments)]
    for key in content:
        if key not in [*names, "include"]:
            close = difflib.get_close_matches(str(key), names, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise InputError(f"{path}: there is no argument {key!r}{hint}")
    if "include" in content:
        content = read_config(path.parent / content.pop("include"), classes) | content
    return content


def parse_arguments(classes: Sequence[type], command_line: Sequence[str], description: str) -> tuple[Any, ...]:
    """
    Parses a command line. It may begin with files of arguments (.yaml, .yml, .json); its own arguments override theirs.

    Args:
        classes (`Sequence[type]`): Dataclasses.
        command_line (`Sequence[str]`): The words after the script's name.
        description (`str`): The beginning of `--help`.

    Returns:
        One object of each class.

    Raises:
        [`InputError`]: If a file cannot be used, an argument is unknown, or a value is not accepted.
    """
    parser = HfArgumentParser(classes, description=description)
    # One parser converts and checks the values of files and command line alike.
    words, rest = [], list(command_line)
    while rest and rest[0].endswith((".yaml", ".yml", ".json")):
        for name, value in read_config(Path(rest.pop(0)), classes).items():
            if value is None:
                continue
            value = json.dumps(value) if isinstance(value, dict) else value
            words += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    *parsed, unknown = parser.parse_args_into_dataclasses(args=words + rest, return_remaining_strings=True)
    if unknown:
        raise InputError(f"there is no argument {unknown[0]}; see --help")
    return tuple(parsed)
