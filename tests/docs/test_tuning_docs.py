# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Every snippet of the pages on fine-tuning and probing runs as it stands, with fewer passes over fewer clips."""

import re
from pathlib import Path

import pytest
from labelled_tones import save_encoder
from light_librosa import replace_librosa
from snippets import read_snippets, run_here


ROOT = Path(__file__).resolve().parents[2]
SNIPPETS = [
    (name, *snippet)
    for page in ("fine_tuning", "probing")
    for name, snippet in read_snippets(ROOT / "docs" / f"{page}.md").items()
]
# Later arguments count.
SHORTER = {
    "fine-tune": " --num_train_epochs 1",
    "lora": " --num_train_epochs 1",
    "compare": " --epochs 1",
    "few-shot": " --epochs 1 --encoder_epochs 1 --shots 1 --seeds 0 --methods knn linear lora",
}
EXPECTED = {
    "fine-tune": "outputs/words/confusion_matrix.png",
    "augment": "outputs/augmentation.png",
    "adapt": "outputs/adapters/adapter_model.safetensors",
    "lora": "outputs/lora/merged/model.safetensors",
    "probe": "outputs/probe/model.safetensors",
    "see": "outputs/similarity.png",
    "compare": "outputs/probing/probing.md",
    "few-shot": "outputs/few_shot/few_shot.png",
}
# What the others print.
PRINTED = {"own-loop": r"^0\.\d+\n$", "metrics": r"'accuracy': 0\.66[^\0]*'mAP': 1\.0"}


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A folder that looks like a clone after pretraining, with few clips of four words."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / "examples" / "spoken_words").mkdir(parents=True)
    for script in (ROOT / "examples").glob("*.py"):
        (folder / "examples" / script.name).symlink_to(script)
    words = ROOT / "examples" / "spoken_words"
    for split, count in (("train", 16), ("validation", 2), ("test", 8)):
        for word in ("no", "right", "stop", "yes"):
            (folder / "examples" / "spoken_words" / split / word).mkdir(parents=True)
            for clip in sorted((words / split / word).glob("*.flac"))[:count]:
                (folder / "examples" / "spoken_words" / split / word / clip.name).symlink_to(clip)
    save_encoder(folder / "outputs" / "spoken_words" / "best")
    return folder


@pytest.mark.parametrize(("name", "language", "code"), SNIPPETS, ids=[name for name, *_ in SNIPPETS])
def test_snippets(name, language, code, clone, monkeypatch, capsys):
    monkeypatch.chdir(clone)
    replace_librosa(monkeypatch)
    if language == "bash":
        run_here(code + SHORTER.get(name, ""), monkeypatch)
    else:
        exec(compile(code, name, "exec"), {"__name__": "__main__"})
    if name in EXPECTED:
        assert (clone / EXPECTED[name]).is_file()
    else:
        assert re.search(PRINTED[name], capsys.readouterr().out)
