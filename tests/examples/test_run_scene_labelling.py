# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Scenes of labelled clips, and the whole flow on scenes of tones."""

import numpy as np
import pandas as pd
import pytest
import run_scene_labelling
import soundfile
import torch
from hub_server import card_errors
from huggingface_hub import ModelCard
from run_scene_labelling import SceneArguments, Scenes, make_model, read_clip
from tones import write_tone

from hf_audio_ssm import SsambaFeatureExtractor, annotate
from hf_audio_ssm.common.errors import InputError


LABELS = ["high", "low", "background"]


@pytest.fixture
def tones(tmp_path):
    """A folder of two labels, three clips in each split."""
    for split in ("train", "validation", "test"):
        for label, hertz in (("low", 300), ("high", 3000)):
            for clip in range(3):
                write_tone(tmp_path / "tones" / split / label / f"{clip}.wav", hertz * (1 + 0.02 * clip), 0.4)
    return tmp_path / "tones"


def make_scenes(anew=False, **arguments) -> Scenes:
    generator = np.random.default_rng(0)
    clips = [(generator.uniform(-1, 1, 6000).astype(np.float32), label) for label in ("low", "high") for _ in range(2)]
    return Scenes(clips, LABELS, SsambaFeatureExtractor(), SceneArguments(**arguments), count=4, seed=1, anew=anew)


def test_scenes_hold_their_clips():
    scenes = make_scenes(scene_seconds=4.0)
    samples, events = scenes.make_scene(0)
    assert len(samples) == 64000
    assert len(events) > 2
    assert (events["onset"].to_numpy()[1:] >= events["offset"].to_numpy()[:-1]).all()
    is_sound = np.zeros(len(samples), dtype=bool)
    for onset, offset, _ in events.itertuples(index=False):
        is_sound[round(16000 * onset) : round(16000 * offset)] = True
        assert np.abs(samples[round(16000 * onset) : round(16000 * offset)]).mean() > 0.03
    assert np.abs(samples[~is_sound]).max() < 0.03


def test_scenes_are_the_same_each_time_or_drawn_anew():
    fixed, anew = make_scenes(), make_scenes(anew=True)
    assert np.array_equal(fixed.make_scene(1)[0], fixed.make_scene(1)[0])
    assert not np.array_equal(fixed.make_scene(1)[0], fixed.make_scene(2)[0])
    assert not np.array_equal(anew.make_scene(1)[0], anew.make_scene(1)[0])


def test_a_step_has_the_label_that_fills_most_of_it():
    scenes = make_scenes(frames_per_label=10)
    events = pd.DataFrame([(0.04, 0.1, "low"), (0.16, 0.36, "high")], columns=["onset", "offset", "label"])
    assert [LABELS[index] for index in scenes.label_steps(events, 50)] == [
        "low",
        "background",
        "high",
        "high",
        "background",
    ]


def test_a_label_a_second():
    scenes = make_scenes(scene_seconds=5.0, frames_per_label=100)
    model = make_model(scenes.arguments, LABELS, scenes.clips)[1]
    batch = run_scene_labelling.trim_labels(model, [scenes[0], scenes[1]])
    assert batch["labels"].shape == (2, 5)
    assert model(**batch).logits.shape == (2, 5, 3)


def test_clips_lose_the_silence_around_them(tmp_path):
    samples = np.zeros(8000, dtype=np.float32)
    samples[3000:5000] = 0.1
    soundfile.write(tmp_path / "clip.wav", samples, 16000)
    assert np.allclose(read_clip(tmp_path / "clip.wav", 16000), np.ones(2000), atol=1e-3)
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000), 16000)
    with pytest.raises(InputError, match="silent.wav: is silent"):
        read_clip(tmp_path / "silent.wav", 16000)


def test_names_of_labels_are_drawn_as_they_are(tmp_path):
    scenes = make_scenes(scene_seconds=1.0)
    scenes.labels = ["5$ \\x$", "low", "high", "background"]
    events = pd.DataFrame([(0.1, 0.5, "5$ \\x$", 0)], columns=["onset", "offset", "label", "file"])
    run_scene_labelling.draw_scene(tmp_path / "scene.png", scenes, 0, events, events)
    assert (tmp_path / "scene.png").read_bytes().startswith(b"\x89PNG")


def test_the_whole_flow(tones, tmp_path, capsys):
    torch.set_num_threads(1)
    output_dir = tmp_path / "out"
    arguments = {"data_dir": str(tones), "output_dir": str(output_dir), "scene_seconds": 3.0, "test_scenes": 4}
    scores = run_scene_labelling.main(SceneArguments(**arguments, steps=60, batch_size=4))
    assert scores["second_f1"] > 0.9
    assert scores["event_f1"] > 0.8
    assert "true events in 4 test scenes" in capsys.readouterr().out
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "events.csv", "scene.png"} <= {
        path.name for path in output_dir.iterdir()
    }
    card = ModelCard.load(output_dir / "README.md")
    assert card_errors(str(card)) == []
    measured = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert measured == {name: round(score, 4) for name, score in scores.items()}
    assert {result.dataset_split for result in card.data.eval_results} == {"test"}
    for said in ("on the 4 test scenes of", "scenes of 3 s", 'annotate("clip.wav", "out")', "](scene.png)"):
        assert said in card.text
    assert set(pd.read_csv(output_dir / "events.csv").columns) == {"onset", "offset", "label", "score", "file"}

    # What was saved finds events in recordings, and is a start for more training.
    scene, events = make_scenes(scene_seconds=3.0).make_scene(0)
    soundfile.write(tmp_path / "scene.wav", scene, 16000)
    assert annotate(tmp_path / "scene.wav", str(output_dir), background=["background"]).seconds == pytest.approx(3.0)
    again = SceneArguments(**{**arguments, "output_dir": str(tmp_path / "again")}, model=str(output_dir), steps=1)
    assert run_scene_labelling.main(again)["second_f1"] > 0.8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "--steps must be at least 1, got 0"),
        ({"frames_per_label": 0}, "--frames_per_label must be at least 1"),
        ({"scene_seconds": -1.0}, "--scene_seconds must be a positive number, got -1.0"),
        ({"learning_rate": 0.0}, "--learning_rate must be a positive number"),
        ({"max_pause_seconds": -0.1}, "--max_pause_seconds must be zero or a positive number"),
        ({"output_dir": __file__}, "--output_dir must be a folder or a new name"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        SceneArguments(**arguments)
