# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Sources of clips: folders, parquet, saved data sets; mixed, streamed, sharded."""

from collections import Counter

import datasets
import numpy as np
import pytest
from datasets.distributed import split_dataset_by_node

from hf_audio_ssm.audio.decoding import read_audio
from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.data.sources import load_and_hold_out, load_source, load_sources, make_dataset


@pytest.fixture
def sources(tones, tmp_path, monkeypatch):
    """The same twelve clips in every form, by name of the form."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    paths = sorted(path for path in tones.rglob("*") if path.is_file())
    rows = [{"bytes": path.read_bytes(), "path": path.name} for path in paths]
    dataset = datasets.Dataset.from_dict({"audio": rows, "id": range(len(rows))})
    half = len(rows) // 2
    (tmp_path / "parquet").mkdir()
    for part, chosen in enumerate((range(half), range(half, len(rows)))):
        dataset.select(chosen).to_parquet(tmp_path / "parquet" / f"part{part}.parquet")
    dataset.save_to_disk(tmp_path / "saved")
    return {
        "folder": str(tones),
        "parquet": str(tmp_path / "parquet" / "*.parquet"),
        "saved": str(tmp_path / "saved"),
    }


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("form", ["folder", "parquet", "saved"])
def test_every_form_gives_the_same_clips(sources, tones, form, streaming):
    dataset = load_source(sources[form], streaming=streaming)
    assert isinstance(dataset, datasets.IterableDataset if streaming else datasets.Dataset)
    assert dataset.column_names == ["audio"]
    expected = [read_audio(path, 16_000) for path in sorted(tones.rglob("*.*"))]
    found = [read_audio(row["audio"], 16_000) for row in dataset]
    assert len(found) == 12
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("streaming", [False, True])
def test_sources_are_mixed_by_weight(tones, streaming):
    weights = [3, 1]
    mixed = load_sources([str(tones / "high"), str(tones / "low")], weights, streaming=streaming, seed=1)
    paths = [row["audio"]["path"] for row in mixed]
    assert len(set(paths)) == 12
    counts = Counter("high" if "/high/" in path else "low" for path in paths)
    assert 1.5 < counts["high"] / counts["low"] < 6
    again = load_sources([str(tones / "high"), str(tones / "low")], weights, streaming=streaming, seed=1)
    assert [row["audio"]["path"] for row in again] == paths
    both = load_sources([str(tones / "high"), str(tones / "low")], streaming=streaming)
    assert [row["audio"]["path"] for row in both] == [str(path) for path in sorted(tones.rglob("*.*"))]


@pytest.mark.parametrize("weights", [None, [1.0, 5.0]])
def test_clips_held_out_are_not_trained_on(tmp_path, weights):
    names = [
        tmp_path / kind / f"{index}.wav" for kind in ("few", "many") for index in range(20 + 40 * (kind == "many"))
    ]
    for name in names:
        name.parent.mkdir(exist_ok=True)
        name.touch()
    train, held_out = load_and_hold_out([str(tmp_path / "few"), str(tmp_path / "many")], weights, num_clips=1000)
    trained, evaluated = ([row["audio"]["path"] for row in dataset] for dataset in (train, held_out))
    assert len(evaluated) == len(set(evaluated)) == 8
    assert set(trained) == {str(name) for name in names} - set(evaluated)
    assert weights is not None or len(trained) == 72


def test_too_few_clips_to_hold_any_out_are_refused(tmp_path):
    (tmp_path / "only.wav").touch()
    with pytest.raises(InputError, match="1 clips are too few to hold any out"):
        load_and_hold_out([str(tmp_path)])


def test_a_streamed_source_is_shared_out_among_processes(tones):
    shares = [
        [row["audio"]["path"] for row in split_dataset_by_node(load_source(str(tones), streaming=True), rank, 2)]
        for rank in range(2)
    ]
    assert len(shares[0]) == len(shares[1]) == 6
    assert set(shares[0]) | set(shares[1]) == {str(path) for path in tones.rglob("*.*")}


def test_labels_stay_beside_their_clips(tones):
    clips = [(tones / "low" / "0.wav", "low"), (tones / "high" / "1.flac", "high")]
    dataset = make_dataset(clips, ["high", "low"])
    assert dataset["label"][:] == [1, 0]
    assert [row["audio"]["path"] for row in dataset] == [str(path) for path, _ in clips]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "missing", "missing: must be a folder of audio"),
        (lambda folder: folder / "missing.parquet", r"missing.parquet: cannot be loaded as a data set"),
        (lambda folder: folder, "no audio found"),
    ],
)
def test_sources_that_are_none_are_refused(tmp_path, make, message):
    with pytest.raises(InputError, match=message):
        load_source(str(make(tmp_path)))


def test_a_source_without_audio_is_refused(tmp_path):
    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "text")
    with pytest.raises(InputError, match=r"needs a column audio, found \['text'\]"):
        load_source(str(tmp_path / "text"))


@pytest.mark.parametrize(
    ("sources", "weights", "message"),
    [
        ([], None, "at least one source"),
        (["a", "b"], [1.0], "one for each of 2 sources, got 1"),
        (["a", "b"], [1.0, 0.0], r"positive numbers, got \[1.0, 0.0\]"),
        (["a", "b"], [1.0, float("nan")], "positive numbers"),
    ],
)
def test_mixtures_that_make_no_sense_are_refused(sources, weights, message):
    with pytest.raises(InputError, match=message):
        load_sources(sources, weights)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("org/name", ("org/name", None, "train")),
        ("org/name:clean", ("org/name", "clean", "train")),
        ("org/name@validation", ("org/name", None, "validation")),
        ("org/name:clean@train.100", ("org/name", "clean", "train.100")),
    ],
)
def test_names_on_the_hub(source, expected, monkeypatch):
    def load_dataset(name, configuration, split, streaming):
        assert (name, configuration, split) == expected
        assert streaming
        return datasets.Dataset.from_dict({"audio": ["a.wav"]}).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    # The Hub is not asked.
    monkeypatch.setattr("hf_audio_ssm.data.sources._check_hub", lambda name: None)
    assert next(iter(load_source(source, streaming=True)))["audio"]["path"] == "a.wav"
