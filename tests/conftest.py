# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Fixtures of all tests. Whatever a test asks of the Hub, a stand-in on this machine answers."""

import os
import shutil
import tempfile
import venv
from pathlib import Path

import pytest
from hub_server import TOKEN, HubServer
from tones import write_tone


HUB = HubServer()
_HOME = tempfile.TemporaryDirectory(prefix="hf_home_")
# huggingface_hub reads these when it is imported.
os.environ |= {"HF_ENDPOINT": HUB.address, "HF_HOME": _HOME.name, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
# What runs on this machine is not behind a proxy, and needs no name of it, which may take minutes to look up.
os.environ |= dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost") | {"GLOO_SOCKET_IFNAME": "lo"}

# Begun last, the longest files would leave one of two workers idle.
LONGEST_FILES = (
    "ops/test_triton.py",
    "ops/test_triton_modules.py",
    "docs/test_readme_to_hub.py",
    "pretraining/test_continued_pretraining.py",
    "examples/test_tuning_scripts.py",
    "training/test_probing.py",
    "docs/test_pretraining_docs.py",
    "examples/test_space.py",
    "docs/test_ssast_docs.py",
    "docs/test_docs.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs the longest files first, and all others in their order."""
    folder, last = Path(__file__).parent, len(LONGEST_FILES)
    places = {folder / name: place for place, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: places.get(item.path, last))


@pytest.fixture
def tones(tmp_path):
    """A folder of two classes, six clips each, without splits; rates, channels and formats differ."""
    formats = [("wav", 16_000, 1), ("flac", 44_100, 2), ("ogg", 22_050, 1), ("mp3", 48_000, 2), ("wav", 8_000, 1)]
    for label, hertz in (("high", 3000), ("low", 300)):
        for index in range(6):
            suffix, rate, channels = formats[index % len(formats)]
            write_tone(
                tmp_path / "data" / label / f"{index}.{suffix}", hertz, 0.3 + 0.05 * index, rate, channels, index
            )
    return tmp_path / "data"


@pytest.fixture
def hub(monkeypatch) -> HubServer:
    """The stand-in of the Hub, empty, as is the client's cache; the user is ada, who may write under ada/ and org/."""
    HUB.reset()
    shutil.rmtree(Path(_HOME.name) / "hub", ignore_errors=True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return HUB


@pytest.fixture
def fresh_environment(tmp_path) -> Path:
    """The folder of a new virtual environment with all that is installed here, but for this package."""
    import torch

    folder = tmp_path / "environment"
    venv.create(folder, with_pip=False)
    site_packages = next(folder.glob("lib/python*/site-packages"))
    for entry in Path(torch.__file__).parents[1].iterdir():
        if not entry.name.startswith(("hf_audio_ssm", "__editable__", "__pycache__")):
            (site_packages / entry.name).symlink_to(entry)
    return folder


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A folder that looks like a clone after `make quickstart`, with a published checkpoint and a data set beside it."""
    import torch
    from golden import GOLDEN_DIR

    from hf_audio_ssm import SsambaConfig, SsambaFeatureExtractor, SsambaForAudioClassification

    folder, root = tmp_path_factory.mktemp("clone"), Path(__file__).resolve().parents[1]
    for name in ("conversion", "examples", "src"):
        (folder / name).symlink_to(root / name)
    torch.manual_seed(0)
    config = SsambaConfig(hidden_size=32, num_hidden_layers=2, max_length=100, num_labels=3)
    SsambaForAudioClassification(config).save_pretrained(folder / "outputs" / "quickstart")
    SsambaFeatureExtractor(max_length=100).save_pretrained(folder / "outputs" / "quickstart")
    shutil.copy(GOLDEN_DIR / "ssamba" / "pretrain" / "checkpoint.pth", folder / "ssamba_tiny_400.pth")
    for split in ("train", "validation", "test"):
        for hertz, label in ((200, "low"), (2000, "high")):
            for clip in range(2):
                write_tone(folder / "path/to/audio" / split / label / f"{clip}.wav", hertz, 0.5, seed=clip)
    return folder
