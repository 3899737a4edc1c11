# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Files of arguments, drawn: the arguments have exactly the values that the file has, or the file is refused in one line. Nothing in a
file becomes an option, makes an object, or takes long.
"""

import json
import math
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from fuzzing import check_examples, many_examples
from hypothesis import strategies as st

from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.training.arguments import JsonText, read_json_map
from hf_audio_ssm.training.command_line import parse_arguments


@dataclass
class Arguments:
    """A field of each kind, and one that no file may switch on by a value."""

    text: str = "default"
    maybe_text: str | None = "default"
    number: int = 1
    real: float = 0.5
    flag: bool = False
    texts: list[str] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    options: JsonText = "{}"
    push_to_hub: str = "nowhere"

    def __post_init__(self) -> None:
        self.mapping = read_json_map(self, "options")


WORDS = st.sampled_from(
    ["--push_to_hub", "--push_to_hub=ada/repo", "ada/repo", "-h", "--help", "--", "--no_flag", "@x", "no", "true", "null", "~", "010",
     "1e-4", "1_000", "0x1F", "12:30", "2024-01-01", ".inf", "NaN", "", " ", "a: b", "[a]", "*a", "&a", "!!int", "\n", "\x1b[31m", "é", "'"]
)  # fmt: skip
TEXTS = WORDS | st.text(st.characters(codec="utf-8"), max_size=12)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=12
)
FITTING = {
    "text": TEXTS,
    "maybe_text": TEXTS | st.none(),
    "number": st.integers(),
    "real": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9),
    "flag": st.booleans() | st.sampled_from(["yes", "no", "on", "off", "T"]),
    "texts": st.lists(TEXTS, max_size=4) | TEXTS,
    "numbers": st.lists(st.integers(), max_size=4),
    "options": st.dictionaries(TEXTS, st.lists(TEXTS | st.integers(), max_size=2) | st.none(), max_size=3),
}
# Mostly values that fit, and any.
CONTENTS = st.dictionaries(st.sampled_from(sorted(FITTING)), st.none(), max_size=4).flatmap(
    lambda keys: st.fixed_dictionaries({key: st.one_of(*[FITTING[key]] * 8, VALUES) for key in keys})
)


def parse(name: str, text: str) -> Arguments | None:
    """The arguments of a file; None where it is refused in one line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        begin = time.process_time()
        try:
            (parsed,) = parse_arguments((Arguments,), [str(path)], "")
        except InputError as error:
            line = str(error)
            assert line.isprintable()
            assert len(line.splitlines()) == 1
            assert name in line or "--options" in line
            parsed = None
        assert time.process_time() - begin < 20
    return parsed


def as_text(value: object) -> str:
    """A value of JSON as it stands in the file."""
    return value if isinstance(value, str) else json.dumps(value)


def is_same(given: object, parsed: object) -> bool:
    return given == parsed or (isinstance(given, float) and math.isnan(given)) or str(given) == str(parsed)


def check_values(parsed: Arguments, content: dict) -> None:
    """Each argument of the file has its value, and each other one its default."""
    default = Arguments()
    assert parsed.push_to_hub == default.push_to_hub
    for name in vars(default):
        value, given = getattr(parsed, name), content.get("options" if name == "mapping" else name)
        key = "options" if name == "mapping" else name
        if key not in content:
            assert value == getattr(default, name)
        elif name in ("text", "maybe_text"):
            assert value == (None if given is None else as_text(given))
        elif name == "number":
            assert value == int(given)
        elif name == "real":
            assert is_same(float(given), value)
        elif name == "flag":
            assert value is (as_text(given).lower() in ("yes", "true", "t", "y", "1", "on"))
        elif name == "texts":
            assert value == [as_text(entry) for entry in (given if isinstance(given, list) else [given])]
        elif name == "numbers":
            assert value == [int(entry) for entry in (given if isinstance(given, list) else [given])]
        elif name == "mapping":
            assert value == (json.loads(given) if isinstance(given, str) else given)


@many_examples
def test_json_has_its_values_or_is_refused(num_examples):
    def check(content):
        # Numbers that are not finite are no JSON, and refused.
        parsed = parse("x.json", json.dumps(content))
        if parsed is not None:
            check_values(parsed, content)

    check_examples(num_examples, check, CONTENTS)


@many_examples
def test_yaml_has_its_values_or_is_refused(num_examples):
    """What YAML's own writer writes is read as what was written."""

    def check(content):
        parsed = parse("x.yaml", yaml.safe_dump(content))
        if parsed is None:
            return
        # All but text is as YAML writes it.
        assert parsed.push_to_hub == "nowhere"
        for name in ("text", "maybe_text"):
            if isinstance(content.get(name), str):
                assert getattr(parsed, name) == content[name]
        for name, kind in (("number", int), ("flag", bool)):
            if type(content.get(name)) is kind:
                assert getattr(parsed, name) == content[name]
        if isinstance(content.get("texts"), list) and all(isinstance(entry, str) for entry in content["texts"]):
            assert parsed.texts == content["texts"]

    check_examples(num_examples, check, CONTENTS)


# Pieces of YAML that are put together at random: aliases, tags, merges, documents, odd keys.
PIECES = st.sampled_from(
    ["text: ", "texts: ", "number: ", "options: ", "push_to_hub", "include: ", "x.yaml", "include: x.yaml\n", "\n", "\n  ", "\n- ", "- ",
     "[", "]", "{", "}", ", ", ": ", "&a ", "*a", "*a, *a", "&b [*a, *a, *a]", "<<: *a\n", "? ", "!!python/name:os.system ", "!!str ",
     "!!set {", "!!binary ", "---\n", "...\n", "%TAG ! x\n", "| \n", "> \n", "'", '"', "#", "\t", "--push_to_hub", "ada/repo", "null", "1",
     "\x00", "\x85", "\u2028", "\ufeff", "@", "`", "9" * 30, "[" * 60]
)  # fmt: skip


@many_examples
def test_any_text_is_read_or_refused(num_examples):
    def check(pieces):
        for name in ("x.yaml", "x.json"):
            parsed = parse(name, "".join(pieces))
            # Only as a key of the file, never by a value.
            assert parsed is None or parsed.push_to_hub == "nowhere" or "push_to_hub: " in "".join(pieces)

    check_examples(num_examples, check, st.lists(PIECES | TEXTS, max_size=14))
