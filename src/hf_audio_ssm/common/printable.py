# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Strings of others (names of files, labels, values of configurations) in messages, on terminals and in Markdown."""

import re
import unicodedata


# What Markdown and its extensions (tables, mathematics, strike-through) read as markup within a line.
# An underscore within a word is none.
_MARKUP = re.compile(r"[\\`*\[\]|~$#]|(?<![^\W_])_|_(?![^\W_])")
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def _escaped(character: str) -> str:
    # `isprintable` refuses all spaces but one.
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode("ascii")


def printable(text: object, limit: int | None = None) -> str:
    r"""
    Makes a string of one line that a terminal shows and does not obey.

    Control characters, line breaks, terminal sequences, marks that reverse the direction of text, and halves of surrogate
    pairs are written as Python writes them (`\n`, `\x1b`). Everything else stays, so that applying it twice changes nothing.

    Args:
        text (`object`): The string; anything else is converted by `str`.
        limit (`int`, *optional*): The most characters; a longer string loses its middle.

    Example:

    ```python
    >>> from hf_audio_ssm.common.printable import printable

    >>> printable("Straße\x1b[31m\n")
    'Straße\\x1b[31m\\n'
    ```
    """
    text = str(text)
    line = text if text.isascii() and text.isprintable() else "".join(map(_escaped, text))
    if limit is None or len(line) <= limit:
        return line
    kept = limit - 3
    return f"{line[: kept - kept // 2]}...{line[len(line) - kept // 2 :]}"


def one_line(text: object) -> str:
    """Joins the lines of a message by spaces, and makes it [`printable`]; messages of libraries often have several lines."""
    lines = (line.strip() for line in str(text).splitlines())
    return printable(" ".join(line for line in lines if line))


class Markdown(str):
    """Text that is Markdown already, and is not escaped again."""


def markdown_text(text: object) -> Markdown:
    """
    Escapes a string for Markdown, behind the beginning of a line or in a table's cell: nothing in it becomes markup or HTML.

    Args:
        text (`object`): As in [`printable`]; [`Markdown`] stays.
    """
    if isinstance(text, Markdown):
        return text
    return Markdown(_MARKUP.sub(r"\\\g<0>", printable(text)).translate(_ENTITIES))


def markdown_code(text: object) -> Markdown:
    """
    Makes a span of code in Markdown that shows a string as it is.

    Args:
        text (`object`): As in [`printable`].
    """
    line = printable(text)
    # A longer fence than any inside. Spaces keep the string's own backticks and spaces apart from it.
    fence = "`" * (1 + max((len(found) for found in re.findall("`+", line)), default=0))
    space = " " if not line.strip(" ") or line[0] in "` " or line[-1] in "` " else ""
    return Markdown(f"{fence}{space}{line}{space}{fence}")
