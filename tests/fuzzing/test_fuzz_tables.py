# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Metadata files of any content: they are read as they are meant, or refused in one line that names the file."""

import csv
import io
import json
from pathlib import Path

import pytest
from fuzzing import check_examples, many_examples
from hypothesis import strategies as st
from tones import write_tone

from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.data.folders import FolderColumns, read_folder
from hf_audio_ssm.data.metadata import clean_text, label_fault


NAMES = ("0.wav", "1.wav", "sub/2.wav")
COLUMNS = FolderColumns(group="speaker")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    for name in NAMES:
        write_tone(folder / name, 500, seconds=0.03)
    return folder


def read(folder: Path, name: str, content: bytes):
    """The clips of each split, or None for a table that was refused."""
    path = folder / name
    path.write_bytes(content)
    try:
        return read_folder(folder, COLUMNS).splits
    except InputError as error:
        message = str(error)
        assert message.isprintable()
        assert len(message) < 2000
        # It names the table, the clip or the folder.
        assert str(folder) in message
        return None
    finally:
        path.unlink()


def check_clips(folder: Path, splits) -> None:
    for clips in (splits or {}).values():
        for clip in clips:
            assert clip.path.is_file()
            assert folder in clip.path.resolve().parents
            for label in clip.label if isinstance(clip.label, list) else [clip.label]:
                assert label_fault(label) is None
                assert not isinstance(label, str) or label == clean_text(label)
            assert clip.group == clean_text(clip.group)
            assert clip.group


PIECES = st.sampled_from(
    ["file_name", "label", "speaker", "split", *NAMES, ",", ",", ",", "\n", "\n", "\r\n", "\r", '"', '""', ";", "\t", " ", "a", "b",
     "train", "test", "\x00", "\ufeff", "\x1b[31m", "..", "/", "\\", "'", "\u2028", "x" * 140_000]
)  # fmt: skip
CSV = st.one_of(
    st.lists(PIECES | st.text(max_size=3), max_size=40).map(lambda pieces: "".join(pieces).encode("utf-8", "surrogatepass")),
    st.lists(PIECES, max_size=30).map(lambda pieces: ("file_name,label,speaker\n0.wav,a,s\n" + "".join(pieces)).encode()),
    st.binary(max_size=60),
    st.text(max_size=20).map(lambda text: f"file_name,label,speaker\n0.wav,{text},s\n".encode("utf-16", "surrogatepass")),
)  # fmt: skip


@many_examples
def test_any_csv_is_read_or_refused(folder, num_examples):
    check_examples(num_examples, lambda content: check_clips(folder, read(folder, "metadata.csv", content)), CSV)


VALUES = st.sampled_from(
    [None, True, 0, -7, 10**30, 0.5, float("nan"), float("inf"), "", " ", "a", "train", "\x00", "\ud800", [], ["a", "b "], [[]], [None],
     {}, {"a": 1}, *NAMES]
) | st.text(max_size=4)  # fmt: skip
ROWS = st.dictionaries(
    st.sampled_from(["file_name", "label", "speaker", "split", "take"]) | st.text(max_size=3), VALUES, max_size=5
)
GOOD_ROWS = st.builds(
    lambda name, label, rest: {"speaker": "s", **rest, "file_name": name, "label": label},
    st.sampled_from(NAMES), VALUES, ROWS,
)  # fmt: skip
JSONL = st.one_of(
    st.lists(ROWS | GOOD_ROWS | VALUES, max_size=4).map(lambda rows: "\n".join(map(json.dumps, rows)).encode()),
    st.lists(GOOD_ROWS, max_size=4).map(lambda rows: "\n".join(map(json.dumps, rows)).encode()),
    st.text(alphabet='{}[]",:0123456789.eE-+abtruefalsn\\u \n', max_size=40).map(str.encode),
    st.binary(max_size=40),
    st.integers(1, 200_000).map(lambda depth: b"[" * depth),
)


@many_examples
def test_any_jsonl_is_read_or_refused(folder, num_examples):
    check_examples(num_examples, lambda content: check_clips(folder, read(folder, "metadata.jsonl", content)), JSONL)


TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
TABLES = st.tuples(
    st.lists(st.tuples(st.sampled_from(NAMES), TEXTS), min_size=1, max_size=6),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["\n", "\r\n"]),
)


@many_examples
def test_tables_that_were_written_are_read_as_they_are(folder, num_examples):
    def check(table) -> None:
        rows, quoting, end = table
        file = io.StringIO()
        writer = csv.writer(file, quoting=quoting, lineterminator=end)
        writer.writerows([("file_name", "label", "speaker"), *((name, label, "s") for name, label in rows)])
        splits = read(folder, "metadata.csv", file.getvalue().encode())
        if any(label_fault(label) for _, label in rows):
            assert splits is None
        else:
            found = [(clip.path.relative_to(folder).as_posix(), clip.label) for clip in splits["train"]]
            assert found == [(name, clean_text(label)) for name, label in rows]

    check_examples(num_examples, check, TABLES)
