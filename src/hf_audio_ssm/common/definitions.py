# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What modules define, read from their source. Importing them would take seconds, which `--help` cannot wait for."""

import ast
import importlib
import importlib.util
from collections.abc import Iterator
from dataclasses import MISSING
from pathlib import Path
from typing import Any


def _parse(module: str) -> ast.Module:
    package, *names = module.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    path = Path(spec.origin)
    if names:
        path = path.parent.joinpath(*names).with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


def read_names(module: str, name: str) -> tuple[Any, ...]:
    """
    The values of a tuple, or the keys of a dictionary, that a module assigns to a name, and the keys that it adds one by one.

    Args:
        module (`str`): The module's full name.
        name (`str`): The name in it.
    """
    try:
        body = _parse(module).body
    except OSError:
        # Installed without its source.
        return tuple(getattr(importlib.import_module(module), name))
    names: list[Any] = []
    for node in body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name) and target.id == name:
                    values = node.value.keys if isinstance(node.value, ast.Dict) else getattr(node.value, "elts", ())
                    names = [_value(value) for value in values]
                elif isinstance(target, ast.Subscript) and ast.unparse(target.value) == name:
                    names.append(_value(target.slice))
    if names:
        return tuple(names)
    raise AttributeError(f"module {module!r} has no attribute {name!r}")


def read_docstring(module: str) -> str:
    """The docstring of a module."""
    try:
        return ast.get_docstring(_parse(module), clean=False) or ""
    except OSError:
        return importlib.import_module(module).__doc__ or ""


def read_fields(module: str, class_name: str) -> Iterator[tuple[str, str, Any, str | None]]:
    """
    The fields of a dataclass, in their order.

    Args:
        module (`str`): The module's full name.
        class_name (`str`): The dataclass. Fields of the classes that it inherits from are left out.

    Yields:
        Name, annotation, default and help of a field; `dataclasses.MISSING` and None where the source has no plain value.

    Raises:
        `OSError`: If the module is installed without its source.
    """
    for node in _parse(module).body:
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            for entry in node.body:
                if isinstance(entry, ast.AnnAssign) and isinstance(entry.target, ast.Name):
                    options: dict[str | None, ast.expr | None] = {"default": entry.value}
                    if isinstance(entry.value, ast.Call):
                        options = {keyword.arg: keyword.value for keyword in entry.value.keywords}
                    metadata = _value(options.get("metadata"))
                    help_text = metadata.get("help") if isinstance(metadata, dict) else None
                    yield entry.target.id, ast.unparse(entry.annotation), _value(options.get("default")), help_text


def _value(node: ast.expr | None) -> Any:
    try:
        return MISSING if node is None else ast.literal_eval(node)
    except ValueError:
        return MISSING
