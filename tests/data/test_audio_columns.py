# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Columns of clips in every form: decoded ones are read like files, and columns without clips are refused in one line."""

import datasets
import numpy as np
import pytest
import soundfile
from test_split_by_clip import write_clips

from hf_audio_ssm.audio.decoding import read_audio
from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.data.filter_banks import cache_filter_banks
from hf_audio_ssm.data.labelled import LabelledDataArguments
from hf_audio_ssm.data.sources import load_source, load_sources
from hf_audio_ssm.models.filter_bank.feature_extraction_ssamba import SsambaFeatureExtractor


RATE = 16_000


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def noise(count=12, length=800):
    rng = np.random.default_rng(0)
    return [rng.uniform(-0.9, 0.9, length) for _ in range(count)]


FORMS = {
    "float64": lambda samples: samples,
    "float32": lambda samples: samples.astype(np.float32),
    "int16": lambda samples: (samples * 2**15).astype(np.int16),
    "int32": lambda samples: (samples * 2**31).astype(np.int32),
    "uint8": lambda samples: (samples * 2**7 + 128).astype(np.uint8),
    "stereo": lambda samples: np.stack([samples, -0.5 * samples]).astype(np.float32),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("streaming", [False, True])
def test_decoded_clips_are_read_as_read_audio_does(tmp_path, form, streaming):
    arrays = [FORMS[form](samples) for samples in noise(3)]
    rows = [{"array": array, "sampling_rate": 8_000} for array in arrays]
    datasets.Dataset.from_dict({"audio": rows, "id": [0, 1, 2]}).save_to_disk(tmp_path / "saved")
    before = sorted(path.name for path in (tmp_path / "saved").iterdir())
    dataset = load_source(str(tmp_path / "saved"), streaming=streaming, columns=["id"])
    found = list(dataset)
    assert [row["id"] for row in found] == [0, 1, 2]
    for row, clip in zip(found, rows, strict=True):
        np.testing.assert_allclose(read_audio(row["audio"], RATE), read_audio(clip, RATE), rtol=0, atol=1e-6)
    # What is computed does not lie beside the user's own files.
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == before


def test_decoded_clips_are_trained_on(tmp_path):
    rows = [{"path": None, "array": samples, "sampling_rate": RATE} for samples in noise()]
    datasets.Dataset.from_dict({"audio": rows, "label": ["a", "b"] * 6}).save_to_disk(tmp_path / "saved")
    arguments = LabelledDataArguments(data=str(tmp_path / "saved"))
    (clips,) = arguments.check(arguments.load(), RATE)
    assert sum(map(len, clips.splits.values())) == 12
    cached = cache_filter_banks(clips.splits["train"], SsambaFeatureExtractor(max_length=8), tmp_path / "banks")
    assert not any(cached["reason"])
    write_clips(tmp_path / "folder", ["0.wav"])
    assert len(load_sources([str(tmp_path / "saved"), str(tmp_path / "folder")])) == 13


def test_decoded_clips_that_cannot_be_used_are_bad_clips(tmp_path):
    good = [{"array": samples.tolist(), "sampling_rate": RATE} for samples in noise()]
    bad = [{**good[0], "sampling_rate": rate} for rate in (None, 0, -8000)]
    bad += [None, {"array": None, "sampling_rate": RATE}, {"array": [], "sampling_rate": RATE}]
    labels = ["a", "b"] * 9
    datasets.Dataset.from_dict({"audio": [*good, *bad], "label": labels}).save_to_disk(tmp_path / "saved")
    arguments = LabelledDataArguments(data=str(tmp_path / "saved"), max_bad_share=0.5)
    (clips,) = arguments.check(arguments.load(), RATE)
    names = sorted(clip for clip, _ in clips.bad)
    assert names == [
        "row 12 (its sampling rate is None)",
        "row 13 (its sampling rate is 0)",
        "row 14 (its sampling rate is -8000)",
        "row 15 (it holds no audio)",
        "row 16 (it holds no audio)",
        "row 17 (its samples have the shape (0,))",
    ]
    assert sum(map(len, clips.splits.values())) == 12


@pytest.mark.parametrize(
    "form", ["string", "large_string", "binary", "large_binary", "struct", "path", "bytes", "Audio"]
)
def test_undecoded_columns_of_every_kind(tmp_path, form):
    folder = write_clips(tmp_path / "clips", ["0.wav", "1.wav"])
    paths = [str(folder / name) for name in ("0.wav", "1.wav")]
    contents = [(folder / name).read_bytes() for name in ("0.wav", "1.wav")]
    text, data = datasets.Value("string"), datasets.Value("binary")
    values, feature = {
        "string": (paths, text),
        "large_string": (paths, datasets.Value("large_string")),
        "binary": (contents, data),
        "large_binary": (contents, datasets.Value("large_binary")),
        "struct": ([{"bytes": own, "path": None} for own in contents], {"bytes": data, "path": text}),
        "path": ([{"path": own} for own in paths], {"path": text}),
        "bytes": ([{"bytes": own} for own in contents], {"bytes": data}),
        "Audio": (paths, text),
    }[form]
    dataset = datasets.Dataset.from_dict({"audio": values}, features=datasets.Features(audio=feature))
    if form == "Audio":
        dataset = dataset.cast_column("audio", datasets.Audio())
    dataset.save_to_disk(tmp_path / "saved")
    for streaming in (False, True):
        found = [read_audio(row["audio"], RATE) for row in load_source(str(tmp_path / "saved"), streaming=streaming)]
        assert all(np.array_equal(a, soundfile.read(b, dtype="float32")[0]) for a, b in zip(found, paths, strict=True))


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ([[0.1, 0.2]] * 2, "lists of float64 without a sampling rate"),
        ([[[1, 2], [3, 4]]] * 2, "lists of int64 without a sampling rate"),
        ([1, 2], "values of type int64"),
        ([0.5, 1.5], "values of type float64"),
        ([True, False], "values of type bool"),
        ([None, None], "values of type null"),
        ([["a.wav", "b.wav"]] * 2, "lists of string"),
        ([{"array": [0.1]}] * 2, "mappings with array"),
        ([{"samples": [0.1], "rate": 8000}] * 2, "mappings with samples, rate"),
        ([{"path": 5}] * 2, "mappings with path"),
        ([{"array": [1, 2], "sampling_rate": 8000}] * 2, "samples of type int64; expected one of uint8, int16"),
        ([{"array": ["x"], "sampling_rate": 8000}] * 2, "samples of type string; expected one of"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_columns_without_clips_are_refused_in_one_line(tmp_path, values, what):
    datasets.Dataset.from_dict({"audio": values, "label": [0, 1]}).save_to_disk(tmp_path / "saved")
    source = str(tmp_path / "saved")
    for read in (load_source, lambda source: load_source(source, streaming=True), lambda source: LabelledDataArguments(source).load()):  # fmt: skip
        with pytest.raises(InputError, match=rf"^[^\n]*saved: the column audio holds {what}[^\n]*$"):
            read(source)
