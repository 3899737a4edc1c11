# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Clips that cannot be read are left out, listed and counted, up to a share; and what a run says at its beginning."""

import csv
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile
from test_split_by_clip import write_clips, write_table

from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.data.bad_clips import list_clips, refuse_bad_clips, report_bad_clips, start_bad_clips
from hf_audio_ssm.data.labelled import LabelledDataArguments, label_clips
from hf_audio_ssm.training.pretraining.arguments import PretrainingDataArguments


RATE = 16_000


@pytest.fixture
def forty(tmp_path):
    """Forty clips of two labels; a broken one, one of 10 ms, and one that is cut off."""
    folder = write_clips(tmp_path / "forty", [f"{'ab'[index % 2]}/{index}.wav" for index in range(40)])
    (folder / "a" / "0.wav").write_text("no audio")
    soundfile.write(folder / "a" / "2.wav", np.full(160, 0.5), RATE)
    content = (folder / "b" / "1.wav").read_bytes()
    (folder / "b" / "1.wav").write_bytes(content[: 3 * len(content) // 4])
    return folder


def read(folder, **options):
    arguments = LabelledDataArguments(data=str(folder), **options)
    return arguments.check(arguments.load(), RATE)


def test_bad_clips_are_left_out_and_counted(forty, capsys):
    whole = LabelledDataArguments(data=str(forty)).load()[0]
    (clips,) = read(forty)
    assert [(Path(clip).name, reason.partition(" (")[0]) for clip, reason in clips.bad] == [("0.wav", "cannot be read as audio")]  # fmt: skip
    assert sum(map(len, clips.splits.values())) == 39
    assert sum(clips.num_bad.values()) == 1
    assert clips.num_short == 1
    assert [Path(clip).name for clip, _ in clips.defects] == ["1.wav"]
    # The other clips stay in their splits.
    for split, rows in clips.splits.items():
        names = [row["audio"]["path"] for row in rows]
        expected = [
            row["audio"]["path"] for row in whole.splits[split] if not row["audio"]["path"].endswith("a/0.wav")
        ]
        assert names == expected
    printed = capsys.readouterr().out
    assert "left out, as they cannot be read: 1 clip\n" in printed
    assert "padded to one frame, as they are shorter than 25 ms: 1" in printed
    assert "read with a defect: 1 clip\n" in printed


@pytest.mark.parametrize("kind", ["saved", "parquet"])
def test_bad_clips_of_bytes(forty, kind):
    paths = sorted(forty.rglob("*.wav"))
    audio = [{"bytes": path.read_bytes(), "path": None} for path in paths] + [None, {"bytes": b"", "path": None}]
    labels = [path.parent.name for path in paths] + ["a", "b"]
    table = datasets.Dataset.from_dict({"audio": audio, "label": labels})
    source = forty.parent / ("table.parquet" if kind == "parquet" else "saved")
    (table.to_parquet if kind == "parquet" else table.save_to_disk)(source)
    (clips,) = read(source, max_bad_share=0.1)
    assert {clip: reason.partition(" (")[0].partition(":")[0] for clip, reason in clips.bad} == {
        f"row 0 of {source}": "cannot be read as audio",
        f"row 40 of {source}": "holds no audio",
        f"row 41 of {source}": "the file is empty",
    }
    assert sum(map(len, clips.splits.values())) == 39


def test_all_folds_leave_out_the_same_clips(forty):
    rows = [(f"{'ab'[index % 2]}/{index}.wav", "ab"[index % 2], index // 2 % 2) for index in range(40)]
    write_table(forty, rows, "file_name,label,fold")
    runs = read(forty, fold_column="fold")
    assert [sum(map(len, clips.splits.values())) for clips in runs] == [39, 39]
    assert [clips.num_bad.get("test", 0) for clips in runs] == [1, 0]


def test_too_many_bad_clips_are_refused(forty):
    (forty / "a" / "4.wav").write_text("no audio")
    (forty / "b" / "3.wav").write_text("no audio")
    message = r"3 clips cannot be used \(.*/a/0\.wav: .*; .*\); this is 7\.5 % of 40, more than --max_bad_share 0\.05; .* pass --max_bad_share 0\.075$"  # fmt: skip
    with pytest.raises(InputError, match=message):
        read(forty)
    assert len(read(forty, max_bad_share=0.075)[0].bad) == 3
    with pytest.raises(InputError, match=r"3 clips cannot be used .* repair or remove them, or pass --bad_clips skip"):
        read(forty, bad_clips="stop", max_bad_share=1.0)


def test_a_class_or_a_split_without_clips_is_refused(tmp_path):
    folder = write_clips(
        tmp_path, [f"{split}/{label}/{i}.wav" for split in ("train", "test") for label in "ab" for i in range(20)]
    )
    for index in range(20):
        (folder / "train" / "b" / f"{index}.wav").write_text("no audio")
    with pytest.raises(InputError, match="after 20 clips that cannot be read are left out, .*(no training clip has the labels b|is empty)"):  # fmt: skip
        read(folder, max_bad_share=0.9)
    for path in (folder / "test").rglob("*.wav"):
        path.write_text("no audio")
    with pytest.raises(InputError, match="the split test is empty"):
        read(folder, max_bad_share=0.9)


def test_arguments_of_bad_clips():
    for make in (LabelledDataArguments, lambda **options: PretrainingDataArguments(train_data=["a"], **options)):
        options = {"data": "a"} if make is LabelledDataArguments else {}
        with pytest.raises(InputError, match="--bad_clips must be skip or stop, got 'ignore'"):
            make(**options, bad_clips="ignore")
        for share in (-0.1, 1.5, float("nan")):
            with pytest.raises(InputError, match="--max_bad_share must be a share from 0 to 1, got"):
                make(**options, max_bad_share=share)
    with pytest.raises(InputError, match="--bad_clips stop needs --check_clips true"):
        LabelledDataArguments(data="a", bad_clips="stop", check_clips=False)


def test_lists_of_bad_clips(tmp_path, capsys):
    bad = [(f"{index}\n.wav", "no\taudio") for index in range(30)]
    lines = list_clips(bad).splitlines()
    assert lines[0] == r"  0\n.wav: no\taudio"
    assert len(lines) == 21
    assert lines[-1] == "  ... and 10 more"
    report_bad_clips(tmp_path / "out", bad)
    assert "Left out, as they cannot be read: 30 clips, see " in capsys.readouterr().out
    with open(tmp_path / "out" / "skipped_clips.csv", newline="") as file:
        assert list(csv.reader(file)) == [["clip", "reason"], *map(list, bad)]
    with pytest.raises(InputError, match=r"^[^\n]*and 10 more\); this is 30\.0 % of 100"):
        refuse_bad_clips(bad, 100, "skip", 0.05)
    refuse_bad_clips(bad, 600, "skip", 0.05)


def test_a_run_continues_without_the_same_clips(tmp_path):
    start_bad_clips(tmp_path, [("a.wav", "broken")], is_continued=True)
    (tmp_path / "fold-1" / "checkpoint-5").mkdir(parents=True)
    start_bad_clips(tmp_path, [("a.wav", "broken again")], is_continued=True)
    for now in ([], [("b.wav", "broken")]):
        with pytest.raises(
            InputError, match=r"the run left out 1 clips, and now \d cannot be read.*\(a\.wav has changed\)"
        ):
            start_bad_clips(tmp_path, now, is_continued=True)
    start_bad_clips(tmp_path, [], is_continued=False)
    assert not (tmp_path / "skipped_clips.csv").exists()


# ---- The summary ----


def test_the_summary_of_a_run(tmp_path):
    rows = [
        (f"{speaker}/{index}.wav", "a" if index < 6 else "b", f"s{speaker}")
        for speaker in range(10)
        for index in range(8)
    ]
    folder = write_clips(tmp_path, [name for name, _, _ in rows] + ["unlisted.wav"])
    write_table(folder, [(*row, "x") for row in rows], "file_name,label,speaker,take")
    (clips,) = read(folder, group_column="speaker")
    summary = clips.summarize()
    assert sum(own.num_groups for own in summary.splits.values()) == 10
    assert all(own.num_clips == 8 * own.num_groups and own.num_classes == 2 for own in summary.splits.values())
    assert summary.chance() == {"accuracy": 0.75, "balanced_accuracy": 0.5}
    text = str(summary).splitlines()
    assert text[0] == f"Data: {folder}, 2 classes, one label a clip"
    train, test = summary.splits["train"], summary.splits["test"]
    assert text[1] == f"  train: {train.num_clips} clips, 2 classes, {train.num_groups} groups (speaker)"
    assert (
        text[3] == f"  test: {test.num_clips} clips, 2 classes, {test.num_groups} groups (speaker), drawn from train"
    )
    assert "  chance level on test: accuracy 75.0 %, balanced accuracy 50.0 %" in text
    assert f"  note: 1 audio files are not used, as {folder / 'metadata.csv'} does not list them: unlisted.wav" in text
    assert f"  note: columns of {folder} that are not used: take" in text


def test_the_summary_of_several_labels():
    audio = [f"{index}.wav" for index in range(40)]
    labels = [[1, 0, 0] if index % 2 else [1, 1, 0] for index in range(39)] + [[0, 0, 1]]
    rows = datasets.Dataset.from_dict({"audio": audio, "label": labels}).cast_column(
        "audio", datasets.Audio(decode=False)
    )
    summary = label_clips({"train": rows}, "data").summarize()
    counts = np.array(summary.splits["test"].counts)
    assert summary.chance()["mAP"] == pytest.approx(counts[counts > 0].mean() / summary.splits["test"].num_clips)
    assert "    without clips of: 2" in str(summary).splitlines()
