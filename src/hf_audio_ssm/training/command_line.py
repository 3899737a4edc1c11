# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Arguments of scripts: dataclasses whose fields come from YAML or JSON files and from the command line.

`--help` and most errors come before any large library is imported. For this, a dataclass may describe the fields alone and name,
as `_completed_by`, the class that is made of the arguments; and it may name, as `_described_in`, the module and the dataclass of a
library whose fields the complete class has too, of which `--help` shows those in `_shown`.
"""

import argparse
import importlib
import importlib.util
import json
import sys
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, field, fields, make_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from ..common.boundary import one_line_errors
from ..common.configuration_files import (
    SUFFIXES,
    Setting,
    did_you_mean,
    parse_json,
    plain_values,
    read_settings,
)
from ..common.definitions import read_fields
from ..common.errors import InputError
from ..common.printable import printable
from .arguments import JsonText


# Annotations of a library's fields that HfArgumentParser reads alike when it imports the library.
_TYPES = {"int": int, "float": float, "bool": bool, "str": str}
# What a function of the parser that converts a value expects.
_EXPECTED = {"int": "a whole number", "float": "a number", "str": "text", "string_to_bool": "true or false"}


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Names each argument once, and shows defaults that say something."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        words = [word for word in action.option_strings if "-" not in word.strip("-")] or action.option_strings
        values = "" if action.nargs == 0 else self._format_args(action, action.dest.upper())
        return f"{', '.join(words)} {values}".rstrip()

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.nargs == 0 or action.default in (None, "", "{}", []):
            return action.help
        return super()._get_help_string(action)


@cache
def _parser_class() -> Any:
    """HfArgumentParser. Its module needs none of those that importing transformers takes seconds for."""
    if "transformers" not in sys.modules:
        spec = importlib.util.find_spec("transformers")
        path = Path(spec.origin).with_name("hf_argparser.py") if spec and spec.origin else None
        if path and path.is_file():
            alone = importlib.util.spec_from_file_location("transformers.hf_argparser", path)
            module = importlib.util.module_from_spec(alone)  # type: ignore[arg-type]
            alone.loader.exec_module(module)  # type: ignore[union-attr]
            return module.HfArgumentParser
    return importlib.import_module("transformers").HfArgumentParser


def complete_classes(classes: Iterable[type]) -> tuple[type, ...]:
    """The classes that are made of arguments: those that complete others, which are imported."""
    complete = []
    for arguments in classes:
        module, _, name = getattr(arguments, "_completed_by", "").rpartition(".")
        complete.append(getattr(importlib.import_module(module), name) if module else arguments)
    return tuple(complete)


@cache
def _described_fields(arguments: type) -> dict[str, tuple[str, str, Any, str | None]]:
    """The fields of a library's dataclass that a class has when it is complete, by name, as read from the library's source."""
    if not hasattr(arguments, "_described_in"):
        return {}
    own = {entry.name for entry in fields(arguments)}
    return {entry[0]: entry for entry in read_fields(*arguments._described_in) if entry[0] not in own}


def _shown_fields(arguments: type) -> type:
    """A dataclass of the fields of a library that `--help` shows."""
    shown: list[tuple[str, Any, Any]] = []
    for name, annotation, default, text in _described_fields(arguments).values():
        if name in arguments._shown:  # type: ignore[attr-defined]
            kind: Any = _TYPES.get(annotation.removesuffix(" | None"), str)
            kind = kind | None if default is None else kind
            shown.append((name, kind, field(default=None if default is MISSING else default, metadata={"help": text})))
    title = f"{arguments._argument_group_name} (of transformers' TrainingArguments; --help_all lists all of them)"  # type: ignore[attr-defined]
    return make_dataclass("Shown", shown, namespace={"_argument_group_name": title})


def _make_parser(classes: Sequence[type], description: str) -> Any:
    """A parser for dataclasses, those that are only described included."""
    described = [arguments for arguments in classes if _described_fields(arguments)]
    needed = [
        f"--{entry.name} {entry.name.upper()}"
        for arguments in classes
        for entry in fields(arguments)
        if entry.default is MISSING and entry.default_factory is MISSING
    ]
    parser = _parser_class()(
        [*classes, *map(_shown_fields, described)],
        description=description,
        usage=" ".join(["%(prog)s [FILE.yaml ...]", *needed, "[--ARGUMENT VALUE ...]"]),
        epilog="Files (.yaml, .yml, .json) map arguments to values; the command line overrides them.",
        formatter_class=_HelpFormatter,
    )
    for action in parser._actions:
        if action.nargs == 0 and action.option_strings[0].startswith("--no_"):
            action.help = f"The same as --{action.dest} false."
    if described:
        parser.add_argument("--help_all", action="help", help="list transformers' TrainingArguments too, and exit")
    for arguments in described:
        for name in _described_fields(arguments):
            if name not in arguments._shown:  # type: ignore[attr-defined]
                words = {f"--{prefix}{name}" for prefix in ("", "no_")}
                words |= {word[:2] + word[2:].replace("_", "-") for word in words}
                # The complete class checks the values.
                parser.add_argument(*sorted(words), dest=name, nargs="*", help=argparse.SUPPRESS)
    return parser


def _apply(parser: argparse.ArgumentParser, classes: Sequence[type], settings: Mapping[str, Setting]) -> None:
    """Makes the values of files the parser's defaults."""
    hints = {
        name: hint for arguments in classes for name, hint in get_type_hints(arguments, include_extras=True).items()
    }
    actions = {action.dest: action for action in reversed(parser._actions)}
    for name, setting in settings.items():
        # What is only described, the complete class checks.
        if name in hints:
            try:
                value = _read_value(setting.value, actions[name], hints[name])
            except (TypeError, ValueError, argparse.ArgumentTypeError) as error:
                reason = (
                    error.args[0]
                    if type(error) is _Refusal
                    else f"{_expected(actions[name])}, got {_shown(setting.value)}"
                )
                raise InputError(f"{setting.path}: {name} must be {reason}") from error
            parser.set_defaults(**{name: value})
            actions[name].required = False


