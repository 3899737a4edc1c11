# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Metadata files: what is read of them, what is said of the rest, and what is refused in one line."""

import json
import os
import shutil
from pathlib import Path

import datasets
import pandas as pd
import pytest
from test_split_by_clip import write_clips, write_table

from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.data.folders import find_splits, list_audio
from hf_audio_ssm.data.labelled import LabelledDataArguments
from hf_audio_ssm.data.metadata import read_rows
from hf_audio_ssm.data.sources import load_source


@pytest.fixture
def twelve(tmp_path):
    """A folder of twelve clips without labels."""
    return write_clips(tmp_path / "twelve", [f"{index}.wav" for index in range(12)])


ROWS = [(f"{index}.wav", "ab"[index % 2], ("train", "dev", "Test")[index // 2 % 3]) for index in range(12)]


def load(data, **options):
    (clips,) = LabelledDataArguments(data=str(data), **options).load()
    return clips


def names_of(clips) -> dict[str, set[str]]:
    return {split: {Path(row["audio"]["path"]).name for row in rows} for split, rows in clips.splits.items()}


def write_kind(folder: Path, kind: str, rows, columns=("file_name", "label", "split")) -> None:
    frame = pd.DataFrame(rows, columns=list(columns))
    if kind == "csv":
        frame.to_csv(folder / "metadata.csv", index=False)
    elif kind == "jsonl":
        frame.to_json(folder / "metadata.jsonl", orient="records", lines=True)
    else:
        frame.to_parquet(folder / "metadata.parquet")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_the_column_split_is_read(twelve, kind):
    write_kind(twelve, kind, ROWS)
    clips = load(twelve)
    expected = {
        split: {name for name, _, own in ROWS if own == value}
        for split, value in (("train", "train"), ("validation", "dev"), ("test", "Test"))
    }
    assert names_of(clips) == expected
    assert clips.drawn == ()
    assert clips.names == ["a", "b"]
    splits = find_splits(twelve, seed=0)
    assert {split: {path.name for path, _ in own} for split, own in splits.items()} == expected


def test_missing_splits_are_drawn_from_those_of_the_column(twelve):
    write_kind(twelve, "csv", [(name, label, "test" if split == "Test" else "train") for name, label, split in ROWS])
    clips = load(twelve)
    assert clips.drawn == ("validation",)
    assert names_of(clips)["test"] == {name for name, _, split in ROWS if split == "Test"}


def test_labels_of_folders_with_a_column_split(tmp_path):
    names = [f"{label}/{index}.wav" for label in "ab" for index in range(6)]
    folder = write_clips(tmp_path, [*names, "a/left out.wav"])
    write_table(
        folder, [(name, ("train", "val", "test")[index % 3]) for index, name in enumerate(names)], "file_name,split"
    )
    clips = load(folder)
    assert {split: len(rows) for split, rows in clips.splits.items()} == {"train": 4, "validation": 4, "test": 4}
    assert clips.notes[0].endswith("does not list them: a/left out.wav")


def test_a_column_split_that_contradicts_folders_is_refused(tmp_path):
    names = [f"{split}/{label}/{index}.wav" for split in ("train", "test") for label in "ab" for index in range(4)]
    write_clips(tmp_path, names)
    write_table(tmp_path, [(name, name.split("/")[0]) for name in names], "file_name,split")
    assert {split: len(rows) for split, rows in load(tmp_path).splits.items()} == {
        "train": 6,
        "validation": 2,
        "test": 8,
    }
    write_table(tmp_path, [(name, "train") for name in names], "file_name,split")
    with pytest.raises(InputError, match=r"test/a/0\.wav: is in a folder of test, but .*metadata\.csv says train"):
        load(tmp_path)


def test_an_unknown_split_is_refused(twelve):
    for value, message in (
        ("holdout", r"has the split 'holdout' in .*, expected one of train, training, "),
        ("", "no split for '11.wav'"),
    ):
        write_kind(twelve, "csv", [*ROWS[:-1], ("11.wav", "a", value)])
        with pytest.raises(InputError, match=message):
            load(twelve)


def test_audio_that_is_not_listed_is_counted(twelve):
    write_table(twelve, ROWS[:6], "file_name,label,take")
    (twelve / "deep").mkdir()
    shutil.copy(twelve / "6.wav", twelve / "deep" / "x.wav")
    expected = f"7 audio files are not used, as {twelve / 'metadata.csv'} does not list them: 10.wav, 11.wav, 6.wav, 7.wav, 8.wav and 2 more"
    assert load(twelve).notes == [expected, f"columns of {twelve} that are not used: take"]
    with pytest.warns(UserWarning, match="7 audio files are not used"):
        find_splits(twelve, seed=0)


def test_folders_and_files_beside_those_of_splits_are_named(tmp_path):
    names = [f"{split}/{label}/{index}.wav" for split in ("train", "test") for label in "ab" for index in range(4)]
    write_clips(tmp_path, [*names, "extra/0.wav", "loose.wav"])
    assert load(tmp_path).notes == [
        f"audio in {tmp_path} that is in no folder of a split is not used: extra, loose.wav"
    ]
    (tmp_path / "dev").mkdir()
    (tmp_path / "valid").mkdir()
    with pytest.raises(InputError, match="must have one folder of validation, found dev, valid"):
        load(tmp_path)


def test_columns_and_splits_of_data_sets_that_are_not_used_are_named(twelve):
    table = datasets.Dataset.from_dict(
        {
            "audio": [str(twelve / name) for name, _, _ in ROWS],
            "label": [label for _, label, _ in ROWS],
            "take": [1] * 12,
        }
    )
    datasets.DatasetDict(train=table, unsupervised=table).save_to_disk(twelve.parent / "saved")
    source = twelve.parent / "saved"
    assert load(source).notes == [f"columns of {source} that are not used: take", f"splits of {source} that are not used: unsupervised"]  # fmt: skip
    datasets.DatasetDict(train=table, valid=table, dev=table).save_to_disk(twelve.parent / "two")
    with pytest.raises(InputError, match="must have one split validation, found train, valid, dev"):
        load(twelve.parent / "two")


def test_pretraining_says_that_it_takes_all_splits(twelve):
    write_kind(twelve, "csv", ROWS)
    with pytest.warns(UserWarning, match=r"the column split of .*metadata\.csv is not used"):
        assert len(load_source(str(twelve))) == 12


def test_other_columns_of_labels_and_files(twelve):
    write_table(twelve, [(f"{i}.wav", "x", "cd"[i % 2]) for i in range(12)], "sound,label,kind")
    clips = load(twelve, audio_column="sound", label_column="kind")
    assert clips.names == ["c", "d"]
    with pytest.raises(
        InputError, match=r"needs a column species for --label_column, found \['sound', 'label', 'kind'\]"
    ):
        load(twelve, audio_column="sound", label_column="species")


def test_lists_of_labels_and_numbers_in_jsonl(twelve):
    rows = [{"file_name": f"{index}.wav", "label": ["rain", " wind "][: 1 + index % 2]} for index in range(12)]
    (twelve / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    clips = load(twelve)
    assert clips.is_multi_label
    assert clips.names == ["rain", "wind"]
    (twelve / "metadata.jsonl").write_text(
        "\n".join(json.dumps({**row, "label": int(row["file_name"][:-4]) % 2 * 9 + 1}) for row in rows)
    )
    assert load(twelve).names == ["1", "10"]
    (twelve / "metadata.jsonl").write_text(
        "\n".join(json.dumps(row) for row in [*rows[1:], {"file_name": "0.wav", "label": "rain"}])
    )
    with pytest.raises(InputError, match="11 of 12 clips of train have a list of labels, the others one label"):
        load(twelve)


# ---- Labels ----


def make_saved(folder: Path, labels, feature=None) -> Path:
    columns = {"audio": [str(folder / f"{index}.wav") for index in range(12)], "label": labels}
    features = None
    if feature is not None:
        features = datasets.Features({"audio": datasets.Value("string"), "label": feature})
    target = folder.parent / "saved"
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(target)
    return target


@pytest.mark.parametrize("kind", ["csv", "folders", "parquet", "saved", "lists", "class_label"])
def test_labels_are_stripped_in_every_source(twelve, kind):
    # The second is the first in other characters (NFD).
    forms = ["caf\u00e9", " cafe\u0301\t", "dog", "dog "]
    labels = [forms[index % 4] for index in range(12)]
    if kind == "csv":
        source = write_table(twelve, [(f"{index}.wav", label) for index, label in enumerate(labels)])
    elif kind == "folders":
        source = twelve
        for index, label in enumerate(labels):
            (twelve / label).mkdir(exist_ok=True)
            (twelve / f"{index}.wav").rename(twelve / label / f"{index}.wav")
    elif kind == "class_label":
        source = make_saved(twelve, [index % 4 for index in range(12)], datasets.ClassLabel(names=forms))
    else:
        source = make_saved(twelve, [[label] for label in labels] if kind == "lists" else labels)
        if kind == "parquet":
            table = datasets.load_from_disk(source)
            source = twelve.parent / "table.parquet"
            table.to_parquet(source)
    clips = load(source)
    assert clips.names == ["caf\u00e9", "dog"]
    for rows in clips.splits.values():
        for row in rows:
            label = row["label"][0] if kind == "lists" else row["label"]
            assert label == int(Path(row["audio"]["path"]).stem) % 4 // 2


@pytest.mark.parametrize("label", ["", "  ", "a\nb", "x" * 1001, "a\x1b[31m", "a\x00", None])
def test_empty_labels_and_labels_that_cannot_be_printed_are_refused(twelve, label):
    message = (
        "has the label None"
        if label is None
        else "(has an empty label|has the label .*cannot be printed|has a label of 1001 characters)"
    )
    source = make_saved(twelve, ["a", "b"] * 5 + ["a", label])
    with pytest.raises(InputError, match=rf"11\.wav \(split train, row 11\): {message}"):
        load(source)
    if label is None:
        return
    lists = make_saved(twelve.parent / "twelve", [["a"], ["b"]] * 5 + [["a"], ["b", label]])
    with pytest.raises(InputError, match=rf"11\.wav \(split train, row 11\): {message}"):
        load(lists)
    pd.DataFrame({"file_name": [f"{i}.wav" for i in range(12)], "label": ["a", "b"] * 5 + ["a", label]}).to_csv(twelve / "metadata.csv", index=False)  # fmt: skip
    for read in (load, lambda folder: find_splits(folder, seed=0)):
        with pytest.raises(
            InputError,
            match=r"metadata\.csv, row 13: (no label for '11\.wav'|has the label .*cannot be printed|has a label of)",
        ):
            read(twelve)


@pytest.mark.parametrize("feature", [{"name": datasets.Value("string")}, datasets.Value("binary"), datasets.List(datasets.List(datasets.Value("int64")))])  # fmt: skip
def test_columns_that_hold_no_labels_are_refused(twelve, feature):
    values = {dict: {"name": "a"}, datasets.Value: b"a", datasets.List: [[1]]}[type(feature)]
    with pytest.raises(InputError, match="the column of labels must hold text, whole numbers, or lists of these, got"):
        load(make_saved(twelve, [values] * 12, feature))


def test_labels_that_look_alike_are_named(twelve):
    write_table(twelve, [(f"{index}.wav", ("Dog", "dog", "cat")[index % 3]) for index in range(12)])
    assert load(twelve).notes == [
        "labels that differ in capitals or spaces alone are different classes: 'Dog' and 'dog'"
    ]


# ---- What is refused ----


BAD_FILES = {
    "long field": (f"file_name,label\n0.wav,{'x' * 200_000}\n", r"line 2: cannot be read as CSV \(field larger than field limit"),
    "NUL": ("file_name,label\n0\x00.wav,a\n", r"(no file '0\\x00\.wav'|cannot be read as CSV)"),
    "duplicate": ("file_name,label,label\n0.wav,a,b\n", "has the column 'label' twice"),
    "short row": ("file_name,label\n0.wav,a\n1.wav\n", "row 3: has 1 fields, expected 2 as in the header"),
    "long row": ("file_name,label\n0.wav,a,b\n", "row 2: has 3 fields, expected 2"),
    "open quote": ('file_name,label\n"0.wav,a\n1.wav,b\n', r"line 3: cannot be read as CSV \(unexpected end of data\)"),
    "semicolons": ("file_name;label\n0.wav;a\n", r"found \['file_name;label'\]; its fields must be separated by commas"),
    "empty": ("", "is empty, expected a header"),
    "blank": ("\n\n", "(is empty, expected a header|needs a column file_name)"),
    "no clip": ("file_name,label\n,a\n", "no file '' in"),
    "a folder": ("file_name,label\n.,a\n", r"no file '\.' in"),
    "an absolute path": ("file_name,label\n/etc/hostname,a\n", "no file '/etc/hostname' in"),
    "up": ("file_name,label\n../twelve.txt,a\n", "no file '../twelve.txt' in"),
    "long name": (f"file_name,label\n{'x' * 5000},a\n", r"no file 'xxx.*\(5002 characters\)"),
    "escape": ("file_name,label\n\x1b[31m.wav,a\n", r"no file '\\x1b\[31m\.wav'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FILES)
def test_csv_files_that_cannot_be_used_are_refused_in_one_line(twelve, name):
    text, message = BAD_FILES[name]
    (twelve / "metadata.csv").write_text(text, newline="")
    for read in (load, lambda folder: find_splits(folder, seed=0)):
        with pytest.raises(InputError, match=rf"^[^\n]*metadata\.csv[^\n]*{message}[^\n]*$") as error:
            read(twelve)
        assert str(error.value).isprintable()
        assert len(str(error.value)) < 1000


def test_other_metadata_files_that_cannot_be_used_are_refused(twelve):
    path = twelve / "metadata.csv"
    path.write_bytes("file_name,label\n0.wav,a\n".encode("utf-16"))
    with pytest.raises(InputError, match=r"metadata\.csv: must be text in UTF-8 \(it begins as UTF-16 does\)"):
        load(twelve)
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match=r"metadata\.csv: is a folder, expected a file"):
        load(twelve)
    path.rmdir()
    path.symlink_to(twelve / "nothing")
    with pytest.raises(InputError, match=r"metadata\.csv: is no file, expected a file"):
        load(twelve)
    path.unlink()
    if hasattr(os, "mkfifo"):
        # Which nothing is ever written to.
        os.mkfifo(path)
        with pytest.raises(InputError, match=r"metadata\.csv: is no file, expected a file"):
            load(twelve)
        path.unlink()
    bad = [
        ("[1]\n", "line 1: must be a JSON object, got"),
        ('{"file_name": "0.wav"\n', "line 1: cannot be read as JSON"),
        ("[" * 100_000, "line 1: cannot be read as JSON"),
        ('{"file_name": "0.wav", "label": 1' + "0" * 5000 + "}", "line 1: cannot be read as JSON"),
        ('{"file_name": "0.wav", "label": "a", "label": "b"}', "line 1: cannot be read as JSON .*'label' twice"),
        ('{"file_name": "0.wav", "label": NaN}', "row 2: has the label nan, expected text or a whole number"),
        ('{"file_name": "0.wav", "label": {"a": 1}}', "row 2: has the label {'a': 1}, expected text"),
        ('{"file_name": "0.wav", "label": true}', "row 2: has the label True, expected text"),
        ('{"file_name": 7, "label": "a"}', "row 2: no file 7 in"),
        ("", "is empty, expected a JSON object for each clip"),
    ]
    for text, message in bad:
        (twelve / "metadata.jsonl").write_text(text)
        with pytest.raises(InputError, match=rf"^[^\n]*metadata\.jsonl[^\n]*{message}[^\n]*$"):
            load(twelve)
    (twelve / "metadata.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(InputError, match=r"must have one metadata file, found metadata\.jsonl, metadata\.parquet"):
        load(twelve)
    (twelve / "metadata.jsonl").unlink()
    with pytest.raises(InputError, match=r"metadata\.parquet: cannot be read as parquet \([^\n]*\)$"):
        load(twelve)


def test_csv_files_as_other_programs_write_them(twelve):
    rows = "".join(f" {index}.wav ,{'ab'[index % 2]} \r\n" for index in range(11))
    (twelve / "sub").mkdir()
    (twelve / "11.wav").rename(twelve / "sub" / "11.wav")
    (twelve / "metadata.csv").write_bytes(f"\ufefffile_name , label\r\n{rows}\r\nsub\\11.wav,b\r\n".encode())
    columns, table = read_rows(twelve / "metadata.csv")
    assert columns == ["file_name", "label"]
    assert len(table) == 12
    clips = load(twelve)
    assert clips.names == ["a", "b"]
    assert sum(map(len, clips.splits.values())) == 12


def test_names_that_are_not_utf8_are_refused(tmp_path):
    write_clips(tmp_path, [f"{label}/{index}.wav" for label in "ab" for index in range(4)])
    try:
        (tmp_path / "a" / "0.wav").rename(tmp_path / "a" / "h\udcf6.wav")
    except OSError:
        pytest.skip("this file system takes no such names")
    assert len(list_audio(tmp_path)) == 8
    for read in (load, lambda folder: load_source(str(folder))):
        with pytest.raises(InputError, match=r"h\\udcf6\.wav: has a name that is not UTF-8; rename it"):
            read(tmp_path)


def test_metadata_files_that_are_not_read_are_named(tmp_path):
    folder = write_clips(tmp_path, [f"{label}/{index}.wav" for label in "ab" for index in range(4)])
    write_table(folder / "a", [("0.wav", "c")])
    assert load(folder).notes == [f"metadata files that are not read: {Path('a') / 'metadata.csv'}"]


def test_names_of_files_in_other_characters(tmp_path):
    # Written on a Mac, listed elsewhere.
    folder = write_clips(tmp_path, [f"cafe\u0301 {index}.wav" for index in range(12)])
    write_table(folder, [(f"caf\u00e9 {index}.wav", "ab"[index % 2]) for index in range(12)])
    assert sum(map(len, load(folder).splits.values())) == 12


def test_numbers_of_tables_with_gaps(twelve):
    frame = pd.DataFrame({"file_name": [f"{index}.wav" for index in range(12)], "label": ["a", "b"] * 6})
    frame["speaker"] = [index // 4 + 0.0 for index in range(12)]
    frame.to_parquet(twelve / "metadata.parquet")
    clips = load(twelve, group_column="speaker")
    assert {group for groups in clips.groups.values() for group in groups} == {"0", "1", "2"}
    table = datasets.Dataset.from_dict({"audio": [str(twelve / name) for name in frame["file_name"]], "label": frame["label"], "speaker": frame["speaker"]})  # fmt: skip
    table.save_to_disk(twelve.parent / "saved")
    assert load(twelve.parent / "saved", group_column="speaker").groups == clips.groups
    gap = [0.0, 1.0] * 5 + [0.0, float("nan")]
    with pytest.raises(InputError, match=r"11\.wav \(split train, row 11\): has the label nan"):
        load(make_saved(twelve, gap))
    table = table.remove_columns("speaker").add_column("speaker", gap)
    table.save_to_disk(twelve.parent / "gap")
    with pytest.raises(InputError, match="train, row 11 has no group, got nan"):
        load(twelve.parent / "gap", group_column="speaker")
    with pytest.raises(InputError, match="the column speaker must hold whole numbers"):
        load(twelve.parent / "gap", fold_column="speaker", test_folds=[0])


def test_a_split_that_another_source_replaces_is_named(tmp_path):
    names = [f"{split}/{label}/{index}.wav" for split in ("train", "test") for label in "ab" for index in range(4)]
    write_clips(tmp_path / "one", names)
    write_clips(tmp_path / "other", [f"{label}/{index}.wav" for label in "ab" for index in range(3)], seed=1)
    clips = load(tmp_path / "one", test_data=str(tmp_path / "other"))
    assert clips.notes == [f"the split test of {tmp_path / 'one'} is not used, as --test_data is given"]
    assert len(clips.splits["test"]) == 6
