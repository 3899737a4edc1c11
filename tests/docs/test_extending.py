# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The objective, the head and the encoder of docs/extending.md, each one file or folder and one entry, in a copy of the package."""

import json
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
from labelled_tones import save_encoder, write_tones
from snippets import read_snippets
from warm_python import run_python


ROOT = Path(__file__).resolve().parents[2]
SNIPPETS = read_snippets(ROOT / "docs" / "extending.md")
SHORT = (
    """ --train_data tones/train --eval_data tones/test --max_steps 2 --eval_steps 2 --save_steps 2 --warmup_steps 1 """
    """--per_device_train_batch_size 4 --num_workers 0 --report_to none --config_overrides """
    """'{"hidden_size": 32, "num_hidden_layers": 2, "max_length": 32, "patch_size": [32, 8], "frequency_stride": 32, """
    """"time_stride": 8}'"""
)

USE_HEAD = """
import sys
import torch
from hf_audio_ssm import SsambaFeatureExtractor, SsambaForAudioClassification
from transformers import pipeline

names = ("no", "stop", "yes")
model = SsambaForAudioClassification.from_pretrained(
    "encoder", classifier_type="maximum", id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)}
)
input_values = torch.randn(2, 32, 128)
model(input_values, labels=torch.tensor([0, 2])).loss.backward()
assert model.classifier.dense.weight.grad.any()
model.eval().save_pretrained("head")
SsambaFeatureExtractor.from_pretrained("encoder").save_pretrained("head")

loaded = SsambaForAudioClassification.from_pretrained("head").eval()
tokens = loaded.base_model(input_values).last_hidden_state[:, loaded.config.num_prefix_tokens :]
torch.testing.assert_close(loaded(input_values).logits, model.classifier.dense(tokens.amax(dim=1)))
# What a clip is padded with does not count.
attention_mask = torch.ones(2, 32)
attention_mask[1, 16:] = 0
logits = loaded(input_values, attention_mask=attention_mask).logits
torch.testing.assert_close(logits[1:], loaded(input_values[1:, :16]).logits)

scores = pipeline("audio-classification", model="head")(torch.randn(16000).numpy())
assert {score["label"] for score in scores} == set(names)
torch.save({"input_values": input_values, "logits": loaded(input_values).logits}, "expected.pt")
"""

USE_HEAD_WITHOUT_PACKAGE = """
import sys
sys.modules["hf_audio_ssm"] = None
import torch
from transformers import AutoModelForAudioClassification

expected = torch.load("expected.pt")
model = AutoModelForAudioClassification.from_pretrained("head", trust_remote_code=True).eval()
torch.testing.assert_close(model(expected["input_values"]).logits, expected["logits"], rtol=1e-4, atol=1e-5)
"""

USE_ENCODER = """
import torch
import hf_audio_ssm
from transformers import AutoConfig, AutoModelForAudioClassification, AutoModelForPreTraining

config = AutoConfig.for_model("recurrent", hidden_size=32, max_length=64, num_labels=3, classifier_type="layer_weighted")
torch.manual_seed(0)
model = AutoModelForPreTraining.from_config(config)
input_values = torch.randn(2, 64, 128)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
losses = []
for _ in range(10):
    torch.manual_seed(0)
    loss = model(input_values).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
assert losses[-1] < 0.8 * losses[0], losses
assert all(parameter.grad is not None for parameter in model.parameters())
model.save_pretrained("recurrent")

classifier = AutoModelForAudioClassification.from_pretrained("recurrent").eval()
attention_mask = torch.ones(2, 64)
attention_mask[1, 32:] = 0
logits = classifier(input_values, attention_mask=attention_mask).logits
torch.testing.assert_close(logits[1:], classifier(input_values[1:, :32]).logits)
stored = dict(model.named_parameters())
for name, parameter in classifier.named_parameters():
    assert name.startswith("classifier.") or torch.equal(parameter, stored[name]), name
"""

