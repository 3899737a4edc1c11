# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Labelled clips from every kind of source, and what is said of wrong labels."""

import copy

import datasets
import numpy as np
import pytest
import soundfile
import torch
from labelled_tones import PITCHES, write_tones

from hf_audio_ssm import SsambaFeatureExtractor
from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.data.augmentation import Augmentation, Mixup, SpecAugment
from hf_audio_ssm.data.labelled import LabelledDataArguments, label_clips
from hf_audio_ssm.data.labelled_collator import LabelledClipCollator
from hf_audio_ssm.data.splits import draw_missing_splits


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    return write_tones(tmp_path_factory.mktemp("tones"), {"train": 4, "test": 2})


def make_table(labels, label_type=None) -> datasets.Dataset:
    paths = [f"{index}.wav" for index in range(len(labels))]
    features = None
    if label_type is not None:
        features = datasets.Features({"audio": datasets.Value("string"), "label": label_type})
    table = datasets.Dataset.from_dict({"audio": paths, "label": labels}, features=features)
    return table.cast_column("audio", datasets.Audio(decode=False))


def test_folder(tones):
    (clips,) = LabelledDataArguments(data=str(tones)).load()
    assert clips.names == sorted(PITCHES)
    assert clips.problem_type == "single_label_classification"
    # Validation is drawn from train, label by label.
    assert {split: len(rows) for split, rows in clips.splits.items()} == {"train": 12, "validation": 4, "test": 8}
    assert sorted(clips.splits["validation"]["label"]) == [0, 1, 2, 3]
    for rows in clips.splits.values():
        for row in rows:
            assert f"/{clips.names[row['label']]}/" in row["audio"]["path"]


def test_other_sources_for_other_splits(tones, tmp_path):
    arguments = LabelledDataArguments(data=str(tones / "train"), test_data=str(tones / "test"), split_seed=1)
    (clips,) = arguments.load()
    assert {split: len(rows) for split, rows in clips.splits.items()} == {"train": 12, "validation": 4, "test": 8}


@pytest.mark.parametrize("kind", ["parquet", "disk"])
def test_tables(tones, tmp_path, kind):
    (clips,) = LabelledDataArguments(data=str(tones)).load()
    splits = {
        name: rows.map(lambda row: {"audio": {"bytes": open(row["audio"]["path"], "rb").read(), "path": None}})
        for name, rows in clips.splits.items()
    }
    if kind == "disk":
        datasets.DatasetDict(splits).save_to_disk(tmp_path / "saved")
        arguments = LabelledDataArguments(data=str(tmp_path / "saved"))
    else:
        for name, rows in splits.items():
            rows.to_parquet(tmp_path / f"{name}.parquet")
        paths = {name: str(tmp_path / f"{name}.parquet") for name in splits}
        arguments = LabelledDataArguments(paths["train"], validation_data=paths["validation"], test_data=paths["test"])
    (loaded,) = arguments.load()
    assert loaded.names == clips.names
    for name, rows in clips.splits.items():
        assert loaded.splits[name]["label"] == rows["label"]
        assert loaded.splits[name][0]["audio"]["bytes"]


def test_several_labels_in_a_metadata_csv(tmp_path):
    for index in range(8):
        soundfile.write(tmp_path / f"{index}.wav", np.zeros(1000), 16000)
    rows = "".join(f"{index}.wav,{'rain; wind' if index % 2 else 'rain'}\n" for index in range(8))
    (tmp_path / "metadata.csv").write_text(f"file_name,label\n{rows}")
    (clips,) = LabelledDataArguments(data=str(tmp_path), multi_label=True).load()
    assert clips.names == ["rain", "wind"]
    assert clips.problem_type == "multi_label_classification"
    assert {tuple(label) for rows in clips.splits.values() for label in rows["label"]} == {(0,), (0, 1)}


