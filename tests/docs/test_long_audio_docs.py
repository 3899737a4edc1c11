# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The snippets of docs/long_audio.md run as they stand, the training on scenes with fewer steps."""

from pathlib import Path

import numpy as np
import soundfile
from snippets import read_snippets, run_snippet

from hf_audio_ssm import SsambaConfig, SsambaFeatureExtractor, SsambaForAudioFrameClassification


ROOT = Path(__file__).resolve().parents[2]
SNIPPETS = read_snippets(ROOT / "docs" / "long_audio.md")


def test_variable_length(capsys):
    exec(SNIPPETS["variable-length"][1], {})
    # 398 frames: 24 columns of 8 patches, and [CLS]; a second has 6 columns, two have 12.
    assert capsys.readouterr().out == "torch.Size([3, 193, 32])\ntensor([ 48, 192,  96])\n"


def test_scenes(tmp_path):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    out = run_snippet(SNIPPETS["scenes"], tmp_path, " --steps 2 --batch_size 2 --test_scenes 2 --scene_seconds 3")
    assert "F1" in out
    assert (tmp_path / "outputs" / "scenes" / "model.safetensors").is_file()


def test_annotate(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # In a narrower terminal, pandas leaves columns out.
    monkeypatch.setenv("COLUMNS", "80")
    config = SsambaConfig(hidden_size=16, num_hidden_layers=2, num_labels=2, id2label={0: "background", 1: "word"})
    SsambaForAudioFrameClassification(config).save_pretrained("outputs/scenes")
    SsambaFeatureExtractor().save_pretrained("outputs/scenes")
    soundfile.write("recording.wav", np.zeros(48000), 16000)
    exec(SNIPPETS["annotate"][1], {})
    assert "silence" in capsys.readouterr().out
    assert Path("outputs/labels/recording.rttm").is_file()
