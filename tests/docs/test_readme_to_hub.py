# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The README's way from a clone to a fine-tuned model on the Hub, with its card, by copying its commands in their order."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hub_server import TOKEN, card_errors
from huggingface_hub import ModelCard
from snippets import copy_few_words, read_snippets, run_snippet
from transformers import pipeline

from hf_audio_ssm.audio.decoding import read_audio


ROOT = Path(__file__).resolve().parents[2]
REPO = "ada/spoken-words"


def readme_commands() -> list[tuple[str, str]]:
    """(language, code) of the blocks on the way, in the README's order."""
    snippets = read_snippets(ROOT / "README.md")
    return [snippets[name] for name in snippets if name in ("make", "publish", "load")]


def shell(code: str, language: str, folder: Path) -> str:
    """Runs a copied block as a user's shell does; returns what it printed."""
    ours = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")
    environment = {key: value for key, value in os.environ.items() if key not in ours}
    environment |= {"HF_HOME": str(folder.parent / "home"), "HF_TOKEN": TOKEN}
    command = ["bash", "-ec", code] if language == "bash" else [".venv/bin/python", "-c", code]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_model_on_hub(folder: Path, hub, loaded: str) -> float:
    """Looks at what was pushed, and at what the block that loads it printed; returns the accuracy that the card names."""
    card = ModelCard.load(REPO)
    assert card_errors(str(card)) == []
    measured = {result.metric_type: result for result in card.data.eval_results}
    results = json.loads((folder / "outputs" / "words" / "test_results.json").read_text())
    assert measured["accuracy"].metric_value == round(results["test_accuracy"], 4)
    assert measured["accuracy"].dataset_split == "test"
    assert "| Started from | outputs/spoken_words/best |" in card.text
    assert f'model="{REPO}"' in card.text
    files = set(hub.files(REPO))
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "README.md"} <= files
    assert {name.removesuffix(".png") for name in re.findall(r"\]\((\w+\.png)\)", card.text)} == {
        "learning_curve", "confusion_matrix"
    }  # fmt: skip
    assert {"learning_curve.png", "confusion_matrix.png"} <= files

    # The model that was pushed is the one that was trained and measured.
    clips = sorted((folder / "examples" / "spoken_words" / "test").rglob("*.flac"))
    classifier = pipeline("audio-classification", model=REPO)
    right = [classifier(read_audio(clip, 16000), top_k=1)[0]["label"] == clip.parent.name for clip in clips]
    assert sum(right) / len(right) == pytest.approx(results["test_accuracy"])
    assert "'label': " in loaded
    assert "## Results on the test split" in loaded
    return results["test_accuracy"]


def test_with_few_clips(hub, tmp_path):
    """The commands in this environment, in a folder that looks like a clone after `make`, with few clips and steps."""
    folder = tmp_path / "clone"
    (folder / "examples" / "configs").mkdir(parents=True)
    copy_few_words(folder, {"train": 4, "validation": 1, "test": 3})
    # The clip that the last block reads.
    words = Path("examples", "spoken_words", "test", "yes")
    shutil.copy(ROOT / words / "en-us-f5.flac", folder / words)
    for script in (ROOT / "examples").glob("*.py"):
        shutil.copy(script, folder / "examples")
    config = (ROOT / "examples" / "configs" / "spoken_words.yaml").read_text()
    config = re.sub(r"^(max_steps|eval_steps|save_steps|warmup_steps): \d+", r"\1: 4", config, flags=re.MULTILINE)
    config = re.sub(r"^(  hidden_size|per_device_\w+): \d+", r"\1: 16", config, flags=re.MULTILINE)
    (folder / "examples" / "configs" / "spoken_words.yaml").write_text(config)

    (_, make), (_, publish), (_, load) = readme_commands()
    assert make.startswith("make quickstart")
    activate, pretrain, tune = publish.replace("\\\n", " ").splitlines()
    assert activate == "source .venv/bin/activate"
    run_snippet(("bash", pretrain), folder)
    run_snippet(("bash", tune), folder, " --num_train_epochs 2")
    check_model_on_hub(folder, hub, run_snippet(("python", load), folder))


@pytest.mark.slow
def test_from_a_fresh_clone(hub, tmp_path):
    """All of it, as it stands, with an environment of its own: installed by `make`, trained in full."""
    folder = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    (_, make), *rest = readme_commands()
    # The tests, which are that block's other command, are what runs this.
    shell(make.splitlines()[0], "bash", folder)
    printed = [shell(code, language, folder) for language, code in rest]
    assert check_model_on_hub(folder, hub, printed[-1]) > 0.8