@pytest.mark.parametrize("kind", ["csv", "disk"])
def test_folds(tmp_path, kind):
    for index in range(24):
        soundfile.write(tmp_path / f"{index}.wav", np.zeros(1000), 16000)
    labels, folds = [["cat", "dog"][index % 2] for index in range(24)], [1 + index // 8 for index in range(24)]
    if kind == "csv":
        rows = "".join(f"{i}.wav,{label},{fold}\n" for i, (label, fold) in enumerate(zip(labels, folds, strict=True)))
        (tmp_path / "metadata.csv").write_text(f"file_name,label,fold\n{rows}")
        data = tmp_path
    else:
        audio = [str(tmp_path / f"{index}.wav") for index in range(24)]
        data = tmp_path / "saved"
        datasets.Dataset.from_dict({"audio": audio, "label": labels, "fold": folds}).save_to_disk(data)
    runs = LabelledDataArguments(data=str(data), fold_column="fold").load()
    assert [clips.fold for clips in runs] == [1, 2, 3]
    for clips in runs:
        start = 8 * (clips.fold - 1)
        tested = {row["audio"]["path"].rsplit("/")[-1] for row in clips.splits["test"]}
        assert tested == {f"{index}.wav" for index in range(start, start + 8)}
        assert len(clips.splits["train"]) + len(clips.splits["validation"]) == 16
    (second,) = LabelledDataArguments(data=str(data), fold_column="fold", test_folds=[2]).load()
    assert second.fold == 2
    assert LabelledDataArguments(data=str(data), fold_column="fold", test_folds=[2]).load_one().fold == 2
    with pytest.raises(InputError, match=r"--test_folds must name one fold here, got .* the folds \[1, 2, 3\]"):
        LabelledDataArguments(data=str(data), fold_column="fold").load_one()
    with pytest.raises(InputError, match=r"--test_folds 7: .* has clips in the folds \[1, 2, 3\]"):
        LabelledDataArguments(data=str(data), fold_column="fold", test_folds=[7]).load()
    with pytest.raises(InputError, match="needs a column part"):
        LabelledDataArguments(data=str(data), fold_column="part").load()


def test_folds_of_clips_in_the_folders_of_their_labels(tmp_path):
    folder = write_tones(tmp_path, {"": 6}, labels=("low", "high"))
    rows = [f"{label}/{clip}.wav,{clip // 2}" for clip in range(6) for label in ("low", "high")]
    (folder / "metadata.csv").write_text("\n".join(["file_name,fold", *rows]))
    runs = LabelledDataArguments(data=str(folder), fold_column="fold").load()
    assert [clips.fold for clips in runs] == [0, 1, 2]
    for clips in runs:
        tested = {row["audio"]["path"].removeprefix(f"{folder}/") for row in clips.splits["test"]}
        assert tested == {f"{label}/{2 * clips.fold + clip}.wav" for label in ("low", "high") for clip in (0, 1)}
    (folder / "metadata.csv").write_text("\n".join(["file_name,fold", *rows[1:]]))
    with pytest.raises(InputError, match=r"low/0\.wav: has no fold: .*metadata\.csv does not list it"):
        LabelledDataArguments(data=str(folder), fold_column="fold").load()


NAMES = datasets.ClassLabel(names=["a", "b", "c"])


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"train": make_table(["a", "b"]), "test": make_table([], datasets.Value("string"))}, "split test is empty"),
        ({"test": make_table(["a", "b"])}, "has the splits test, but no train"),
        ({"train": make_table(["a"] * 9)}, r"at least 2 labels, found \['a'\]"),
        ({"train": make_table(["a", "b"] * 9), "test": make_table(["d"])}, r"test, row 0.* label 'd', .* a, b"),
        ({"train": make_table(["a", "b", None] * 9)}, r"0.wav|2.wav.* has the label None"),
        ({"train": make_table([0, 1, 3] * 9), "test": make_table([5])}, "has the label 5, expected one of 0, 1, 3"),
        ({"train": make_table([0, 1] * 9, NAMES)}, "no training clip has the labels c"),
        ({"train": make_table([[0, 1], [1]] * 9, datasets.List(NAMES))}, "no training clip has the labels c"),
        ({"train": make_table([0, 1, 2] * 9, NAMES), "test": make_table([0], datasets.ClassLabel(names=["b", "a"]))},
         r"split test names its classes \['b', 'a'\]"),
        ({"train": make_table(["a", "b", "b", "b"])}, "label 'a' has 1 clips"),
        ({"train": make_table([[0, 1, 1], [1, 0, 0]] * 9, datasets.List(NAMES))}, "lists of a ClassLabel must hold the ind"),
        ({"train": make_table([[True, False], [True, False]])}, "no training clip has the labels 1"),
        ({"train": make_table(["a", "b"] * 9), "test": make_table([["a", "b"]])}, "split test has lists of labels, train has one"),
        ({"train": make_table([[0.0, 0.5], [1.0, 0.0]])}, "must hold the indices or the names .* type float64"),
        ({"train": make_table([["a"], ["b"], ["c"]])}, "too few clips of each label to draw validation"),
    ],
)  # fmt: skip
def test_wrong_labels(tables, message):
    with pytest.raises(InputError, match=message):
        label_clips(tables, "data")


