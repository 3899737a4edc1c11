# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
An extension for mkdocstrings. It turns docstrings in transformers' style ("name (`int`, *optional*, defaults to 2): ...") into
Google's style, and reads the help of scripts' arguments from their fields.
"""

import ast
import re
from typing import Any

import griffe


# "    name (`type`, *optional*, defaults to 2):", also over several lines.
ARGUMENT = re.compile(r"^( +[\w*]+ \()((?:[^()]|\([^()]*\))*)(\):)", flags=re.MULTILINE)
# "    `ValueError`, `TypeError`: ..." or "    [`InputError`]: ...", and the type that is returned, up to the colon.
SECTION = re.compile(r"^( *(?:Returns|Raises|Yields):\n)((?:(?: +.*)?(?:\n|\Z))+)", flags=re.MULTILINE)
RAISED = re.compile(r"^( +)((?:\[?`[^`\n]+`\]?(?:, | or )?)+):", flags=re.MULTILINE)
REFERENCE = re.compile(r"\[(`)~?([^`\]]+)`\]")


def to_google(text: str, has_defaults: bool) -> str:
    """
    Converts a docstring to Google's style.

    Args:
        text (str): The docstring.
        has_defaults (bool): Whether the signature shows the defaults.
    """

    def argument(match: re.Match) -> str:
        kind = " ".join(match[2].split()).replace("*optional*", "optional").replace("`", "")
        if has_defaults:
            kind = re.sub(r", optional(, defaults to .*)?$", "", kind)
        return match[1] + kind + match[3]

    text = REFERENCE.sub(r"`\2`", text)
    text = ARGUMENT.sub(argument, text)
    return SECTION.sub(
        lambda section: section[1] + RAISED.sub(lambda line: line[0].replace("`", ""), section[2]), text
    )


def read_field(value: Any) -> tuple[str | None, str | None]:
    """Reads help and default of a dataclass's field, `field(default=..., metadata={"help": ...})`."""
    call = ast.parse(str(value), mode="eval").body
    options = {keyword.arg: keyword.value for keyword in call.keywords}
    default = ast.unparse(options["default"]) if "default" in options else None
    for key, entry in zip(options["metadata"].keys, options["metadata"].values, strict=True):
        if key.value == "help":
            # The values in an f-string are known only at run time.
            parts = entry.values if isinstance(entry, ast.JoinedStr) else [entry]
            return "".join(part.value if isinstance(part, ast.Constant) else "..." for part in parts), default
    return None, default


class TransformersDocstrings(griffe.Extension):
    """Rewrites all docstrings that griffe loads."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrites the docstring of a module, class, function or attribute."""
        if obj.is_attribute and obj.docstring is None and "metadata=" in str(obj.value or ""):
            text, obj.value = read_field(obj.value)
            obj.docstring = griffe.Docstring(text, parent=obj) if text else None
            obj.labels.clear()
        elif obj.docstring is not None:
            has_defaults = obj.is_function or (obj.is_class and len(obj.parameters) > 0)
            obj.docstring.value = to_google(obj.docstring.value, has_defaults)