class _Refusal(ValueError):
    """A value that an argument cannot have; the message says what it must be, and what came."""


def _shown(value: Any) -> str:
    return printable(repr(value), limit=80)


def _expected(action: argparse.Action) -> str:
    if action.choices is not None:
        return f"one of {', '.join(map(str, action.choices))}"
    name = getattr(action.type, "__name__", "text")
    kind = _EXPECTED.get(name, name)
    return f"a list, each value {kind}" if action.nargs == "+" else kind


def _kinds(hint: Any) -> set[Any]:
    """The classes that an annotation allows."""
    members = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return {get_origin(member) or member for member in members}


def _read_value(value: Any, action: argparse.Action, hint: Any) -> Any:
    """A value of a file as the argument's type, read as from the command line if it is text or a number."""
    kind = getattr(action.type, "__name__", "")
    origins = _kinds(hint)
    if value is None:
        if type(None) not in origins:
            raise _Refusal(f"{_expected(action)}, got null")
        return None
    if isinstance(value, dict):
        if hint == JsonText:
            return json.dumps(plain_values(value))
        if dict not in origins:
            raise _Refusal(f"{_expected(action)}, got a mapping")
        return plain_values(value)
    if isinstance(value, list) and list not in origins:
        raise _Refusal(f"{_expected(action)}, got a list")
    if isinstance(value, list) and any(not isinstance(entry, str) for entry in value):
        raise _Refusal(f"{_expected(action)}, got {_shown(value)}")

    def read(text: str) -> Any:
        if kind == "string_to_bool":
            # YAML's other words for these.
            text = {"on": "true", "off": "false"}.get(text.lower(), text)
        converted = (action.type or str)(str(text))  # type: ignore[operator]
        if action.choices is not None and converted not in action.choices:
            raise _Refusal(f"{_expected(action)}, got {_shown(text)}")
        return converted

    if action.nargs == "+":
        return [read(entry) for entry in (value if isinstance(value, list) else [value])]
    return [str(entry) for entry in value] if isinstance(value, list) else read(value)


def _check_mappings(values: Mapping[str, Any], classes: Sequence[type]) -> None:
    """Refuses text that is meant to be a mapping of TrainingArguments and is no JSON: their error names no argument."""
    for arguments in classes:
        for name, hint in get_type_hints(arguments).items():
            value = values.get(name)
            if isinstance(value, str) and value.startswith("{") and dict in _kinds(hint):
                try:
                    parse_json(value)
                except ValueError as error:
                    raise InputError(f"--{name} must be JSON, got {_shown(value)} ({error})") from error


def _hint(word: str, names: Sequence[str]) -> str:
    if word.endswith(SUFFIXES):
        return "; files of arguments come before all others"
    if not word.startswith("--"):
        return "; see --help"
    name = word.lstrip("-").partition("=")[0].replace("-", "_")
    return did_you_mean(f"--{name}", [f"--{name}" for name in names]) or "; see --help"


def parse_arguments(classes: Sequence[type], command_line: Sequence[str], description: str) -> tuple[Any, ...]:
    """
    Parses a command line. It may begin with files of arguments (.yaml, .yml, .json); its own arguments override theirs.

    Args:
        classes (`Sequence[type]`): Dataclasses.
        command_line (`Sequence[str]`): The words after the script's name.
        description (`str`): The beginning of `--help`.

    Returns:
        One object of each class, or of the class that completes it.

    Raises:
        [`InputError`]: If a file cannot be used, an argument is unknown, or a value is not accepted.
    """
    words = list(command_line)
    if "--help_all" in words:
        _make_parser(complete_classes(classes), description).parse_args(["--help"])
    parser = _make_parser(classes, description)
    names = [entry.name for arguments in classes for entry in fields(arguments)]
    names += [name for arguments in classes for name in _described_fields(arguments)]
    settings: dict[str, Setting] = {}
    while words and words[0].endswith(SUFFIXES):
        settings |= read_settings(Path(words.pop(0)), names)
    _apply(parser, classes, settings)
    _, unknown = parser.parse_known_args(words)
    if unknown:
        raise InputError(f"there is no argument {unknown[0]}{_hint(unknown[0], names)}")
    complete = complete_classes(classes)
    parser = _make_parser(complete, description)
    _apply(parser, complete, settings)
    _check_mappings(vars(parser.parse_known_args(words)[0]), complete)
    try:
        *parsed, unknown = parser.parse_args_into_dataclasses(
            words, return_remaining_strings=True, look_for_args_file=False
        )
    except InputError:
        raise
    # What TrainingArguments refuses.
    except (ImportError, TypeError, ValueError) as error:
        raise InputError(str(error)) from error
    if unknown:
        raise InputError(f"there is no argument {unknown[0]}{_hint(unknown[0], names)}")
    return tuple(parsed)


def parse_script_arguments(classes: Sequence[type], docstring: str) -> tuple[Any, ...]:
    """
    Parses the command line of this process, and ends it with one line if that cannot be used. Scripts call this before they
    import large libraries.

    Args:
        classes (`Sequence[type]`): Dataclasses.
        docstring (`str`): That of the script; `--help` begins with its first line.

    Returns:
        One object of each class, or of the class that completes it.
    """
    with one_line_errors():
        return parse_arguments(classes, sys.argv[1:], docstring.strip().splitlines()[0])
