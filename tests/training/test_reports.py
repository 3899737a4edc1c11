# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What cards say of a run's data and augmentation."""

from labelled_tones import write_tones

from hf_audio_ssm.data.augmentation import AugmentationArguments, VaryRecordings
from hf_audio_ssm.data.labelled import LabelledDataArguments
from hf_audio_ssm.training.reports import describe_augmentation, split_results


def test_augmentation():
    described = describe_augmentation(AugmentationArguments(mixup=0.5))["Augmentation"]
    assert described == f"vary_recordings ({VaryRecordings().describe()}), mixup 0.5"
    assert describe_augmentation(AugmentationArguments(vary_recordings=False)) == {"Augmentation": "none"}
    set_ones = AugmentationArguments(vary_recordings=False, mixup=0.5, time_mask=8, noise=True)
    assert describe_augmentation(set_ones) == {"Augmentation": "mixup 0.5, time_mask 8, noise"}


def test_splits_of_the_data(tmp_path):
    data = LabelledDataArguments(str(write_tones(tmp_path / "data", {"train": 4, "validation": 1, "test": 2})))
    (clips,) = data.load()
    results = split_results(data, clips, "test", {"accuracy": 0.5}, "Measured twice.")
    assert (results.split, results.source, results.num_clips) == ("test", data.data, 8)
    assert results.notes == ("Measured twice.",)


def test_splits_from_elsewhere_or_drawn(tmp_path):
    folder = write_tones(tmp_path / "data", {"train": 8})
    test = write_tones(tmp_path / "other", {"test": 2}, rate=8000)
    data = LabelledDataArguments(str(folder), test_data=str(test / "test"))
    (clips,) = data.load()
    assert clips.drawn == ("validation",)
    assert split_results(data, clips, "test", {}).source == str(test / "test")
    assert split_results(data, clips, "test", {}).notes == ()
    results = split_results(data, clips, "validation", {})
    assert results.source == str(folder)
    assert results.notes == ("The data have no validation split: it was drawn from their training clips.",)


def test_folds(tmp_path):
    write_tones(tmp_path, {"clips": 4}, labels=("low", "high"))
    rows = [f"clips/{label}/{clip}.wav,{label},{clip % 2}" for label in ("low", "high") for clip in range(4)]
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,label,fold", *rows]))
    data = LabelledDataArguments(str(tmp_path), fold_column="fold", test_folds=[1])
    (clips,) = data.load()
    assert split_results(data, clips, "test", {}).notes == ("They are fold 1.",)
    assert "drawn" in split_results(data, clips, "validation", {}).notes[0]
