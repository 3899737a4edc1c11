# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The README's classifier on other recordings: what was measured, that the README quotes it, and, slowly, measured again."""

import json
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from hf_audio_ssm.evaluation.robustness import CHANGES


ROOT = Path(__file__).resolve().parents[2]
MEASURED = ROOT / "benchmarks" / "results" / "readme_classifier.json"
# The most that a change may cost, and the least on another synthesiser's voices, in points.
LARGEST_LOSS, LEAST_ON_FLITE = 3.0, 70.0
HELD = ("0.3 s of silence before", "0.3 s of silence after", "20 dB quieter", "noise 20 dB below")


def check_changes(accuracies: dict[str, float]) -> None:
    for name in HELD:
        assert accuracies["unchanged"] - accuracies[name] <= LARGEST_LOSS, name


def test_what_was_measured_withstands_the_changes():
    results = json.loads(MEASURED.read_text(encoding="utf-8"))
    for name in ("processor", "torch", "transformers", "commit", "command", "fine-tuning"):
        assert results[name]
    assert results["runs"][0]["seed"] == 42
    for row in results["runs"]:
        assert set(row) == {"seed", "unchanged", *CHANGES, "flite", "seconds"}
    # The seed of the README's command.
    check_changes(results["runs"][0])


def test_the_readme_quotes_it():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (row,) = (row for row in json.loads(MEASURED.read_text(encoding="utf-8"))["runs"] if row["seed"] == 42)
    quoted = dict(re.findall(r"^\| ([^|]+?) \| ([\d.]+) % \|$", text, re.MULTILINE))
    assert set(quoted) == {"unchanged", *HELD, "flite"}
    assert {name: float(value) for name, value in quoted.items()} == {name: row[name] for name in quoted}


def test_the_readmes_commands_are_what_is_measured(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    pretrain, tune = import_module("readme_classifier").readme_commands()
    assert pretrain == ["examples/run_pretrain.py", "examples/configs/spoken_words.yaml"]
    assert tune[0] == "examples/run_audio_classification.py"
    assert "--push_to_hub" not in tune
    assert "--hub_model_id" not in tune


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("flite") is None, reason="needs flite")
def test_the_readmes_classifier_holds_the_bar(tmp_path):
    command = [sys.executable, ROOT / "benchmarks" / "readme_classifier.py", "--output", tmp_path / "runs"]
    subprocess.run([*command, "--json", tmp_path / "results.json"], check=True, cwd=ROOT)
    accuracies = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["runs"][0]
    check_changes(accuracies)
    assert accuracies["flite"] >= LEAST_ON_FLITE