USE_ENCODER_WITHOUT_PACKAGE = """
import sys
sys.modules["hf_audio_ssm"] = None
import torch
from transformers import AutoModelForPreTraining
assert AutoModelForPreTraining.from_pretrained("recurrent", trust_remote_code=True)(torch.ones(1, 64, 128)).loss.isfinite()
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A folder that looks like a clone, with what the page adds to the package, and an encoder and clips to use it with."""
    folder = tmp_path_factory.mktemp("clone")
    package = folder / "src" / "hf_audio_ssm"
    shutil.copytree(ROOT / "src" / "hf_audio_ssm", package, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "examples").symlink_to(ROOT / "examples")
    files = {
        "objectives/mel_statistics.py": "objective",
        "models/heads/maximum_head.py": "head",
        "models/recurrent/configuration_recurrent.py": "configuration",
        "models/recurrent/modeling_recurrent.py": "model",
    }
    (package / "models" / "recurrent").mkdir()
    (package / "models" / "recurrent" / "__init__.py").touch()
    for path, name in files.items():
        (package / path).write_text(SNIPPETS[name][1], encoding="utf-8")
    add_entry(package / "objectives" / "__init__.py", "OBJECTIVES", "objective-entry")
    add_entry(package / "models" / "heads" / "classification_heads.py", "CLASSIFICATION_HEADS", "head-entry")
    add_entry(package / "models" / "__init__.py", "ENCODERS", "entry")
    save_encoder(folder / "encoder")
    write_tones(folder / "tones", {"train": 2, "validation": 1, "test": 1})
    return folder


def add_entry(path: Path, table: str, name: str) -> None:
    """Writes a snippet below a table (a `dict` of several lines)."""
    text, count = re.subn(
        rf"(^{table}\b[^\n]*= \{{\n.*?^\}}\n)",
        lambda match: match[1] + SNIPPETS[name][1],
        path.read_text(encoding="utf-8"),
        flags=re.MULTILINE | re.DOTALL,
    )
    assert count == 1, table
    path.write_text(text, encoding="utf-8")


def run(arguments: list[str], clone: Path) -> None:
    """Runs `python ARGUMENT...` with the copy of the package."""
    result = run_python(arguments, clone, {**os.environ, "PYTHONPATH": str(clone / "src")})
    assert result.returncode == 0, result.stdout + result.stderr


def run_without_package(code: str, clone: Path, home: Path) -> None:
    """Runs code that hides the package, with no remote code in the cache."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(home)}
    result = run_python(["-c", code], clone, environment)
    assert result.returncode == 0, result.stderr


def run_shell(name: str, clone: Path, more: str) -> None:
    """Runs a snippet `python SCRIPT ARGUMENT...` with more arguments, of which the last ones count."""
    program, *words = shlex.split(SNIPPETS[name][1].rstrip().replace("\\\n", " ") + more)
    assert program == "python"
    run(words, clone)


def test_the_objective_trains(clone):
    run_shell("objective-use", clone, SHORT)
    best = clone / "outputs" / "mel_statistics" / "best"
    assert json.loads((best / "config.json").read_text())["architectures"] == ["SsambaModel"]
    card = (best / "README.md").read_text(encoding="utf-8")
    assert "trained without labels to predict the statistics of a clip's mel bins" in card
    assert "squared error" in card
    assert "| Noise | 1.0 |" in card


def test_the_head_is_complete(clone, tmp_path):
    run(["-c", USE_HEAD], clone)
    run_without_package(USE_HEAD_WITHOUT_PACKAGE, clone, tmp_path)


def test_the_head_is_a_probe(clone):
    run_shell("head-use", clone, " --model encoder --data tones --epochs 1 --methods maximum")
    saved = clone / "outputs" / "maximum" / "maximum"
    assert json.loads((saved / "config.json").read_text())["classifier_type"] == "maximum"
    assert (saved / "model.safetensors").is_file()
    assert "| maximum |" in (clone / "outputs" / "maximum" / "probing.md").read_text()


def test_the_encoder_is_complete(clone, tmp_path):
    run(["-c", USE_ENCODER], clone)
    run_without_package(USE_ENCODER_WITHOUT_PACKAGE, clone, tmp_path)