@pytest.mark.parametrize("kind", [int, bool, float])
def test_a_zero_or_a_one_for_every_class(kind):
    hot = [[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 0, 1]] * 5
    clips = label_clips({"train": make_table([list(map(kind, label)) for label in hot])}, "data")
    assert clips.is_multi_label
    assert clips.names == ["0", "1", "2"]
    found = {row["audio"]["path"]: row["label"] for split in clips.splits.values() for row in split}
    assert found == {f"{row}.wav": [place for place in range(3) if label[place]] for row, label in enumerate(hot)}


def test_missing_splits_are_drawn_without_changing_anything():
    classes = [[0], [1], [0], [1], [0, 2], [1]]
    strata = ["any"] * len(classes)
    before = copy.deepcopy(classes)
    drawn = draw_missing_splits(classes, strata, ["validation", "test"], seed=3, source="data")
    assert drawn == draw_missing_splits(classes, strata, ["validation", "test"], seed=3, source="data")
    assert sorted(index for indices in drawn.values() for index in indices) == list(range(6))
    assert 4 in drawn["train"]
    assert classes == before


def test_what_looks_like_several_labels_is_told(tmp_path):
    folder = write_tones(tmp_path, {"": 3}, labels=("low", "high"))
    rows = [
        f"{label}/{clip}.wav,{'low;high' if label == 'low' else label}"
        for label in ("low", "high")
        for clip in range(3)
    ]
    (folder / "metadata.csv").write_text("\n".join(["file_name,label", *rows]))
    with pytest.warns(UserWarning, match="'low;high' is read as one label; .* --multi_label true"):
        (clips,) = LabelledDataArguments(data=str(folder)).load()
    assert clips.names == ["high", "low;high"]


def test_one_of_two_classes_each():
    # As labels, every clip would have both.
    clips = label_clips({"train": make_table([[0, 1], [1, 0]] * 9)}, "data")
    assert sorted(map(tuple, {tuple(label) for label in clips.splits["train"]["label"]})) == [(0,), (1,)]


@pytest.mark.parametrize("kind", [datasets.Value("int64"), datasets.ClassLabel(names=["a", "b", "c", "d"])])
def test_events_of_one_class_may_come_twice(kind):
    clips = label_clips({"train": make_table([[0, 0, 1], [2, 3]] * 9, datasets.List(kind))}, "data")
    assert {tuple(label) for label in clips.splits["train"]["label"]} == {(0, 1), (2, 3)}


def test_few_clips_of_several_labels():
    for seed in range(20):
        clips = label_clips({"train": make_table([["x", "y"], ["y", "z"]] * 2)}, "data", seed)
        assert sorted(len(split) for split in clips.splits.values()) == [1, 1, 2]
        assert {label for labels in clips.splits["train"]["label"] for label in labels} == {0, 1, 2}


def test_clips_of_several_labels_are_drawn_so_that_train_has_every_class():
    # Names may come twice. Of half of the classes there is one clip.
    labels = [["any", f"rare {index}", "any"] if index % 2 else ["any"] for index in range(20)]
    for seed in range(10):
        clips = label_clips({"train": make_table(labels)}, "data", seed)
        assert len(clips.names) == 11
        assert {label for labels in clips.splits["train"]["label"] for label in labels} == set(range(11))
        drawn = [row["audio"]["path"] for split in ("train", "validation", "test") for row in clips.splits[split]]
        assert len(set(drawn)) == len(drawn) == 20


def test_class_index_out_of_range():
    table = make_table([0, 1, 3] * 9)
    table.info.features["label"] = NAMES
    with pytest.raises(InputError, match=r"has the label 3, expected one of 0 \.\.\. 2"):
        label_clips({"train": table}, "data")


