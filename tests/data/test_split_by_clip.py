# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Splits hold clips, not rows: a clip is on one side, with one label, and so is a group of clips."""

import shutil
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile

from hf_audio_ssm.common.errors import ClipError, InputError
from hf_audio_ssm.data.clip_identity import number_clips
from hf_audio_ssm.data.folders import find_splits
from hf_audio_ssm.data.labelled import LabelledDataArguments
from hf_audio_ssm.data.sources import load_and_hold_out
from hf_audio_ssm.data.splits import draw_missing_splits


def write_clips(folder: Path, names, seed=0) -> Path:
    """Clips of noise, each its own."""
    rng = np.random.default_rng(seed)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.uniform(-0.5, 0.5, 800), 16_000)
    return folder


def write_table(folder: Path, rows, header="file_name,label") -> Path:
    (folder / "metadata.csv").write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return folder


def load(data, **options):
    (clips,) = LabelledDataArguments(data=str(data), **options).load()
    return clips


def paths_of(clips) -> dict[str, list[str]]:
    return {split: [Path(row["audio"]["path"]).name for row in rows] for split, rows in clips.splits.items()}


def as_bytes(folder: Path, rows) -> datasets.Dataset:
    audio = [{"bytes": (folder / name).read_bytes(), "path": None} for name, _ in rows]
    return datasets.Dataset.from_dict({"audio": audio, "label": [label for _, label in rows]})


@pytest.fixture
def six(tmp_path):
    return write_clips(tmp_path / "six", [f"{index}.wav" for index in range(6)])


# ---- Rows of one clip ----


