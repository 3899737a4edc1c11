# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Folders of audio: labels and splits are found, and folders that cannot be used are refused."""

import csv
import itertools
import shutil
from collections import Counter
from pathlib import Path

import pytest
from tones import write_tone

from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.data.folders import find_splits, list_audio


SPOKEN_WORDS = Path(__file__).resolve().parents[2] / "examples" / "spoken_words"
SPLITS = ("train", "validation", "test")


def labels_by_split(splits) -> dict[str, Counter]:
    return {split: Counter(label for _, label in clips) for split, clips in splits.items()}


def test_missing_splits_are_drawn_by_label_and_seed(tones):
    splits = find_splits(tones, seed=3)
    assert labels_by_split(splits) == {
        "train": {"high": 4, "low": 4},
        "validation": {"high": 1, "low": 1},
        "test": {"high": 1, "low": 1},
    }
    paths = [path for clips in splits.values() for path, _ in clips]
    assert len(set(paths)) == len(paths) == 12
    assert find_splits(tones, seed=3) == splits
    assert any(find_splits(tones, seed=seed) != splits for seed in (4, 5, 6))


def test_shipped_splits_are_found_as_they_are():
    splits = find_splits(SPOKEN_WORDS, seed=0)
    for split in SPLITS:
        with open(SPOKEN_WORDS / split / "metadata.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert sorted(splits[split]) == sorted((SPOKEN_WORDS / split / r["file_name"], r["label"]) for r in rows)


def test_split_folders_under_other_names(tmp_path):
    seeds = itertools.count()
    for folder, count in (("Training", 3), ("dev", 1)):
        for label in ("a", "b"):
            for index in range(count):
                write_tone(tmp_path / folder / label / f"{index}.wav", 500, seed=next(seeds))
    splits = find_splits(tmp_path, seed=0)
    assert labels_by_split(splits) == {split: {"a": n, "b": n} for split, n in zip(SPLITS, (2, 1, 1), strict=True)}
    assert {path.parent.parent.name for path, _ in splits["validation"]} == {"dev"}
    assert {path.parent.parent.name for path, _ in splits["test"]} == {"Training"}


@pytest.mark.parametrize("where", ["split", "root"])
def test_metadata_labels_win_over_folders(tmp_path, where):
    rows, seeds = [], itertools.count()
    for split in SPLITS:
        for index in range(4):
            write_tone(tmp_path / split / f"{index}.wav", 500, seed=next(seeds))
            rows.append((split, f"{index}.wav", "NA" if index % 2 else "7"))
    for split in SPLITS if where == "split" else ("",):
        lines = [f"{'' if where == 'split' else s + '/'}{name},{label}" for s, name, label in rows if split in ("", s)]
        (tmp_path / split / "metadata.csv").write_text("\n".join(["file_name,label", *lines]) + "\n")
    splits = find_splits(tmp_path, seed=0)
    assert labels_by_split(splits) == {split: {"7": 2, "NA": 2} for split in SPLITS}


def test_metadata_without_labels_leaves_them_to_the_folders(tones):
    (tones / "metadata.csv").write_text("file_name,speaker\nhigh/0.wav,me\n")
    assert sum(len(clips) for clips in find_splits(tones, seed=0).values()) == 12


def test_other_files_are_reported(tones):
    (tones / "high" / "notes.txt").write_text("no audio")
    (tones / "high" / ".hidden.wav").write_text("no audio")
    with pytest.warns(UserWarning, match=r"Not used in .*: 1 \.txt$"):
        assert sum(len(clips) for clips in find_splits(tones, seed=0).values()) == 12


def test_list_audio_goes_down_into_folders_and_skips_hidden_ones(tones):
    (tones / ".cache").mkdir()
    shutil.copy(tones / "low" / "0.wav", tones / ".cache" / "0.wav")
    shutil.copy(tones / "low" / "0.wav", tones / "LOOSE.WAV")
    paths = list_audio(tones)
    assert paths == sorted(paths)
    assert {str(path.relative_to(tones)) for path in paths} >= {"LOOSE.WAV", "low/0.wav", "high/3.mp3"}
    assert len(paths) == 13
    with pytest.raises(InputError, match="nowhere: no such folder"):
        list_audio(tones / "nowhere")


def test_links_are_followed_once(tones):
    for label in ("high", "low"):
        (tones / label).rename(tones.parent / label)
        (tones / label).symlink_to(tones.parent / label)
        (tones.parent / label / "back").symlink_to(tones.parent / label)
    for label, other in (("high", "low"), ("low", "high")):
        (tones / label / "other").symlink_to(tones.parent / other)
    (tones / "newest").symlink_to(tones / "low")
    # Not a clip of one label behind the other's link as well, nor any by another name of its folder.
    assert Counter(path.relative_to(tones).parts for path in list_audio(tones)) == Counter(
        (label, path.name) for label in ("high", "low") for path in (tones.parent / label).glob("*.*")
    )


def test_metadata_may_list_links(tones):
    (tones / "low" / "0.wav").rename(tones.parent / "elsewhere.wav")
    (tones / "low" / "0.wav").symlink_to(tones.parent / "elsewhere.wav")
    names = [f"{label}/{path.name}" for label in ("high", "low") for path in (tones / label).iterdir()]
    rows = [f"{name},{name.partition('/')[0]}" for name in names]
    (tones / "metadata.csv").write_text("\n".join(["file_name,label", *rows]))
    assert sum(len(clips) for clips in find_splits(tones, seed=0).values()) == 12


def refuse_nothing(folder):
    shutil.rmtree(folder)
    return "data: no such folder"


def refuse_empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()
    return "no audio found"


def refuse_one_class(folder):
    shutil.rmtree(folder / "low")
    return r"at least 2 labels, found \['high'\]"


def refuse_unlabelled(folder):
    write_tone(folder / "loose.wav", 500)
    return r"loose\.wav: has no label"


def refuse_few_clips(folder):
    for index in range(2, 6):
        next((folder / "low").glob(f"{index}.*")).unlink()
    return "'low' has 2 clips; .* at least 3"


def refuse_test_without_train(folder):
    (folder / "high").rename(folder / "test")
    shutil.rmtree(folder / "low")
    return "no folder train"


def refuse_new_label_in_test(folder):
    (folder / "train").mkdir()
    for label in ("high", "low"):
        (folder / label).rename(folder / "train" / label)
    write_tone(folder / "test" / "middle" / "0.wav", 1000)
    return "0.wav: has the label 'middle', which no training clip has"


def refuse_missing_file(folder):
    (folder / "metadata.csv").write_text("file_name,label\nhigh/0.wav,high\nhigh/nothing.wav,high\n")
    return r"metadata\.csv, row 3: no file 'high/nothing\.wav'"


def refuse_missing_label(folder):
    (folder / "metadata.csv").write_text("file_name,label\nhigh/0.wav,\n")
    return r"metadata\.csv, row 2: no label for 'high/0\.wav'"


def refuse_other_columns(folder):
    (folder / "metadata.csv").write_text("path,label\nhigh/0.wav,high\n")
    return "needs a column file_name, found"


def refuse_another_encoding(folder):
    (folder / "metadata.csv").write_bytes("file_name,label\nhigh/0.wav,hö\n".encode("latin-1"))
    return r"metadata\.csv: must be text in UTF-8 \(.*0xf6"


def refuse_outside(folder):
    write_tone(folder.parent / "outside.wav", 500)
    (folder / "metadata.csv").write_text("file_name,label\n../outside.wav,high\n")
    return "row 2: no file '../outside.wav'"


@pytest.mark.parametrize("spoil", [value for name, value in list(globals().items()) if name.startswith("refuse_")])
def test_unusable_folders_are_refused(tones, spoil):
    message = spoil(tones)
    with pytest.raises(InputError, match=message):
        find_splits(tones, seed=0)
