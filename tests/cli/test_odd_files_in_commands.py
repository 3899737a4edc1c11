# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The table of odd files in `classify`, `embed` and `annotate`: one line for each that is not as it should be, the same everywhere."""

import json
import os

import numpy as np
import pytest
import soundfile
import torch
import transformers
from odd_files import write_odd_files
from tones import write_tone

from hf_audio_ssm import (
    SsambaConfig,
    SsambaFeatureExtractor,
    SsambaForAudioClassification,
    SsambaForAudioFrameClassification,
    annotate,
)
from hf_audio_ssm.audio.decoding import FAULTS, read_clip
from hf_audio_ssm.cli import main
from hf_audio_ssm.common.errors import ClipError


@pytest.fixture(autouse=True)
def transformers_logging():
    """Commands turn down transformers' own messages, which other tests look at."""
    verbosity = transformers.logging.get_verbosity()
    yield
    transformers.logging.set_verbosity(verbosity)
    transformers.logging.enable_progress_bar()


def save(folder, model_class, **options) -> str:
    torch.manual_seed(0)
    # Long enough for all of each file.
    config = SsambaConfig(
        hidden_size=16,
        num_hidden_layers=2,
        max_length=900,
        patch_size=(128, 20),
        frequency_stride=128,
        time_stride=20,
        **options,
    )
    model_class(config).save_pretrained(folder)
    SsambaFeatureExtractor(max_length=900).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> str:
    labels = {"id2label": {0: "a\x1b[31m\nb", 1: "low"}, "label2id": {"a\x1b[31m\nb": 0, "low": 1}}
    return save(tmp_path_factory.mktemp("classifier"), SsambaForAudioClassification, **labels)


@pytest.fixture(scope="module")
def frame_classifier(tmp_path_factory) -> str:
    return save(tmp_path_factory.mktemp("frames"), SsambaForAudioFrameClassification, num_labels=2)


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> dict[str, tuple[str, str]]:
    """What `read_clip` says about each file: "note", "error" or "", and the words."""
    found = {}
    for path in write_odd_files(tmp_path_factory.mktemp("odd")):
        try:
            found[str(path)] = "note", "; ".join(note.detail for note in read_clip(path, 16_000).notes)
        except ClipError as error:
            found[str(path)] = "error", error.reason
    return found


def told(err: str) -> dict[str, tuple[str, str]]:
    """What the lines on the standard error say about each file; they are all there is."""
    found = {}
    for line in err.splitlines():
        kind, path, words = line.split(": ", 2)
        assert kind in ("note", "warning")
        found[path] = {"note": "note", "warning": "error"}[kind], words
    return found


def test_classify_and_embed(expected, classifier, capfd, tmp_path):
    assert len(expected) > 90
    wanted = {path: words for path, words in expected.items() if words[1]}
    errors = {path for path, (kind, _) in expected.items() if kind == "error"}
    capfd.readouterr()
    assert main(["classify", "-m", classifier, "--json", "--device", "cpu", *expected]) == 3
    out, err = capfd.readouterr()
    assert told(err) == wanted
    lines = {line["file"]: line for line in map(json.loads, out.splitlines())}
    assert {path for path, line in lines.items() if "error" in line} == errors
    assert {path: "; ".join(line["notes"]) for path, line in lines.items() if "notes" in line} == {
        path: words for path, (kind, words) in wanted.items() if kind == "note"
    }
    output = tmp_path / "out.npz"
    assert main(["embed", "-m", classifier, "--json", "--device", "cpu", "-o", str(output), *expected]) == 3
    out, err = capfd.readouterr()
    assert told(err) == wanted
    assert {entry["file"] for entry in json.loads(out)["skipped"]} == errors
    assert set(np.load(output)["files"]) == set(expected) - errors


def test_annotate(expected, frame_classifier, capfd):
    model = SsambaForAudioFrameClassification.from_pretrained(frame_classifier).eval()
    feature_extractor = SsambaFeatureExtractor.from_pretrained(frame_classifier)
    capfd.readouterr()
    for path, (kind, words) in expected.items():
        if kind == "error":
            with pytest.raises(ClipError) as error:
                annotate(path, model, feature_extractor)
            assert str(error.value) == f"{path}: {words}"
        else:
            notes = annotate(path, model, feature_extractor).notes
            assert "; ".join(notes["detail"][notes["kind"].isin(FAULTS)]) == words
    lines = capfd.readouterr().err.replace("\r", "\n").splitlines()
    assert all(line.startswith("Annotating ") for line in lines if line.strip())


def test_the_shortest_clips(classifier, frame_classifier, capsys, tmp_path):
    """From one sample on; a drum hit of 22 ms is shorter than a frame."""
    for count in (1, 352, 399, 400, 1600):
        soundfile.write(tmp_path / f"{count}.wav", np.full(count, 0.1), 16_000)
    assert main(["classify", "-m", classifier, "--device", "cpu", str(tmp_path)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5
    assert main(["embed", "-m", classifier, "--device", "cpu", str(tmp_path), "-o", str(tmp_path / "out.npz")]) == 0
    for count in (1, 352, 1600):
        found = annotate(tmp_path / f"{count}.wav", frame_classifier)
        assert found.seconds == count / 16_000
        assert (found.events["offset"] <= found.seconds).all()


def test_names_of_others_are_printable(classifier, capsys, tmp_path):
    name = "a\x1b]0;owned\x07\nerror: b.wav"
    write_tone(tmp_path / "in" / name, 500, seconds=20)
    (tmp_path / "in" / f"broken {name}").write_text("text")
    assert main(["classify", "-m", classifier, "--device", "cpu", str(tmp_path / "in")]) == 3
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert err.count("\n") == 2
    assert all(character.isprintable() for character in (out + err).replace("\n", ""))
    assert r"a\x1b[31m\nb (" in out
    assert r"a\x1b]0;owned\x07\nerror: b.wav: " in out
    assert main(["classify", "-m", classifier, "--json", "--device", "cpu", str(tmp_path / "in")]) == 3
    files = [json.loads(line)["file"] for line in capsys.readouterr().out.splitlines()]
    assert os.path.join(tmp_path / "in", name) in files
    assert main(["info", classifier, "--device", "cpu"]) == 0
    assert r"labels   2: a\x1b[31m\nb, low" in capsys.readouterr().out


def test_a_classifier_of_frames_does_not_label_clips(frame_classifier, capsys, tmp_path):
    write_tone(tmp_path / "tone.wav", 500)
    assert main(["classify", "-m", frame_classifier, str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("error: --model ")
    assert "annotate" in line
