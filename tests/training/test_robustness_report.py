# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What fine-tuning does by itself so that other recordings are classified as well: the window, and the table of robustness."""

import json

import numpy as np
import pytest
import run_audio_classification
import soundfile
from labelled_tones import save_encoder, write_tones
from transformers import AutoConfig

from hf_audio_ssm.audio.decoding import read_audio
from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.data.augmentation import AugmentationArguments, VaryRecordings
from hf_audio_ssm.data.labelled import LabelledDataArguments
from hf_audio_ssm.data.labelled_collator import LabelledClipCollator
from hf_audio_ssm.evaluation.robustness import CHANGES
from hf_audio_ssm.training.classifiers import ClassifierArguments
from hf_audio_ssm.training.command_line import parse_arguments
from hf_audio_ssm.training.reports import describe_window
from hf_audio_ssm.training.robustness import ChangedClips, choose_clips, measure_robustness


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    return write_tones(tmp_path_factory.mktemp("tones"), {"train": 4, "validation": 2, "test": 2})


@pytest.fixture(scope="module")
def clips(tones):
    return LabelledDataArguments(str(tones)).load()[0]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return save_encoder(tmp_path_factory.mktemp("encoder"))


# ---- The window ----


def test_the_window_holds_the_longest_clip_and_silence_beside_it(clips, encoder):
    # 0.3 s and 0.6 s, in whole blocks of 16 frames.
    for arguments, frames in (({}, 96), ({"max_length": 40}, 40), ({"config_overrides": '{"max_length": 64}'}, 96)):
        feature_extractor, model = ClassifierArguments(str(encoder), **arguments).load(clips)
        assert feature_extractor.max_length == frames
        assert model.config.max_length == (64 if "config_overrides" in arguments else frames)
    # Without clips there is nothing to fit.
    assert ClassifierArguments(str(encoder)).load_feature_extractor().max_length == 32


def test_one_long_clip_makes_no_window_of_hours(tmp_path, encoder):
    write_tones(tmp_path, {"train": 3}, labels=("low", "high"))
    soundfile.write(tmp_path / "train" / "low" / "long.wav", np.full(90 * 8000, 0.1), 8000)
    (clips,) = LabelledDataArguments(str(tmp_path)).load()
    feature_extractor = ClassifierArguments(str(encoder)).load_feature_extractor(clips)
    assert feature_extractor.max_length == 6000
    assert describe_window(feature_extractor, clips) == (
        "6000 frames (60 s) of a clip are read; the longest has 90.00 s. The rest of 1 of 7 clips is not heard: see --max_length."
    )


def test_the_window_holds_a_patch(clips, tmp_path):
    encoder = save_encoder(tmp_path, patch_size=[128, 112], frequency_stride=128, time_stride=112, max_length=224)
    feature_extractor, model = ClassifierArguments(str(encoder)).load(clips)
    assert feature_extractor.max_length == model.config.max_length == 112


# ---- The default augmentation ----


def test_no_training_clip_is_cut_as_it_was(clips, encoder):
    """In the batches of the default recipe, clips begin at other times, at other levels, and all of them are in the window."""
    feature_extractor = ClassifierArguments(str(encoder)).load_feature_extractor(clips)
    rows = [clips.splits["train"][index] for index in range(16)]
    plain = LabelledClipCollator(feature_extractor, 4, multi_hot=False)(rows)["input_values"]
    augmentation = AugmentationArguments().make(0, max_seconds=0.975)
    varied = LabelledClipCollator(feature_extractor, 4, multi_hot=False, augmentation=augmentation)(rows)[
        "input_values"
    ]
    # In the loudest bin, clips are far above the noise around them.
    peaks = varied.amax(dim=2)
    starts = [int((own > (own.min() + own.max()) / 2).int().argmax()) for own in peaks]
    assert len(set(starts)) > 4
    levels = varied.amax(dim=(1, 2)) - plain.amax(dim=(1, 2))
    # 20 dB are 4.6 in the filter bank.
    assert float(levels.max() - levels.min()) > 4.6 / (2 * feature_extractor.std)


# ---- The table ----


