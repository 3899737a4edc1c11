# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Every snippet of the README runs as it stands; those that publish and load in test_readme_to_hub.py."""

import re
from pathlib import Path

from snippets import read_snippets, run_snippet

import hf_audio_ssm


ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = read_snippets(ROOT / "README.md")


def test_classify(clone):
    assert re.search(r"'score': 0\.\d+, 'label': 'LABEL_\d'", run_snippet(SNIPPETS["classify"], clone))


def test_embed(clone):
    assert run_snippet(SNIPPETS["embed"], clone) == "torch.Size([1, 32])\ntorch.Size([1, 49, 32])\n"


def test_backends(clone):
    assert run_snippet(SNIPPETS["backends"], clone).strip() == str(hf_audio_ssm.ops.available_backends())


def test_convert_then_fine_tune(clone):
    run_snippet(SNIPPETS["convert"], clone)
    assert (clone / "ssamba-tiny-400" / "model.safetensors").is_file()
    run_snippet(SNIPPETS["fine-tune"], clone)


def test_train(clone):
    # One pass over the clips instead of as many as learning takes.
    run_snippet(SNIPPETS["train"], clone, " --epochs 1")
    assert (clone / "outputs" / "mine" / "model.safetensors").is_file()


def test_links_lead_to_files():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", README) + re.findall(
        r"^\| `([\w/]+)`", README, flags=re.MULTILINE
    )
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target
