# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from hf_audio_ssm.common.console import print_error
from hf_audio_ssm.common.errors import ClipError, InputError
from hf_audio_ssm.common.printable import markdown_code, markdown_text, printable


TRICKS = [
    "a\nb",
    "a\r\nb",
    "a\x1b[31mb\x1b[0m",
    "title \x1b]0;owned\x07",
    "a\x00b\x7f\x9b2Jc",
    "a\x85b\u2028c\u2029d",
    "gpj.\u202eexe\u2066\u200f",
    "zero\u200bwidth\ufeff",
    "half \udcff of a pair \ud800",
    "back\x08space\x0c\x0b",
]


@pytest.mark.parametrize("text", TRICKS)
def test_printable_strings_have_one_line_and_nothing_that_a_terminal_obeys(text):
    line = printable(text)
    assert line.isprintable()
    assert len(line.splitlines()) == 1
    line.encode("utf-8")
    assert printable(line) == line


@pytest.mark.parametrize("text", ["dog bark", "Straße", "こんにちは", "مرحبا", "C:\\sounds", "🐕", "one\u00a0two", ""])
def test_ordinary_strings_stay(text):
    assert printable(text) == text


def test_other_objects_are_converted_and_long_strings_lose_their_middle():
    assert printable(Path("a/b.wav")) == "a/b.wav"
    assert printable(None) == "None"
    assert printable("a" * 500 + "b" * 500, limit=11) == "aaaa...bbbb"
    assert printable("short", limit=5) == "short"


@pytest.mark.parametrize(
    "error",
    [
        InputError("no\n  \x1b[31mx\x1b[0m"),
        ClipError("no\n", " \x1b[31mx\x1b[0m"),
        OSError("no\n\n\x1b[31mx\x1b[0m\r"),
    ],
)
def test_errors_have_one_printable_line(error, capsys):
    print_error(error)
    line = capsys.readouterr().err
    assert line.endswith("\\x1b[31mx\\x1b[0m\n")
    assert line[:-1].isprintable()
    if isinstance(error, InputError):
        assert str(error).isprintable()


MARKUP = [
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "&lt;b&gt; &#60;",
    "a | b",
    "[click](javascript:alert(1))",
    "![picture](https://example.org/x.png)",
    "*strong* _weak_ ~~gone~~ `code` ``",
    "<https://example.org>",
    "\\<b>\\",
    "`",
    " ` ",
    "# title #",
    "[ref]: https://example.org",
    "a\n\n<b>c</b>\n\n# heading",
    "$$x$$",
]


def rendered(markdown: str):
    """The text of a line of Markdown after rendering, and the kinds of its tokens."""
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parseInline(markdown)[0].children or ()
    return "".join(token.content for token in tokens), {token.type for token in tokens}


@pytest.mark.parametrize("text", MARKUP + TRICKS)
def test_nothing_in_a_string_becomes_markup(text):
    shown, kinds = rendered(f"is {markdown_text(text)}.")
    assert shown == f"is {printable(text)}."
    assert kinds <= {"text", "text_special"}
    shown, kinds = rendered(f"is {markdown_code(text)}.")
    assert shown == f"is {printable(text)}."
    assert "code_inline" in kinds
    assert kinds <= {"text", "code_inline"}