def test_the_classifier_is_scored_on_each_change(clips):
    test, seen = clips.splits["test"], []

    def score(rows):
        seen.append([read_audio(rows[index]["audio"], 16000) for index in range(len(rows))])
        assert [rows[index]["label"] for index in range(len(rows))] == list(test["label"])[: len(rows)]
        return float(len(seen))

    table = measure_robustness(score, test, 16000, max_seconds=1.0, others={"clips of x": test.select([0])})
    assert list(table) == ["unchanged", *CHANGES, "clips of x"]
    assert list(table.values()) == list(range(1, len(table) + 1))
    originals = seen[0]
    assert len(seen[-1]) == 1
    for name, changed in zip(CHANGES, seen[1:], strict=False):
        for index, (original, samples) in enumerate(zip(originals, changed, strict=True)):
            np.testing.assert_allclose(samples, CHANGES[name](original, 16000, np.random.default_rng(index)))
    # Equal at each reading, different between clips.
    noisy = ChangedClips(test, "noise 20 dB below", 16000, 1.0)
    np.testing.assert_array_equal(noisy[3]["audio"]["array"], noisy[3]["audio"]["array"])
    noises = [noisy[index]["audio"]["array"] - originals[index] for index in (0, 1)]
    assert abs(np.corrcoef(noises)[0, 1]) < 0.1


def test_a_long_test_split_is_read_in_part(clips):
    chosen = choose_clips(clips.splits["train"], 4)
    assert len(chosen) == 4
    assert len(set(chosen["label"])) == 4
    assert choose_clips(clips.splits["train"], 16) is clips.splits["train"]


# ---- In a run ----


def fine_tune(tones, encoder, output_dir, *more):
    words = ["--model", encoder, "--data", tones, "--output_dir", output_dir, "--num_train_epochs", 1, "--report_to", "none",
             "--disable_tqdm", "true", "--save_strategy", "no", *more]  # fmt: skip
    arguments = parse_arguments(run_audio_classification.ARGUMENTS, [str(word) for word in words], "")
    return run_audio_classification.main(*arguments)[0]


def test_a_run_says_what_it_does_and_what_it_withstands(tones, encoder, tmp_path, capsys):
    other = write_tones(tmp_path / "other", {"voices": 3}, rate=8000, labels=("low", "noise"))
    (other / "voices" / "low" / "0.wav").write_bytes(b"<html>")
    metrics = fine_tune(
        tones, encoder, tmp_path / "out", "--robustness_data", other / "voices", "--max_bad_share", 0.2
    )
    printed = capsys.readouterr().out
    assert f"Augmentation of training clips: vary_recordings ({VaryRecordings().describe()}).\n" in printed
    assert "--vary_recordings false" in printed
    assert "Window: 96 frames (0.96 s) of a clip are read; the longest has 0.30 s." in printed
    results = json.loads((tmp_path / "out" / "test_results.json").read_text())
    table = results["test_robustness"]
    assert set(table) == {"unchanged", *CHANGES, f"clips of {other / 'voices'}"}
    assert f"{other / 'voices'}: left out, as they cannot be read: 1 clip\n" in printed
    assert table["unchanged"] == results["test_accuracy"] == metrics["accuracy"]
    card = (tmp_path / "out" / "README.md").read_text()
    for name, value in table.items():
        assert f"  {name}: {value:.4f}\n" in printed
        if name in CHANGES:
            assert f"| {name} | {value:.4f} |" in card
    assert AutoConfig.from_pretrained(tmp_path / "out").max_length == 96


def test_all_of_it_can_be_left_out(tones, encoder, tmp_path, capsys):
    fine_tune(
        tones, encoder, tmp_path / "out", "--robustness", "false", "--vary_recordings", "false", "--max_length", 32
    )
    printed = capsys.readouterr().out
    assert "Augmentation of training clips: none." in printed
    assert "Window: 32 frames (0.32 s)" in printed
    assert "unchanged" not in printed
    assert "test_robustness" not in json.loads((tmp_path / "out" / "test_results.json").read_text())
    card = (tmp_path / "out" / "README.md").read_text()
    assert "## Robustness" not in card
    assert "| Augmentation | none |" in card
    assert not (tmp_path / "out" / "augmentation.png").exists()


@pytest.mark.parametrize("source", ["missing", "unknown label", "broken"])
def test_another_source_that_cannot_be_used_ends_the_run_before_training(tones, encoder, tmp_path, source):
    other = tmp_path / "other"
    if source == "unknown label":
        write_tones(tmp_path, {"other": 2}, labels=("low",))
        (other / "low").rename(other / "hum")
    if source == "broken":
        write_tones(tmp_path, {"other": 2}, labels=("low",))
        (other / "low" / "1.wav").write_bytes(b"<html>")
    with pytest.raises(InputError) as error:
        fine_tune(tones, encoder, tmp_path / "out", "--robustness_data", other)
    assert str(other) in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out" / "model.safetensors").exists()
