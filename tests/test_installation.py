# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""`pip install` ends well with a C++ compiler and without one, and the package works either way."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parents[1]
CHECK = """
import logging, torch
import hf_audio_ssm
print(hf_audio_ssm.__file__)
print(*hf_audio_ssm.ops.available_backends())
config = hf_audio_ssm.SsambaConfig(hidden_size=16, num_hidden_layers=2, max_length=32)
print(*hf_audio_ssm.SsambaForAudioClassification(config)(torch.zeros(1, 32, 128)).logits.shape)
"""


@pytest.mark.slow
@pytest.mark.parametrize("has_compiler", [True, False])
def test_install(has_compiler, tmp_path):
    if has_compiler and shutil.which("c++") is None:
        pytest.skip("needs a C++ compiler")
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".*", "build", "*.so", "*.egg-info", "outputs", "__pycache__")
    shutil.copytree(ROOT, source, ignore=ignored)
    environment = dict(os.environ)
    if not has_compiler:
        environment |= {"CC": "no-such-compiler", "CXX": "no-such-compiler"}
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(tmp_path / "site"), str(source)]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    result = subprocess.run(
        [sys.executable, "-c", CHECK],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    file, backends, shape = result.stdout.splitlines()
    assert Path(file).is_relative_to(tmp_path / "site")
    assert backends == ("cpu reference" if has_compiler else "reference")
    assert shape == "1 2"
    assert result.stderr.count("Install a C++ compiler") == (0 if has_compiler else 1)
