# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The snippets of docs/long_audio.md run as they stand."""

import re
from pathlib import Path

import numpy as np
import soundfile

from hf_audio_ssm import SsambaConfig, SsambaFeatureExtractor, SsambaForAudioFrameClassification


PAGE = (Path(__file__).resolve().parents[1] / "docs" / "long_audio.md").read_text(encoding="utf-8")
SNIPPETS = dict(re.findall(r"<!-- snippet: ([\w-]+) -->\n```python\n(.*?)```", PAGE, flags=re.DOTALL))


def test_all_snippets_are_known():
    assert set(SNIPPETS) == {"variable-length", "annotate"}
    assert PAGE.count("```python") == len(SNIPPETS)


def test_variable_length(capsys):
    exec(SNIPPETS["variable-length"], {})
    # 398 frames: 24 columns of 8 patches, and [CLS]; a second has 6 columns, two have 12.
    assert capsys.readouterr().out == "torch.Size([3, 193, 32])\ntensor([ 48, 192,  96])\n"


def test_annotate(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = SsambaConfig(hidden_size=16, num_hidden_layers=2, num_labels=2, id2label={0: "background", 1: "word"})
    SsambaForAudioFrameClassification(config).save_pretrained("outputs/scenes")
    SsambaFeatureExtractor().save_pretrained("outputs/scenes")
    soundfile.write("recording.wav", np.zeros(48000), 16000)
    exec(SNIPPETS["annotate"], {})
    assert "silence" in capsys.readouterr().out
    assert Path("outputs/labels/recording.rttm").is_file()
