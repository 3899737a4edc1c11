# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""YAML and JSON are read as data: in bounded time and memory, without surprises of their types."""

import json
import os
import re
import time

import pytest

from hf_audio_ssm.common.configuration_files import (
    MAX_BYTES,
    MAX_INCLUDES,
    Plain,
    parse_json,
    plain_values,
    read_file,
    read_settings,
)
from hf_audio_ssm.common.errors import InputError


ALIASES = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{previous}'] * 10)}]\n"
    for previous, name in zip("abcdefgh", "bcdefghi", strict=True)
)
REFUSED = {
    "nested aliases": ("x.yaml", ALIASES, "more than 10,000 values, with aliases expanded"),
    "an alias to itself": ("x.yaml", "a: &a [*a]", "nested too deeply"),
    "an alias to itself in a mapping": ("x.yaml", "a: &a {b: *a}", "nested too deeply"),
    "an unknown alias": ("x.yaml", "a: *b", "line 1: found undefined alias 'b'"),
    "a key twice": ("x.yaml", "a: 1\nb: 2\na: 3", "line 3: the key 'a' is there twice"),
    "a key twice, in quotes": ("x.yaml", "a: {b: 1, 'b': 2}", "line 1: the key 'b' is there twice"),
    "a key twice in JSON": ("x.json", '{"a": 1, "a": 2}', "the key 'a' is there twice"),
    "a merged mapping": ("x.yaml", "a: &a {b: 1}\nc:\n  <<: *a", "line 3: keys must be names"),
    "a list as a key": ("x.yaml", "? [a]\n: b", "line 1: keys must be names"),
    "code": (
        "x.yaml",
        "a: !!python/object/apply:os.system [ls]",
        "the tag tag:yaml.org,2002:python/object/apply:os.system",
    ),
    "a tag": ("x.yaml", "a: !secret b", "the tag !secret cannot be used"),
    "a type that is asked for": ("x.yaml", "a: !!int '5'", "the tag tag:yaml.org,2002:int cannot be used"),
    "bytes": ("x.yaml", "a: !!binary YQ==", "the tag tag:yaml.org,2002:binary"),
    "a set": ("x.yaml", "a: !!set {b, c}", "the tag tag:yaml.org,2002:set"),
    "deep YAML": ("x.yaml", "a: " + "[" * 40_000, "nested too deeply"),
    "deep JSON": ("x.json", "[" * 90_000, "nested too deeply"),
    "deep JSON that ends": ("x.json", "[" * 200 + "]" * 200, "nested too deeply"),
    "two documents": ("x.yaml", "a: 1\n---\nb: 2", "line 2: but found another document"),
    "no YAML": ("x.yaml", "a: [1", "line 1: expected ',' or ']'"),
    "tabs": ("x.yaml", "a:\n\tb: 1", "line 2: found character '\\t' that cannot start any token"),
    "a control character": ("x.yaml", "a: \x00", "special characters are not allowed"),
    "no JSON": ("x.json", "{'a': 1}", "Expecting property name"),
    "NaN": ("x.json", '{"a": NaN}', "NaN is not a number of JSON"),
    "an infinite number": ("x.json", '{"a": -Infinity}', "-Infinity is not a number of JSON"),
    "no UTF-8": ("x.yaml", b"a: \xff", "'utf-8' codec can't decode byte 0xff"),
    "too many bytes": ("x.yaml", "a: b\n#" + "x" * MAX_BYTES, "must have at most 100,000 bytes"),
    "too many values": ("x.json", json.dumps([1] * 20_000), "more than 10,000 values"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_at_once_in_one_line(case, tmp_path):
    name, content, message = REFUSED[case]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    begin = time.process_time()
    with pytest.raises(InputError, match=re.escape(message)) as refused:
        read_file(tmp_path / name)
    # A bound that no computer misses; nested aliases took minutes.
    assert time.process_time() - begin < 20
    assert str(refused.value).startswith(f"{tmp_path / name}: ")
    assert len(str(refused.value).splitlines()) == 1


def test_what_is_no_file(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml: cannot be read as YAML or JSON \(.*No such file"):
        read_file(tmp_path / "none.yaml")
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    for name in ("folder.yaml", "pipe.json"):
        with pytest.raises(InputError, match=rf"{name}: must be a file"):
            read_file(tmp_path / name)


# Text that YAML 1.1 takes for another type.
WRITTEN = [
    "no",
    "yes",
    "on",
    "010",
    "1_000",
    "0x10",
    "12:30:45",
    "2024-01-01",
    "1e3",
    ".5",
    "1.0e-4",
    "0b1",
    "=",
    "~x",
    "nul",
]


@pytest.mark.parametrize("text", WRITTEN)
def test_plain_values_stay_as_they_are_written(text, tmp_path):
    (tmp_path / "x.yaml").write_text(f"a: {text}\nb: '{text}'\n")
    read = read_file(tmp_path / "x.yaml")
    assert read == {"a": text, "b": text}
    assert (type(read["a"]), type(read["b"])) == (Plain, str)


def test_values_of_both_languages(tmp_path):
    (tmp_path / "x.json").write_text('{"a": 1, "b": 1e-4, "c": true, "d": null, "e": "1", "f": [-1.5, {"g": "no"}]}')
    (tmp_path / "x.yaml").write_text("a: 1\nb: 1e-4\nc: true\nd: null\ne: '1'\nf: [-1.5, {g: no}]\n")
    expected = {"a": 1, "b": 1e-4, "c": True, "d": None, "e": "1", "f": [-1.5, {"g": "no"}]}
    for name in ("x.json", "x.yaml"):
        assert plain_values(read_file(tmp_path / name)) == expected
    (tmp_path / "bom.yaml").write_text("\ufeffa: 1\n", encoding="utf-8")
    assert read_file(tmp_path / "bom.yaml") == {"a": "1"}
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert read_file(tmp_path / "empty.yaml") is None


def test_aliases_are_read_where_they_are_few(tmp_path):
    (tmp_path / "x.yaml").write_text("a: &words [yes, no]\nb: *words\n")
    assert read_file(tmp_path / "x.yaml") == {"a": ["yes", "no"], "b": ["yes", "no"]}


@pytest.mark.parametrize(
    "text", ["{'a': 1}", '{"a": NaN}', '{"a": 1e999}', '{"a": 1, "a": 1}', "[" * 9999, "9" * 5000, ""]
)
def test_json_that_is_none(text):
    with pytest.raises(ValueError):  # noqa: PT011 (each has its own message)
        parse_json(text)


def test_includes(tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "a.yaml").write_text("include: more/b.json\nx: 1\n")
    (tmp_path / "more" / "b.json").write_text('{"include": "../c.yml", "x": 2, "y": 2}')
    (tmp_path / "c.yml").write_text("x: 3\ny: 3\nz: 3\n")
    read = read_settings(tmp_path / "a.yaml", ["x", "y", "z"])
    assert {name: (setting.value, setting.path.name) for name, setting in read.items()} == {
        "x": ("1", "a.yaml"), "y": ("2", "b.json"), "z": ("3", "c.yml"),
    }  # fmt: skip


def test_includes_without_end(tmp_path):
    (tmp_path / "self.yaml").write_text("include: ./self.yaml\n")
    (tmp_path / "ring.yaml").write_text("include: ring2.yaml\n")
    (tmp_path / "ring2.yaml").symlink_to("ring.yaml")
    (tmp_path / "first.yaml").write_text("include: second.yaml\n")
    (tmp_path / "second.yaml").write_text("include: first.yaml\n")
    for name in ("self", "ring", "first"):
        with pytest.raises(InputError, match=r"must not include .*, which includes it"):
            read_settings(tmp_path / f"{name}.yaml", [])
    for number in range(MAX_INCLUDES + 2):
        (tmp_path / f"{number}.yaml").write_text(f"include: {number + 1}.yaml\n")
    with pytest.raises(InputError, match="at most 10 files can include one another in a row"):
        read_settings(tmp_path / "0.yaml", [])


@pytest.mark.parametrize("value", ["[a.yaml]", "{a: b}", "null", "3", "notes.txt", "a.pth"])
def test_what_cannot_be_included(value, tmp_path):
    (tmp_path / "a.yaml").write_text(f"include: {value}\n")
    with pytest.raises(
        InputError, match=r"a\.yaml: include must be the name of a file ending in \.yaml, \.yml, \.json, got"
    ):
        read_settings(tmp_path / "a.yaml", [])
