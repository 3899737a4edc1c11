# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""A folder and an entry make an encoder: that of docs/extending.md, added to a copy of the package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from snippets import read_snippets


ROOT = Path(__file__).resolve().parents[2]
SNIPPETS = read_snippets(ROOT / "docs" / "extending.md")

USE = """
import sys
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
model.save_pretrained(sys.argv[1])

classifier = AutoModelForAudioClassification.from_pretrained(sys.argv[1]).eval()
attention_mask = torch.ones(2, 64)
attention_mask[1, 32:] = 0
logits = classifier(input_values, attention_mask=attention_mask).logits
torch.testing.assert_close(logits[1:], classifier(input_values[1:, :32]).logits)
stored = dict(model.named_parameters())
for name, parameter in classifier.named_parameters():
    assert name.startswith("classifier.") or torch.equal(parameter, stored[name]), name
"""

USE_WITHOUT_PACKAGE = """
import sys
sys.modules["hf_audio_ssm"] = None
import torch
from transformers import AutoModelForPreTraining
print(AutoModelForPreTraining.from_pretrained(sys.argv[1], trust_remote_code=True)(torch.ones(1, 64, 128)).loss.isfinite())
"""


def run_python(code: str, folder: Path, **environment) -> str:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **environment}
    command = [sys.executable, "-c", code, str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_documented_encoder_is_complete(tmp_path):
    package = tmp_path / "src" / "hf_audio_ssm"
    shutil.copytree(ROOT / "src" / "hf_audio_ssm", package, ignore=shutil.ignore_patterns("__pycache__"))
    models = package / "models"
    (models / "recurrent").mkdir()
    (models / "recurrent" / "__init__.py").touch()
    (models / "recurrent" / "configuration_recurrent.py").write_text(SNIPPETS["configuration"][1], encoding="utf-8")
    (models / "recurrent" / "modeling_recurrent.py").write_text(SNIPPETS["model"][1], encoding="utf-8")
    with (models / "__init__.py").open("a", encoding="utf-8") as file:
        file.write(SNIPPETS["entry"][1])
    run_python(USE, tmp_path / "saved", PYTHONPATH=str(package.parent))
    assert "True" in run_python(USE_WITHOUT_PACKAGE, tmp_path / "saved", HF_HOME=str(tmp_path / "home"))