def test_wrong_columns(tones, tmp_path):
    datasets.Dataset.from_dict({"sound": ["a.wav"], "kind": ["x"]}).save_to_disk(tmp_path / "saved")
    with pytest.raises(InputError, match=r"needs a column audio, found \['sound', 'kind'\]"):
        LabelledDataArguments(data=str(tmp_path / "saved")).load()
    with pytest.raises(InputError, match="--test_folds needs --fold_column"):
        LabelledDataArguments(data=str(tones), test_folds=[1])
    with pytest.raises(InputError, match="--fold_column divides --data itself"):
        LabelledDataArguments(data=str(tones), fold_column="fold", test_data=str(tones))
    with pytest.raises(InputError, match="cannot be loaded|must be a folder"):
        LabelledDataArguments(data="./nowhere").load()


# ---- The collator ----


def test_collator(tones, tmp_path):
    (clips,) = LabelledDataArguments(data=str(tones)).load()
    extractor = SsambaFeatureExtractor(max_length=40)
    rows = [clips.splits["train"][index] for index in range(3)]
    batch = LabelledClipCollator(extractor, 4, multi_hot=False)(rows)
    assert batch["labels"].tolist() == [row["label"] for row in rows]
    samples, _ = soundfile.read(rows[1]["audio"]["path"], dtype="float32")
    expected = extractor(samples, sampling_rate=16000, return_tensors="pt")["input_values"][0]
    torch.testing.assert_close(batch["input_values"][1], expected)
    hot = LabelledClipCollator(extractor, 4, multi_hot=True)(rows)["labels"]
    assert torch.equal(hot, torch.nn.functional.one_hot(batch["labels"], 4).float())
    several = LabelledClipCollator(extractor, 4, multi_hot=True)(
        [{**rows[0], "label": [1, 3]}, {**rows[0], "label": []}]
    )
    assert several["labels"].tolist() == [[0, 1, 0, 1], [0, 0, 0, 0]]
    # A feature extractor that tells padding from audio does so in training, too.
    masking = SsambaFeatureExtractor(max_length=40, return_attention_mask=True)
    assert LabelledClipCollator(masking, 4, multi_hot=False)(rows)["attention_mask"].sum() == 3 * 28


def test_collator_augments(tones):
    (clips,) = LabelledDataArguments(data=str(tones)).load()
    extractor = SsambaFeatureExtractor(max_length=40)
    rows = [clips.splits["train"][index] for index in (0, 4, 8)]
    augmentation = Augmentation([Mixup(p=1.0)], [SpecAugment(40, 10)])
    collator = LabelledClipCollator(extractor, 4, True, augmentation)
    batch = collator(rows)
    assert ((batch["labels"] > 0).sum(dim=1) == 2).all()
    # What is masked looks like padding, which is zero before normalisation.
    silence = batch["input_values"][:, -1, :]
    padded = extractor(np.zeros(400, dtype=np.float32), sampling_rate=16000, return_tensors="pt")["input_values"][
        0, -1
    ]
    assert (silence == padded).any()
    assert collator.silence == pytest.approx(padded[0].item())
    with pytest.raises(ValueError, match="`multi_hot` must be true"):
        LabelledClipCollator(extractor, 4, False, augmentation)


@pytest.mark.parametrize("do_normalize", [True, False])
def test_augmentation_masks_with_the_padding_value(tones, do_normalize):
    (clips,) = LabelledDataArguments(data=str(tones)).load()
    extractor = SsambaFeatureExtractor(max_length=40, padding_value=-7.0, do_normalize=do_normalize)
    padding = LabelledClipCollator(extractor, 4, False)([clips.splits["train"][0]])["input_values"][0, -1, 0].item()
    augmentation = Augmentation(spectrogram_transforms=[lambda values, silence, rng: torch.full_like(values, silence)])
    collator = LabelledClipCollator(extractor, 4, False, augmentation)
    assert collator.silence == padding
    assert (collator([clips.splits["train"][0]])["input_values"] == padding).all()


def test_clips_of_other_rates(tmp_path):
    folder = write_tones(tmp_path, {"train": 4}, rate=8000)
    (clips,) = LabelledDataArguments(data=str(folder)).load()
    batch = LabelledClipCollator(SsambaFeatureExtractor(max_length=40), 4, False)([clips.splits["train"][0]])
    assert batch["input_values"].shape == (1, 40, 128)
