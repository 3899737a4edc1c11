# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The shipped spoken words, the script that makes them, and the quickstart on them and on other folders."""

import csv
import re
import runpy
import shutil
import subprocess
import sys
from collections import Counter

import datasets
import make_spoken_words
import numpy as np
import pytest
import quickstart
import soundfile as sf
import torch
from hub_server import card_errors
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from snippets import read_snippets
from tones import write_tone
from transformers import AutoModelForAudioClassification, pipeline

from hf_audio_ssm import SsambaFeatureExtractor
from hf_audio_ssm.audio.decoding import read_audio
from hf_audio_ssm.common.errors import InputError


SPOKEN_WORDS = quickstart.SPOKEN_WORDS
SPLITS = ("train", "validation", "test")


def run_script(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, quickstart.__file__, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


# ---- The shipped data set ----


def read_rows(split: str) -> list[dict[str, str]]:
    with open(SPOKEN_WORDS / split / "metadata.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("split", SPLITS)
def test_spoken_words_are_balanced_16_khz_mono_flac(split):
    rows = read_rows(split)
    counts = Counter(row["label"] for row in rows)
    assert len(counts) == 10
    assert len(set(counts.values())) == 1
    listed = {SPOKEN_WORDS / split / row["file_name"] for row in rows}
    assert listed == set((SPOKEN_WORDS / split).rglob("*.flac"))
    for row in rows:
        path = SPOKEN_WORDS / split / row["file_name"]
        info = sf.info(path)
        assert (info.format, info.subtype, info.samplerate, info.channels) == ("FLAC", "PCM_16", 16_000, 1)
        assert 0.2 < info.duration < 1.2
        peak = np.abs(sf.read(path)[0]).max()
        assert peak == pytest.approx(float(row["peak"]), abs=1e-3)
        assert path.parent.name == row["label"]


def test_spoken_words_share_no_voice_between_splits():
    voices = {split: {row["voice"] for row in read_rows(split)} for split in SPLITS}
    assert sum(map(len, voices.values())) >= 12
    variants = {split: {voice.split("+")[1] for voice in voices[split]} for split in SPLITS}
    for kind in (voices, variants):
        assert sum(map(len, kind.values())) == len(set.union(*kind.values()))
    assert len({voice.split("+")[0] for voice in voices["train"]}) >= 6
    assert {len({row["pitch"] for row in read_rows(split)}) > 10 for split in SPLITS} == {True}


def test_spoken_words_are_at_most_5_megabytes():
    assert sum(path.stat().st_size for path in SPOKEN_WORDS.rglob("*") if path.is_file()) <= 5e6


def test_spoken_words_load_as_audiofolder(tmp_path, monkeypatch):
    # datasets asks for torchcodec even where it only keeps a path; this is what it then does with a path.
    monkeypatch.setattr(datasets.Audio, "encode_example", lambda self, value: {"bytes": None, "path": value})
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.chdir(SPOKEN_WORDS.parents[1])
    exec(read_snippets(SPOKEN_WORDS / "README.md")["load"][1], names := {})
    loaded = names["dataset"]
    assert set(loaded) == set(SPLITS)
    for split, dataset in loaded.cast_column("audio", datasets.Audio(decode=False)).items():
        expected = {(str(SPOKEN_WORDS / split / row["file_name"]), row["label"]) for row in read_rows(split)}
        assert {(row["audio"]["path"], row["label"]) for row in dataset} == expected


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs the program espeak-ng")
def test_clips_can_be_made_again():
    version = subprocess.run(["espeak-ng", "--version"], capture_output=True, text=True, check=True).stdout
    row = next(row for row in read_rows("test") if row["label"] == "stop")
    samples, made = make_spoken_words.make_clip(row["label"], row["voice"])
    assert {name: str(value) for name, value in made.items()} == {k: v for k, v in row.items() if k != "file_name"}
    if " 1.51 " in version:
        shipped, _ = sf.read(SPOKEN_WORDS / "test" / row["file_name"])
        assert samples == pytest.approx(shipped, abs=1e-3)


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs the program espeak-ng")
@pytest.mark.parametrize("voice", ["en-us+nobody", "xx-xx+m1"])
def test_an_unknown_voice_is_refused(voice):
    with pytest.raises(ValueError, match=re.escape(voice)):
        make_spoken_words.check_voices(["en-us+m1", voice])


# ---- Augmenting ----


def test_augmentation_is_seeded_and_varies():
    samples = np.sin(np.arange(8_000) / 10).astype(np.float32)
    first, again = (quickstart.augment_waveform(samples, 16_000, np.random.default_rng(1)) for _ in range(2))
    assert first.dtype == np.float32
    assert np.array_equal(first, again)
    rng = np.random.default_rng(1)
    lengths = {len(quickstart.augment_waveform(samples, 16_000, rng)) for _ in range(10)}
    assert len(lengths) > 5
    spectrogram = torch.ones(100, 128)
    quickstart.mask_spectrogram(spectrogram, np.random.default_rng(3))
    assert 0 < (spectrogram == 0).float().mean() < 0.4


# ---- The script ----


@pytest.mark.parametrize(
    ("argument", "value"),
    [("epochs", 0), ("batch_size", -1), ("learning_rate", 0.0), ("learning_rate", float("nan")), ("seed", -1)],
)
def test_arguments_out_of_range_are_refused(argument, value):
    with pytest.raises(InputError, match=f"--{argument} must be .*, got {re.escape(str(value))}"):
        quickstart.QuickstartArguments(**{argument: value})


def test_folders_that_are_none_are_refused(tmp_path):
    with pytest.raises(InputError, match="--data_dir must be a folder, got 'nowhere'"):
        quickstart.QuickstartArguments(data_dir="nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="--output_dir must be a folder or a new name"):
        quickstart.QuickstartArguments(output_dir=str(tmp_path / "file"))


def test_the_script_reports_a_broken_clip_and_writes_nothing(tones, tmp_path, monkeypatch):
    (tones / "low" / "broken.wav").write_bytes(b"no audio")
    monkeypatch.setattr("sys.argv", ["quickstart.py", "--data_dir", str(tones), "--output_dir", str(tmp_path / "out")])
    # As from the command line, in this process, which has imported everything. A text exits with status 1.
    with pytest.raises(SystemExit) as exited:
        runpy.run_path(quickstart.__file__, run_name="__main__")
    assert re.match(
        r"error: 1 clip cannot be used \(.*broken\.wav: cannot be read as audio.* --max_bad_share 0.077",
        exited.value.code,
    )
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_is_none_is_refused(tones, tmp_path):
    arguments = quickstart.QuickstartArguments(str(tones), str(tmp_path / "out"), model=str(tmp_path / "none"))
    with pytest.raises(InputError, match="--model .*none: cannot be loaded"):
        quickstart.main(arguments)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def single_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_names_are_drawn_as_they_are(tmp_path):
    write_tone(tmp_path / "a$ \\x$.wav", 500)
    scores = [{"label": "5$ \\x$", "score": 0.9}, {"label": "b", "score": 0.1}]
    quickstart.draw_prediction(
        tmp_path / "out.png", str(tmp_path / "a$ \\x$.wav"), "5$ \\x$", scores, SsambaFeatureExtractor()
    )
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_the_whole_flow_and_again_from_its_checkpoint(tones, tmp_path, capsys, single_thread):
    arguments = quickstart.QuickstartArguments(str(tones), str(tmp_path / "first"), epochs=50, batch_size=4)
    # Two clips of pure tones a class apart: anything less is a broken flow.
    assert quickstart.main(arguments) == 1.0
    out = capsys.readouterr().out
    assert "Test accuracy: 1.000 (2 of 2 clips)" in out
    assert {path.name for path in (tmp_path / "first").iterdir()} >= {
        "config.json",
        "model.safetensors",
        "prediction.png",
        "preprocessor_config.json",
    }
    card = ModelCard.load(tmp_path / "first" / "README.md")
    assert card_errors(str(card)) == []
    (accuracy,) = card.data.eval_results
    assert (accuracy.metric_type, accuracy.dataset_split, accuracy.metric_value) == ("accuracy", "test", 1.0)
    for said in (
        "| Started from | new weights |",
        "| Training | 100 steps of 4 clips, 50 times over the data |",
        "drawn from all clips",
    ):
        assert said in card.text
    assert (tmp_path / "first" / "prediction.png").read_bytes().startswith(b"\x89PNG")

    classifier = pipeline("audio-classification", model=str(tmp_path / "first"))
    assert classifier.feature_extractor.max_length == 128
    for label in ("high", "low"):
        samples = read_audio(tones / label / "5.wav", 16_000)
        assert classifier({"array": samples, "sampling_rate": 16_000})[0]["label"] == label

    # A third label: the classifier is made anew, the rest is kept.
    for index in range(3):
        write_tone(tones / "middle" / f"{index}.wav", 1000, seed=index)
    again = quickstart.QuickstartArguments(
        str(tones), str(tmp_path / "second"), model=str(tmp_path / "first"), epochs=1, learning_rate=1e-9
    )
    quickstart.main(again)
    first, second = (AutoModelForAudioClassification.from_pretrained(tmp_path / name) for name in ("first", "second"))
    assert second.config.id2label == {0: "high", 1: "low", 2: "middle"}
    assert "| Started from | first |" in (tmp_path / "second" / "README.md").read_text()
    torch.testing.assert_close(first.ssamba.state_dict(), second.ssamba.state_dict(), rtol=0, atol=1e-6)


def test_equal_seeds_give_equal_models(tones, tmp_path, single_thread):
    for name in ("a", "b"):
        quickstart.main(quickstart.QuickstartArguments(str(tones), str(tmp_path / name), epochs=1, seed=5))
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("a", "b"))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_the_quickstart_reaches_its_accuracy_on_unheard_voices(tmp_path):
    done = run_script("--output_dir", tmp_path)
    assert done.returncode == 0, done.stderr
    accuracy = float(re.search(r"Test accuracy: (\S+) ", done.stdout)[1])
    assert accuracy >= 0.8
    assert (tmp_path / "prediction.png").stat().st_size > 10_000
