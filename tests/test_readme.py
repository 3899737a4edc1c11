# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Every snippet of the README runs as it stands."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from golden import GOLDEN_DIR

import hf_audio_ssm
from hf_audio_ssm import SsambaConfig, SsambaFeatureExtractor, SsambaForAudioClassification


ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = {
    name: (language, code)
    for name, language, code in re.findall(r"<!-- snippet: ([\w-]+) -->\n```(\w+)\n(.*?)```", README, flags=re.DOTALL)
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A folder that looks like a clone after `make quickstart`, with a published checkpoint beside it."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("conversion", "examples", "src"):
        (folder / name).symlink_to(ROOT / name)
    torch.manual_seed(0)
    config = SsambaConfig(hidden_size=32, num_hidden_layers=2, max_length=100, num_labels=3)
    SsambaForAudioClassification(config).save_pretrained(folder / "outputs" / "quickstart")
    SsambaFeatureExtractor(max_length=100).save_pretrained(folder / "outputs" / "quickstart")
    shutil.copy(GOLDEN_DIR / "ssamba" / "pretrain" / "checkpoint.pth", folder / "ssamba_tiny_400.pth")
    generator = np.random.default_rng(0)
    for split in ("train", "validation", "test"):
        for pitch, label in ((200, "low"), (2000, "high")):
            (folder / "path/to/audio" / split / label).mkdir(parents=True)
            for clip in range(2):
                wave = np.sin(np.arange(8000) * pitch / 16000 * 2 * np.pi) + generator.normal(0, 0.1, 8000)
                soundfile.write(folder / "path/to/audio" / split / label / f"{clip}.wav", wave / 2, 16000)
    return folder


def run_snippet(name: str, folder: Path, more_arguments: str = "") -> str:
    language, code = SNIPPETS[name]
    code = code.rstrip() + more_arguments
    if language == "python":
        command = [sys.executable, "-c", code]
    else:
        command = ["bash", "-ec", code.replace("python ", f"{sys.executable} ", 1)]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_all_snippets_are_known():
    # Beside these there is the block with `make`, which is what runs this test.
    assert set(SNIPPETS) == {"train", "classify", "embed", "convert", "fine-tune", "backends"}
    assert README.count("```") // 2 == len(SNIPPETS) + 1


def test_classify(clone):
    assert re.search(r"'score': 0\.\d+, 'label': 'LABEL_\d'", run_snippet("classify", clone))


def test_embed(clone):
    assert run_snippet("embed", clone) == "torch.Size([1, 32])\ntorch.Size([1, 49, 32])\n"


def test_backends(clone):
    assert run_snippet("backends", clone).strip() == str(hf_audio_ssm.ops.available_backends())


def test_convert_then_fine_tune(clone):
    run_snippet("convert", clone)
    assert (clone / "ssamba-tiny-400" / "model.safetensors").is_file()
    run_snippet("fine-tune", clone)


def test_train(clone):
    # One pass over the clips instead of as many as learning takes.
    run_snippet("train", clone, " --epochs 1")
    assert (clone / "outputs" / "mine" / "model.safetensors").is_file()


def test_links_lead_to_files():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", README) + re.findall(
        r"^\| `([\w/]+)`", README, flags=re.MULTILINE
    )
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target
