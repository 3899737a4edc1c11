# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Annotating recordings: as a whole or in windows, what is written, and what happens when something goes wrong."""

import itertools
import json
import math
import os
import time
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from warm_python import BARE, run_python

import hf_audio_ssm
from hf_audio_ssm import SsambaConfig, SsambaFeatureExtractor, SsambaForAudioClassification, SsambaModel
from hf_audio_ssm import SsambaForAudioFrameClassification as FrameModel
from hf_audio_ssm.audio import streaming
from hf_audio_ssm.common.errors import ClipError
from hf_audio_ssm.inference import annotate as annotate_module
from hf_audio_ssm.inference import windows
from hf_audio_ssm.inference.annotation import Annotation


RATE = 16000
# What the extra `train` installs and the plain install does not.
TRAIN_PACKAGES = [
    "datasets",
    "evaluate",
    "accelerate",
    "peft",
    "sklearn",
    "audiomentations",
    "matplotlib",
    "tensorboard",
]
TONES = {"low": 300.0, "high": 3000.0}


def make_recording(seconds: float, seed: int = 0) -> np.ndarray:
    """Tones, one each second for half of it, on noise."""
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, 0.003, round(seconds * RATE)).astype(np.float32)
    for second in range(int(seconds)):
        tone = 0.3 * np.sin(2 * np.pi * TONES[("low", "high")[second % 2]] * np.arange(RATE // 2) / RATE)
        samples[second * RATE : second * RATE + RATE // 2] += tone[: len(samples) - second * RATE]
    return samples


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A small model that has learned the tones of short recordings."""
    torch.manual_seed(0)
    feature_extractor = SsambaFeatureExtractor(max_length=400, mean=-9.0, std=3.0)
    config = SsambaConfig(
        hidden_size=32,
        num_hidden_layers=2,
        state_size=8,
        patch_size=(128, 10),
        frequency_stride=128,
        time_stride=10,
        max_length=400,
        frames_per_label=10,
        drop_path_rate=0.0,
        num_labels=3,
        id2label={0: "background", 1: "low", 2: "high"},
        label2id={"background": 0, "low": 1, "high": 2},
        problem_type="single_label_classification",
    )
    model = FrameModel(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(40):
        # From any moment on, so that no position means a label.
        shift = np.random.default_rng(step).integers(0, 20) * RATE // 10
        samples = make_recording(6.0, seed=step)[shift : shift + 4 * RATE]
        inputs = feature_extractor(samples, sampling_rate=RATE, return_tensors="pt", padding="longest")
        steps = model.config.num_label_steps(model.config.patch_grid(inputs["input_values"].shape[1])[1])
        times = shift / RATE + (np.arange(steps) + 0.5) / 10
        labels = np.where(times % 1 < 0.5, 1 + times.astype(int) % 2, 0)
        model(**inputs, labels=torch.tensor(labels[None])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("checkpoint")
    model.save_pretrained(folder)
    feature_extractor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("audio") / "a long one.wav"
    soundfile.write(path, make_recording(30.25), RATE)
    return path


@pytest.mark.parametrize("offset", [0.0, 0.2])
def test_streamed_features_are_those_of_the_whole(offset):
    feature_extractor = SsambaFeatureExtractor()
    samples = make_recording(7.77) + np.float32(offset)
    whole = feature_extractor(samples, sampling_rate=RATE, padding=False, truncation=False)["input_values"][0]
    blocks = np.split(samples, [100, 101, 399, 5000, 5160, 60000, 60001])
    streamed = torch.cat(list(feature_extractor.stream(blocks)))
    assert streamed.shape == whole.shape
    # A call subtracts the recording's mean first: beside a loud tone, float32's rounding tells.
    np.testing.assert_allclose(streamed.numpy(), whole, atol=2e-3)
    at_once = next(iter(feature_extractor.stream([samples])))
    torch.testing.assert_close(streamed, at_once, atol=1e-5, rtol=0)


def test_streamed_features_refuse_what_they_cannot_use():
    feature_extractor = SsambaFeatureExtractor()
    assert list(feature_extractor.stream([])) == []
    with pytest.raises(ValueError, match=r"`blocks\[1\]` must have the shape \(samples,\), got \(2, 500\)"):
        list(feature_extractor.stream([np.zeros(500), np.zeros((2, 500))]))


def test_one_pass_is_the_model_on_the_whole(checkpoint, recording):
    found = hf_audio_ssm.annotate(recording, checkpoint, background=["background"])
    assert found.num_windows == 1
    assert found.seconds == pytest.approx(30.25)
    model, feature_extractor = (
        FrameModel.from_pretrained(checkpoint),
        SsambaFeatureExtractor.from_pretrained(checkpoint),
    )
    samples = soundfile.read(recording, dtype="float32")[0]
    inputs = feature_extractor(samples, sampling_rate=RATE, padding="longest", truncation=False, return_tensors="pt")
    with torch.no_grad():
        expected = model(**inputs).logits[0].softmax(dim=-1)
    np.testing.assert_allclose(found.scores, expected, atol=1e-4)
    assert found.spectrogram.shape == (128, inputs["input_values"].shape[1])


@pytest.mark.parametrize("limits", [{}, {"window_seconds": 4.0, "overlap_seconds": 1.0}, {"max_memory": 2e6}])
def test_events_are_found(checkpoint, recording, limits):
    found = hf_audio_ssm.annotate(recording, checkpoint, background=["background"], min_seconds=0.2, **limits)
    assert (found.num_windows > 1) == bool(limits)
    assert found.scores.shape == (302, 3)
    expected = [(float(s), s + (0.5 if s < 30 else 0.25), ("low", "high")[s % 2]) for s in range(31)]
    true = pd.DataFrame(expected, columns=["onset", "offset", "label"])
    assert hf_audio_ssm.evaluation.events.event_based_f1(true, found.events)["f1"] > 0.9
    assert found.events["offset"].max() <= 30.25
    assert found.notes.empty


def test_windows_are_merged_in_the_middle_of_their_overlap(checkpoint, monkeypatch):
    """Each time step is taken from the window in which it lies further from the edge; none is missing, none twice."""
    seen = []

    def score(model, values):
        # What a window says of a step: which window it is, and which step of the recording.
        start = sum(len(window) - 100 for window in seen)
        seen.append(values)
        steps = np.arange(-(-len(values) // 10))
        return np.stack((np.full(len(steps), len(seen)), start // 10 + steps, steps), axis=1)

    monkeypatch.setattr(annotate_module, "_score", score)
    samples = make_recording(25.0)
    block = {"array": samples, "sampling_rate": RATE}
    model, feature_extractor = (
        FrameModel.from_pretrained(checkpoint),
        SsambaFeatureExtractor.from_pretrained(checkpoint),
    )
    monkeypatch.setattr(annotate_module, "decode_events", lambda *_, **__: pd.DataFrame({"offset": []}))
    found = hf_audio_ssm.annotate([block], model, feature_extractor, window_seconds=8.0, overlap_seconds=1.0)
    assert [len(window) for window in seen] == [800, 800, 800, 398]
    assert found.scores[:, 1].tolist() == list(range(250))
    assert np.flatnonzero(np.diff(found.scores[:, 0])).tolist() == [74, 144, 214]
    assert not model.training


@pytest.mark.parametrize("step", [1, 4, 10, 25, 100])
@pytest.mark.parametrize(("patch", "stride"), [(16, 16), (16, 10), (16, 3), (2, 1), (10, 60)])
def test_windows_keep_the_time(patch, stride, step, monkeypatch):
    """However short the overlap: the steps of all windows follow on each other, up to the last column's centre."""
    num_frames = 4321

    def stream(samples):
        next(iter(samples))
        # What a frame says: which one it is.
        yield torch.arange(float(num_frames))[:, None].expand(-1, 16)

    def score(model, values):
        steps = model.config.num_label_steps(model.config.patch_grid(len(values))[1])
        return values[: steps * step : step, :1].numpy()

    monkeypatch.setattr(annotate_module, "_score", score)
    monkeypatch.setattr(annotate_module, "decode_events", lambda *_, **__: pd.DataFrame({"offset": []}))
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "state_size": 4, "num_mel_bins": 16, "num_labels": 1}
    patches = {"patch_size": (16, patch), "frequency_stride": 16, "time_stride": stride, "frames_per_label": step}
    model = FrameModel(SsambaConfig(**sizes, **patches))
    blocks = [{"array": np.zeros(RATE), "sampling_rate": RATE}]
    feature_extractor = SimpleNamespace(sampling_rate=RATE, stream=stream)
    least = 2 * step * math.ceil((patch + 2 * stride) / step)
    for window, overlap in itertools.product((least, least + 17, 990, 1777), (0.0, 0.3, 1.5)):
        if window >= least:
            seconds = {"window_seconds": window / 100, "overlap_seconds": overlap}
            found = hf_audio_ssm.annotate(blocks, model, feature_extractor, **seconds)
            assert found.num_windows > 1
            assert found.scores[:, 0].tolist() == list(range(0, num_frames, step))[: len(found.scores)]
            assert num_frames - stride - patch / 2 < len(found.scores) * step < num_frames + step


def test_memory_bounds_the_window():
    config = SsambaConfig.tiny()
    assert windows.count_window_frames(config, 2e9) == pytest.approx(
        2 * windows.count_window_frames(config, 1e9), abs=2
    )
    # Tiny reads an hour in one pass within 8 GB.
    assert 100 * 3600 < windows.count_window_frames(config, 8e9)


def test_everything_is_written(checkpoint, recording, tmp_path):
    found = hf_audio_ssm.annotate(recording, checkpoint, background=["background"], output_dir=tmp_path / "new")
    names = {"a long one" + suffix for suffix in (".csv", ".json", ".rttm", ".txt", ".notes.csv", ".png")}
    assert {path.name for path in (tmp_path / "new").iterdir()} == names
    table = pd.read_csv(tmp_path / "new" / "a long one.csv")
    assert table["label"].tolist() == found.events["label"].tolist()
    np.testing.assert_allclose(table["onset"], found.events["onset"], atol=1e-3)
    rows = json.loads((tmp_path / "new" / "a long one.json").read_text())
    assert [row["label"] for row in rows] == found.events["label"].tolist()
    rttm = [line.split(" ") for line in (tmp_path / "new" / "a long one.rttm").read_text().splitlines()]
    assert len(rttm) == len(found.events)
    assert all(len(line) == 10 and line[:3] == ["SPEAKER", "a_long_one", "1"] for line in rttm)
    assert [float(line[3]) for line in rttm] == pytest.approx(found.events["onset"].tolist(), abs=1e-3)
    audacity = [line.split("\t") for line in (tmp_path / "new" / "a long one.txt").read_text().splitlines()]
    assert [line[2] for line in audacity] == found.events["label"].tolist()
    assert (tmp_path / "new" / "a long one.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match=r"`path` must end in .csv or .json, got 'events.xlsx'"):
        found.write_table("events.xlsx")


def test_the_picture_of_a_long_recording_stays_small(monkeypatch):
    monkeypatch.setattr(windows, "PICTURE_COLUMNS", 16)
    spectrogram, frames = windows.PooledSpectrogram(), torch.arange(1000.0)[:, None].expand(-1, 3)
    for block in frames.split(37):
        spectrogram.add(block)
    image = spectrogram.image()
    assert 16 <= image.shape[1] < 32
    assert spectrogram.frames_per_column == 32
    np.testing.assert_allclose(np.diff(image[0]), 32)


def test_the_picture_of_thousands_of_events_is_drawn_at_once(tmp_path):
    onsets = np.arange(20_000) * 0.7
    events = {"onset": onsets, "offset": onsets + 0.4, "label": "low", "score": 0.5}
    notes = {"onset": onsets, "offset": onsets + 0.1, "kind": "clipping", "detail": ""}
    found = Annotation(
        name="many",
        seconds=14_400.0,
        events=pd.DataFrame(events),
        notes=pd.DataFrame(notes),
        scores=np.empty((0, 2)),
        labels=["low", "high"],
        seconds_per_step=0.1,
        num_windows=1,
        spectrogram=np.zeros((128, 3000)),
    )
    start = time.process_time()
    found.draw(tmp_path / "many.png")
    # A bar and a text for each would take half a minute.
    assert time.process_time() - start < 10


def test_the_plain_install_annotates(checkpoint, recording, tmp_path):
    """Without what the extra `train` installs: all but the picture, which needs matplotlib."""
    code = f"""if True:
        import sys, warnings
        for name in {TRAIN_PACKAGES}:
            sys.modules[name] = None
        import hf_audio_ssm
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            found = hf_audio_ssm.annotate({str(recording)!r}, {str(checkpoint)!r}, output_dir={str(tmp_path)!r})
        print([str(warning.message) for warning in caught if warning.category is UserWarning])
        try:
            found.draw("picture.png")
        except ImportError as error:
            print(error)
    """
    result = run_python(["-c", code], tmp_path, preloaded=BARE)
    assert result.returncode == 0, result.stderr
    reason = "the picture needs matplotlib (pip install matplotlib)"
    assert result.stdout.splitlines() == [f"['{tmp_path / 'a long one.png'} is not written: {reason}']", reason]
    assert {path.suffix for path in tmp_path.iterdir()} == {".csv", ".json", ".rttm", ".txt"}


def blocks_then_interrupt(samples, seconds):
    for second in range(seconds):
        yield {"array": samples[second * RATE : (second + 1) * RATE], "sampling_rate": RATE}
    raise KeyboardInterrupt


def test_an_interrupted_run_says_what_it_wrote(checkpoint, tmp_path):
    arguments = {"window_seconds": 4.0, "overlap_seconds": 1.0, "background": ["background"]}
    blocks = blocks_then_interrupt(make_recording(30), 12)
    with pytest.raises(KeyboardInterrupt, match=r"Interrupted: the first 10.0 s are annotated, in .*audio\.csv"):
        hf_audio_ssm.annotate(blocks, checkpoint, output_dir=tmp_path, **arguments)
    events, notes = (pd.read_csv(tmp_path / name) for name in ("audio.csv", "audio.notes.csv"))
    assert events["offset"].max() == pytest.approx(9.5, abs=0.2)
    assert notes[["onset", "kind"]].values.tolist() == [[10.0, "interrupted"]]
    with pytest.raises(KeyboardInterrupt, match="before anything was annotated; nothing was written"):
        hf_audio_ssm.annotate(blocks_then_interrupt(make_recording(3), 1), checkpoint, output_dir=tmp_path / "none")
    assert not (tmp_path / "none").exists()
    with pytest.raises(KeyboardInterrupt, match="the first 10.0 s were annotated; without `output_dir`, nothing was"):
        hf_audio_ssm.annotate(blocks_then_interrupt(make_recording(30), 12), checkpoint, **arguments)


def test_what_is_wrong_with_a_recording_is_noted(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "BLOCK_SECONDS", 0.5)
    samples = make_recording(8.0)
    samples[2 * RATE : 4 * RATE] = 0
    samples[6 * RATE : 6 * RATE + 10] = 1.0
    path = tmp_path / "damaged.wav"
    soundfile.write(path, np.repeat(samples, 2), 2 * RATE)
    path.write_bytes(path.read_bytes()[: int(7 / 8 * path.stat().st_size)])
    found = hf_audio_ssm.annotate(path, checkpoint, output_dir=tmp_path)
    assert found.notes["kind"].tolist() == ["resampled", "silence", "clipping", "truncated"]
    assert found.seconds == pytest.approx(7.0, abs=0.01)
    assert (tmp_path / "damaged.png").is_file()


@pytest.mark.parametrize(
    ("suffix", "subtype", "channels"),
    [("wav", "PCM_U8", 1), ("wav", "FLOAT", 2), ("flac", "PCM_24", 2), ("ogg", None, 1), ("mp3", None, 2)],
)
def test_events_are_found_in_every_format(checkpoint, tmp_path, suffix, subtype, channels):
    samples = make_recording(10.0)[:, None].repeat(channels, axis=1)
    path = tmp_path / f"Geräusche 録音.{suffix}"
    soundfile.write(path, samples, RATE, subtype=subtype)
    found = hf_audio_ssm.annotate(
        path, checkpoint, background=["background"], min_seconds=0.2, output_dir=tmp_path / "out"
    )
    expected = [(float(second), second + 0.5, ("low", "high")[second % 2]) for second in range(10)]
    true = pd.DataFrame(expected, columns=["onset", "offset", "label"])
    assert hf_audio_ssm.evaluation.events.event_based_f1(true, found.events)["f1"] > 0.9
    assert len(pd.read_csv(tmp_path / "out" / "Geräusche 録音.csv")) == len(found.events)


@pytest.mark.parametrize("name", [b"caf\xe9", b"100 $_{ and \\frac $"])
def test_any_name_will_do(checkpoint, tmp_path, name):
    """No UTF-8, and no formula: found out before hours are annotated."""
    path = tmp_path / os.fsdecode(name + b".wav")
    soundfile.write(os.fsencode(path), make_recording(2.0), RATE)
    hf_audio_ssm.annotate(path, checkpoint, output_dir=tmp_path / "out")
    assert {file.suffix for file in (tmp_path / "out").iterdir()} == {".csv", ".json", ".rttm", ".txt", ".png"}


def test_a_recording_without_events(checkpoint, tmp_path):
    block = {"array": np.zeros(3 * RATE), "sampling_rate": RATE}
    found = hf_audio_ssm.annotate([block], checkpoint, background=["background"], threshold=1.0, output_dir=tmp_path)
    assert found.events.empty
    assert found.notes["kind"].tolist() == ["silence"]
    assert pd.read_csv(tmp_path / "audio.csv").columns.tolist() == ["onset", "offset", "label", "score"]
    assert json.loads((tmp_path / "audio.json").read_text()) == []
    assert (tmp_path / "audio.rttm").read_text() == (tmp_path / "audio.txt").read_text() == ""
    assert (tmp_path / "audio.png").is_file()


@pytest.mark.parametrize("classifier_type", [None, "linear", "attentive", "prototypical"])
def test_heads_that_nobody_trained_for_it_are_refused(checkpoint, recording, tmp_path, classifier_type):
    config = SsambaConfig.from_pretrained(checkpoint)
    if classifier_type is None:
        SsambaModel(config).save_pretrained(tmp_path)
    else:
        config.classifier_type = classifier_type
        SsambaForAudioClassification(config).save_pretrained(tmp_path)
    SsambaFeatureExtractor.from_pretrained(checkpoint).save_pretrained(tmp_path)
    if classifier_type == "linear":
        assert hf_audio_ssm.annotate(recording, tmp_path).labels == list(config.id2label.values())
    else:
        with pytest.raises(ValueError, match="has no trained head for labels along time: classifier"):
            hf_audio_ssm.annotate(recording, tmp_path)


def test_bad_arguments_are_refused_before_anything_is_read(checkpoint, recording):
    model = FrameModel.from_pretrained(checkpoint)
    for arguments, error, message in [
        ({"max_memory": 0}, ValueError, "`max_memory` must be a positive number, got 0"),
        ({"max_memory": 1e4}, ValueError, "leave windows of .* s; at least 0.6 s are needed"),
        (
            {"window_seconds": 0.1},
            ValueError,
            "leave windows of 0.1 s; at least 0.6 s are needed, with time steps of 0.1 s",
        ),
        ({"window_seconds": -1}, ValueError, "`window_seconds` must be a positive number, got -1"),
        ({"overlap_seconds": float("nan")}, ValueError, "`overlap_seconds`"),
        ({"threshold": 3}, ValueError, "`threshold` must be between 0 and 1, got 3"),
        ({"background": ["noise"]}, ValueError, r"`background` names \['noise'\]"),
        ({"model": model}, ValueError, "`feature_extractor` must be given"),
        ({"model": SsambaForAudioClassification(model.config)}, TypeError, "got SsambaForAudioClassification"),
        ({"output_dir": recording}, ValueError, "`output_dir` must be a folder to write to, got .*a long one.wav"),
        ({"output_dir": recording / "new"}, ValueError, "`output_dir` must be a folder to write to"),
        ({"audio": "missing.wav"}, ClipError, "missing.wav: no such file"),
        ({"audio": []}, ClipError, "audio: holds 0 ms of audio: it has no samples"),
    ]:
        with pytest.raises(error, match=message):
            hf_audio_ssm.annotate(**{"audio": recording, "model": checkpoint, **arguments})


def test_labels_and_names_of_others_are_printable(tmp_path):
    """In what a terminal may show; the tables hold them as they are."""
    label = "a\x1b[31m\nb $x$"
    events = pd.DataFrame([(0.0, 1.0, label, 0.5)], columns=["onset", "offset", "label", "score"])
    notes = pd.DataFrame([], columns=["onset", "offset", "kind", "detail"])
    spectrogram, scores = np.zeros((4, 5)), np.zeros((1, 1))
    annotation = Annotation("n\x1b[31m\nm", 1.0, events, notes, scores, [label], 1.0, 1, spectrogram)
    annotation.write_rttm(tmp_path / "events.rttm")
    annotation.write_audacity(tmp_path / "events.txt")
    rttm, audacity = ((tmp_path / name).read_text() for name in ("events.rttm", "events.txt"))
    assert rttm == r"SPEAKER n\x1b[31m_m 1 0.000 1.000 <NA> <NA> a\x1b[31m_b_$x$ 0.500 <NA>" + "\n"
    assert audacity == "0.000000\t1.000000\t" + r"a\x1b[31m b $x$" + "\n"
    annotation.write_table(tmp_path / "events.csv")
    assert pd.read_csv(tmp_path / "events.csv")["label"].tolist() == [label]
    with warnings.catch_warnings(action="error"):
        annotation.draw(tmp_path / "events.png")