def test_contradicting_labels_of_a_clip_are_refused_by_name(six):
    rows = [(f"{index % 6}.wav", "ab"[index // 6 % 2]) for index in range(24)]
    write_table(six, rows)
    expected = r"0\.wav.*: has the labels 'a' and 'b' in different rows \(and .* more such clips\)"
    with pytest.raises(ClipError, match=expected):
        load(six)
    with pytest.raises(ClipError, match=expected):
        find_splits(six, seed=0)
    as_bytes(six, rows).save_to_disk(six.parent / "saved")
    as_bytes(six, rows).to_parquet(six.parent / "rows.parquet")
    for source in ("saved", "rows.parquet"):
        with pytest.raises(ClipError, match="has the labels 'a' and 'b' in different rows"):
            load(six.parent / source)


def test_rows_of_a_clip_count_once(tmp_path):
    folder = write_clips(tmp_path, [f"{index}.wav" for index in range(20)])
    rows = [(f"{index % 20}.wav", "ab"[index % 2]) for index in range(60)]
    # The same file by other names of its folder.
    rows += [("./0.wav", "a"), ("x/../1.wav", "b")]
    (folder / "x").mkdir()
    write_table(folder, rows)
    clips = load(folder)
    assert Counter(name for names in paths_of(clips).values() for name in names) == {f"{i}.wav": 1 for i in range(20)}
    assert clips.notes[-1] == "42 rows of train repeat a clip; each clip counts once"
    with pytest.warns(UserWarning, match="42 rows of train repeat a clip"):
        splits = find_splits(folder, seed=0)
    assert sorted(path.name for own in splits.values() for path, _ in own) == sorted(f"{i}.wav" for i in range(20))
    as_bytes(folder, rows[:60]).save_to_disk(tmp_path / "saved")
    clips = load(tmp_path / "saved")
    assert sum(map(len, clips.splits.values())) == 20


def test_rows_of_a_clip_of_several_labels_are_taken_together(six):
    write_table(six, [(f"{index}.wav", label) for index in range(6) for label in ("rain", "wind" if index else "sun")])
    (six / "metadata.csv").write_text((six / "metadata.csv").read_text() + "5.wav,sun\n4.wav,sun\n")
    clips = load(six, multi_label=True)
    found = {
        Path(row["audio"]["path"]).name: {clips.names[label] for label in row["label"]}
        for rows in clips.splits.values()
        for row in rows
    }
    assert found["0.wav"] == {"rain", "sun"}
    assert found["1.wav"] == {"rain", "wind"}
    assert found["5.wav"] == {"rain", "wind", "sun"}
    assert "their labels were taken together" in clips.notes[-1]


# ---- Files of equal content ----


def copies(folder: Path, count: int) -> Path:
    """Of each of two labels, `count` clips and a copy of each under another name."""
    for label in ("a", "b"):
        write_clips(folder / label, [f"{index}.wav" for index in range(count)], seed=ord(label))
        for index in range(count):
            shutil.copy(folder / label / f"{index}.wav", folder / label / f"copy of {index}.wav")
    return folder


@pytest.mark.parametrize("seed", range(2))
def test_copies_are_drawn_together(tmp_path, seed):
    folder = copies(tmp_path, 8)
    for splits in (
        find_splits(folder, seed),
        {s: [(Path(row["audio"]["path"]), 0) for row in rows] for s, rows in load(folder, split_seed=seed).splits.items()},
    ):  # fmt: skip
        sides = [{path.read_bytes() for path, _ in own} for own in splits.values()]
        assert len(set.union(*sides)) == sum(map(len, sides)) == 16
        assert sum(map(len, splits.values())) == 32


def test_copies_of_different_labels_are_refused_by_name(tmp_path):
    folder = copies(tmp_path, 4)
    shutil.copy(folder / "a" / "0.wav", folder / "b" / "odd.wav")
    expected = r"odd\.wav.*: has the label 'b', but the content of .*0\.wav.*, which has the label 'a'"
    with pytest.raises(ClipError, match=expected):
        load(folder)
    with pytest.raises(ClipError, match=expected):
        find_splits(folder, seed=0)


def test_clips_that_given_splits_share(tmp_path):
    for split in ("train", "validation", "test"):
        for label in ("a", "b"):
            write_clips(tmp_path / split / label, ["0.wav", "1.wav"], seed=hash((split, label)) % 1000)
    shutil.copy(tmp_path / "train" / "a" / "0.wav", tmp_path / "test" / "a" / "other name.wav")
    clips = load(tmp_path)
    assert clips.shared == {"test": 1}
    assert clips.notes[-1].startswith("1 clips of test are not held out: an earlier split has their content, such as ")
    assert "other name.wav" in clips.notes[-1]
    with pytest.warns(UserWarning, match="1 clips of test are not held out"):
        find_splits(tmp_path, seed=0)
    # Bytes and files.
    rows = [("train/a/1.wav", "a"), ("train/b/1.wav", "b"), ("test/a/1.wav", "a")]
    as_bytes(tmp_path, rows).save_to_disk(tmp_path / "saved")
    assert load(tmp_path / "train", test_data=str(tmp_path / "saved")).shared == {"test": 2}
    # One file in two splits is a mistake; so is a link to it.
    with pytest.raises(ClipError, match=r"0\.wav.*: is in the splits train and test"):
        load(tmp_path / "train", test_data=str(tmp_path / "train"))
    (tmp_path / "validation" / "a" / "link.wav").symlink_to(tmp_path / "train" / "a" / "0.wav")
    for read in (load, lambda folder: find_splits(folder, seed=0)):
        with pytest.raises(ClipError, match=r"link\.wav.*: is in the splits train and validation"):
            read(tmp_path)


def test_folds_of_a_clip(tmp_path):
    folder = write_clips(tmp_path, [f"{index}.wav" for index in range(24)])
    shutil.copy(folder / "0.wav", folder / "23.wav")
    rows = [(f"{index}.wav", "ab"[index % 2] if index < 23 else "a", 1 + index // 8) for index in range(24)]
    write_table(folder, rows, "file_name,label,fold")
    runs = LabelledDataArguments(data=str(folder), fold_column="fold").load()
    assert [clips.shared.get("test") for clips in runs] == [1, None, 1]
    write_table(folder, [*rows, ("0.wav", "a", 2)], "file_name,label,fold")
    with pytest.raises(InputError, match=r"row 26: .*0\.wav has the fold '2', and '1' in another row"):
        LabelledDataArguments(data=str(folder), fold_column="fold").load()


def test_numbers_of_clips(tmp_path):
    write_clips(tmp_path, ["a.wav", "b.wav", "c.wav"])
    shutil.copy(tmp_path / "a.wav", tmp_path / "copy.wav")
    (tmp_path / "hard.wav").hardlink_to(tmp_path / "b.wav")
    (tmp_path / "empty.wav").touch()
    (tmp_path / "nothing.wav").touch()
    # Differs in its beginning alone.
    (tmp_path / "almost.wav").write_bytes(b"x" + (tmp_path / "c.wav").read_bytes()[1:])
    for name in ("silent.wav", "quiet.wav"):
        soundfile.write(tmp_path / name, np.zeros(800), 16_000)
    names = ["a.wav", "copy.wav", "b.wav", "hard.wav", "c.wav", "almost.wav", "empty.wav", "nothing.wav", "none.wav", "silent.wav", "quiet.wav"]  # fmt: skip
    numbers = number_clips([tmp_path / name for name in names])
    assert numbers.contents.tolist() == [0, 0, 2, 2, 4, 5, 6, 7, 8, 9, 10]
    assert numbers.files.tolist() == [0, 1, 2, 2, 4, 5, 6, 7, 8, 9, 10]
    content = {"bytes": (tmp_path / "a.wav").read_bytes(), "path": "elsewhere.wav"}
    rows = [{"bytes": None, "path": str(tmp_path / "a.wav")}, content, content, {"bytes": None, "path": None}, None]
    assert number_clips(rows).contents.tolist() == [0, 0, 0, 3, 4]
    assert len(number_clips([]).files) == 0


def test_clips_held_out_of_pretraining_are_trained_on_under_no_name(tmp_path):
    first, second = write_clips(tmp_path / "first", [f"{index}.wav" for index in range(60)]), tmp_path / "second"
    shutil.copytree(first, second)
    for weights in (None, [1.0, 2.0]):
        with pytest.warns(UserWarning, match=r"12 clips are not trained on, as they equal clips that are held out"):
            train, held_out = load_and_hold_out([str(first), str(second)], weights, seed=1)
        contents = [{Path(row["audio"]["path"]).read_bytes() for row in part} for part in (train, held_out)]
        assert not contents[0] & contents[1]
        assert len(held_out) == 12


# ---- Groups ----


def grouped(folder: Path, num_groups: int, clips_each: int = 6) -> Path:
    """Clips of `num_groups` speakers, each of both labels."""
    rows = [(f"{g}/{i}.wav", "ab"[i % 2], f"s{g}") for g in range(num_groups) for i in range(clips_each)]
    write_clips(folder, [name for name, _, _ in rows])
    return write_table(folder, rows, "file_name,label,speaker")


def speakers(rows) -> set[str]:
    return {Path(row["audio"]["path"]).parent.name for row in rows}


@pytest.mark.parametrize(("kind", "num_groups"), [("csv", 3), ("csv", 10), ("parquet", 10), ("saved", 3)])
def test_groups_stay_apart(tmp_path, kind, num_groups):
    folder = source = grouped(tmp_path / "clips", num_groups)
    if kind != "csv":
        rows = [line.split(",") for line in (folder / "metadata.csv").read_text().split()[1:]]
        table = datasets.Dataset.from_dict(
            {"audio": [str(folder / row[0]) for row in rows], "label": [row[1] for row in rows], "speaker": [row[2] for row in rows]}
        )  # fmt: skip
        source = tmp_path / ("table.parquet" if kind == "parquet" else "saved")
        (table.to_parquet if kind == "parquet" else table.save_to_disk)(source)
    for seed in range(3):
        clips = load(source, group_column="speaker", split_seed=seed)
        sides = [speakers(rows) for rows in clips.splits.values()]
        assert sum(map(len, sides)) == len(set.union(*sides)) == num_groups
        assert all(set(rows["label"]) == {0, 1} for rows in clips.splits.values())
        assert {split: set(groups) for split, groups in clips.groups.items()} == {
            split: {f"s{name}" for name in side} for split, side in zip(clips.splits, sides, strict=True)
        }
    assert load(source, group_column="speaker", split_seed=2).groups == clips.groups
    if kind == "csv":
        splits = find_splits(folder, 0, group_column="speaker")
        sides = [{path.parent.name for path, _ in own} for own in splits.values()]
        assert sum(map(len, sides)) == len(set.union(*sides)) == num_groups


def test_groups_that_share_a_clip_are_drawn_as_one():
    groups = [f"g{index // 4}" for index in range(40)]
    contents = list(range(40))
    # A clip of the first group is also in the last.
    contents[39] = 0
    classes = [[index % 2] for index in range(40)]
    for seed in range(5):
        drawn = draw_missing_splits(classes, ["ab"[index % 2] for index in range(40)], ["validation", "test"], seed, "data", contents, groups)  # fmt: skip
        (side,) = {split for split, own in drawn.items() if 0 in own}
        assert set(range(4)) | set(range(36, 40)) <= set(drawn[side])


def test_groups_that_cannot_be_kept_apart_are_refused(tmp_path):
    folder = grouped(tmp_path / "two", 2)
    with pytest.raises(InputError, match="has 2 groups of --group_column; .* at least 3 are needed"):
        load(folder, group_column="speaker")
    with pytest.raises(InputError, match=r"needs a column recorder for --group_column, found \['file_name', 'label', 'speaker'\]"):  # fmt: skip
        load(folder, group_column="recorder")
    for label in ("a", "b"):
        write_clips(tmp_path / "bare" / label, ["0.wav", "1.wav", "2.wav"], seed=ord(label))
    with pytest.raises(InputError, match=r"bare: --group_column needs a metadata\.csv with the columns file_name and speaker"):  # fmt: skip
        load(tmp_path / "bare", group_column="speaker")
    # Each label is one speaker's.
    rows = [(f"{g}/{i}.wav", f"label {g}", f"s{g}") for g in range(4) for i in range(4)]
    write_clips(tmp_path / "own", [name for name, _, _ in rows])
    write_table(tmp_path / "own", rows, "file_name,label,speaker")
    with pytest.raises(InputError, match="no draw of groups leaves each label a training clip"):
        load(tmp_path / "own", group_column="speaker")
    with pytest.raises(InputError, match="--label_column and --group_column must be different columns, got 'label'"):
        LabelledDataArguments(data=str(folder), group_column="label")


def test_groups_that_given_splits_share_are_refused(tmp_path):
    for number, split in enumerate(("train", "validation", "test")):
        grouped(tmp_path / split, 2 + number)
    with pytest.raises(InputError, match="the group 's0' is in the splits train and validation, and 2 more groups are in"):  # fmt: skip
        load(tmp_path, group_column="speaker")
    folder = grouped(tmp_path / "folds", 4)
    lines = (folder / "metadata.csv").read_text().split()
    table = [f"{line},{'fold' if not index else index // 2 % 2}" for index, line in enumerate(lines)]
    (folder / "metadata.csv").write_text("\n".join(table))
    with pytest.raises(InputError, match="--group_column: the group 's0' is in the splits train and test"):
        load(folder, group_column="speaker", fold_column="fold", test_folds=[1])


@pytest.mark.parametrize("group", ["", " ", None])
def test_clips_without_a_group_are_refused(tmp_path, group):
    folder = grouped(tmp_path, 4)
    lines = (folder / "metadata.csv").read_text().split()
    paths = [str(folder / line.split(",")[0]) for line in lines[1:]]
    groups = [line.split(",")[2] for line in lines[1:-1]] + [group]
    datasets.Dataset.from_dict({"audio": paths, "label": [0, 1] * 12, "who": groups}).save_to_disk(tmp_path / "saved")
    with pytest.raises(InputError, match=r"train, row 23 has no group, got "):
        load(tmp_path / "saved", group_column="who")
    if group is not None:
        lines[-1] = f"{lines[-1].rpartition(',')[0]},{group}"
        (folder / "metadata.csv").write_text("\n".join(lines))
        with pytest.raises(InputError, match=r"metadata\.csv, row 25: no speaker for '3/5\.wav'"):
            load(folder, group_column="speaker")
