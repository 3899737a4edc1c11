# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
YAML and JSON, read as data. Files are small, aliases are expanded up to a limit, and nothing in a file makes an object or names
code. Errors are one line that names the file.
"""

import json
import math
import re
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from .errors import InputError
from .printable import printable


MAX_BYTES = 100_000
# Of a file, with aliases expanded.
MAX_VALUES = 10_000
MAX_DEPTH = 50
# Files that include one another, in a row.
MAX_INCLUDES = 10
SUFFIXES = (".yaml", ".yml", ".json")
_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?|[-+]?\.\d+([eE][-+]?\d+)?", re.ASCII)
_TRUTHS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


class Plain(str):
    """A scalar without quotes, as it is written. Whoever uses it decides whether it is a number, a truth value or text."""


class Setting(NamedTuple):
    """A value in a file: None, text, [`Plain`], or a list or dictionary of these."""

    value: Any
    path: Path


def plain_values(value: Any) -> Any:
    """
    Replaces every [`Plain`] in a value by the number or truth value that it is, or by its text.

    Raises:
        `ValueError`: If a number is too large.
    """
    if isinstance(value, dict):
        return {key: plain_values(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [plain_values(entry) for entry in value]
    if not isinstance(value, Plain):
        return value
    if value in _TRUTHS:
        return _TRUTHS[value]
    if not _NUMBER.fullmatch(value):
        return str(value)
    if not set(value) & set(".eE"):
        return int(value)
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is too large a number")
    return number


def read_settings(path: Path, names: Collection[str]) -> dict[str, Setting]:
    """
    Reads a YAML or JSON file of arguments. They override those of the file that its key `include` names, relative to it.

    Args:
        path (`Path`): The file.
        names (`Collection[str]`): The names of all arguments.

    Raises:
        [`InputError`]: If the file cannot be read as data, or has a key that is no argument, or includes itself.
    """
    return _read_settings(path, names, ())


def _read_settings(path: Path, names: Collection[str], including: tuple[Path, ...]) -> dict[str, Setting]:
    if path.resolve() in including:
        raise InputError(f"{including[-1]}: must not include {path}, which includes it")
    if len(including) > MAX_INCLUDES:
        raise InputError(f"{path}: at most {MAX_INCLUDES} files can include one another in a row")
    content = read_file(path)
    content = {} if content is None else content
    if not isinstance(content, dict):
        kind = "list" if isinstance(content, list) else "text"
        raise InputError(f"{path}: must map arguments to values, got {kind}")
    for key in content:
        if key not in names and key != "include":
            raise InputError(f"{path}: there is no argument {printable(repr(key), 80)}{did_you_mean(key, names)}")
    included: dict[str, Setting] = {}
    if "include" in content:
        other = content.pop("include")
        if not isinstance(other, str) or not other.endswith(SUFFIXES):
            raise InputError(
                f"{path}: include must be the name of a file ending in {', '.join(SUFFIXES)}, got {printable(repr(other), 80)}"
            )
        included = _read_settings(path.parent / other, names, (*including, path.resolve()))
    return included | {key: Setting(value, path) for key, value in content.items()}


def did_you_mean(name: str, names: Collection[str]) -> str:
    """A hint at the most similar of the names, to end a message with; empty if none is similar."""
    close = get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def read_file(path: Path) -> Any:
    """
    Reads a YAML or JSON file, by its name.

    Returns:
        None, text, [`Plain`], or a list or dictionary of these.

    Raises:
        [`InputError`]: If it cannot be read as data.
    """
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: must be a file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise InputError(f"{path}: must have at most {MAX_BYTES:,} bytes")
        text = data.decode("utf-8-sig")
        return _read_json(text) if path.suffix == ".json" else _read_yaml(text)
    except InputError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}: " if mark else ""
        raise InputError(
            f"{path}: cannot be read as YAML or JSON ({place}{error.problem or error.context})"
        ) from error
    except RecursionError as error:
        raise InputError(f"{path}: cannot be read as YAML or JSON (values are nested too deeply)") from error
    # UnicodeDecodeError and JSONDecodeError are ValueErrors.
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as YAML or JSON ({error})") from error


def parse_json(text: str) -> Any:
    """
    Parses JSON. Unlike Python's reader, it refuses keys that are there twice, and numbers that are not finite.

    Raises:
        `ValueError`: If it is not JSON.
    """
    try:
        return plain_values(_read_json(text))
    except RecursionError as error:
        raise ValueError("values are nested too deeply") from error


def _read_json(text: str) -> Any:
    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not a number of JSON")

    def read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        read: dict[str, Any] = {}
        for key, value in pairs:
            if key in read:
                raise ValueError(f"the key {printable(repr(key), 80)} is there twice")
            read[key] = value
        return read

    value = json.loads(text, parse_int=Plain, parse_float=Plain, parse_constant=refuse, object_pairs_hook=read_object)
    return _Reader().read_json(value)


class _Loader(yaml.SafeLoader):
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        # The scanner takes seconds for brackets that are as deep as Python's stack.
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ValueError("values are nested too deeply")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def _read_yaml(text: str) -> Any:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        return None if node is None else _Reader(loader).read_yaml(node)
    finally:
        loader.dispose()


class _Reader:
    """Reads the values of one file, and counts them."""

    def __init__(self, loader: yaml.SafeLoader | None = None):
        self.loader = loader
        self.count = 0

    def _enter(self, depth: int) -> None:
        self.count += 1
        if self.count > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES:,} values, with aliases expanded")
        if depth > MAX_DEPTH:
            raise ValueError("values are nested too deeply")

    def read_json(self, value: Any, depth: int = 0) -> Any:
        self._enter(depth)
        if isinstance(value, dict):
            return {key: self.read_json(entry, depth + 1) for key, entry in value.items()}
        if isinstance(value, list):
            return [self.read_json(entry, depth + 1) for entry in value]
        return Plain(str(value).lower()) if isinstance(value, bool) else value

    def read_yaml(self, node: yaml.Node, depth: int = 0) -> Any:
        self._enter(depth)
        if isinstance(node, yaml.MappingNode):
            self._check_tag(node, "map")
            return dict(self._pairs(node, depth))
        if isinstance(node, yaml.SequenceNode):
            self._check_tag(node, "seq")
            return [self.read_yaml(entry, depth + 1) for entry in node.value]
        is_plain = node.style is None
        tag = self.loader.resolve(yaml.ScalarNode, node.value, (is_plain, not is_plain))  # type: ignore[union-attr]
        self._check_tag(node, tag.rpartition(":")[2])
        if tag == "tag:yaml.org,2002:null":
            return None
        return Plain(node.value) if is_plain else node.value

    def _pairs(self, node: yaml.MappingNode, depth: int) -> Iterator[tuple[str, Any]]:
        keys = set()
        for key, value in node.value:
            place = f"line {key.start_mark.line + 1}: "
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                raise ValueError(f"{place}keys must be names")
            if key.value in keys:
                raise ValueError(f"{place}the key {printable(repr(key.value), 80)} is there twice")
            keys.add(key.value)
            yield key.value, self.read_yaml(value, depth + 1)

    @staticmethod
    def _check_tag(node: yaml.Node, expected: str) -> None:
        if node.tag != f"tag:yaml.org,2002:{expected}":
            raise ValueError(f"line {node.start_mark.line + 1}: the tag {node.tag} cannot be used")
