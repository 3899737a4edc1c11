# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""`pip install` ends well with a C++ compiler and without one, and the package works either way."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from snippets import read_snippets, run_snippet


ROOT = Path(__file__).resolve().parents[2]
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


def test_wheels(monkeypatch):
    """The page's command finds the wheel that it is to build; building takes containers."""
    pytest.importorskip("cibuildwheel")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    snippet = read_snippets(ROOT / "docs" / "packaging.md")["wheels"]
    assert "cp310-manylinux_" in run_snippet(snippet, ROOT, " --print-build-identifiers")


BUILD_SDIST = "import sys; from setuptools import build_meta; print(build_meta.build_sdist(sys.argv[1]))"
TYPED = """
import hf_audio_ssm, importlib.metadata, importlib.resources
print((importlib.resources.files(hf_audio_ssm) / "py.typed").is_file(), importlib.metadata.version("hf-audio-ssm"))
"""


@pytest.mark.slow
def test_distributions(tmp_path, fresh_environment):
    """The sdist gives a wheel, the wheel installs where the package is missing, and its command converts and tells."""
    source, site_packages = tmp_path / "source", next(fresh_environment.glob("lib/python*/site-packages"))
    ignored = shutil.ignore_patterns(".*", "build", "*.so", "*.egg-info", "outputs", "__pycache__")
    shutil.copytree(ROOT, source, ignore=ignored)
    subprocess.run([sys.executable, "-c", BUILD_SDIST, tmp_path], cwd=source, check=True, capture_output=True)
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
        assert not [name for name in archive.getnames() if "/tests/" in name]
    unpacked = tmp_path / sdist.name.removesuffix(".tar.gz")
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", tmp_path, unpacked], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    packaged = {
        str(path.relative_to(ROOT / "src"))
        for pattern in ("*.py", "*.md", "py.typed")
        for path in (ROOT / "src" / "hf_audio_ssm").rglob(pattern)
    }
    assert packaged <= names
    assert not [name for name in names if not name.startswith("hf_audio_ssm")]
    # Whatever of the package pip finds where the tests run is neither taken for this installation nor removed.
    install = [*pip, "install", "--no-deps", "--ignore-installed", "--prefix", fresh_environment, wheel]
    subprocess.run(install, check=True, capture_output=True)
    assert (site_packages / "hf_audio_ssm" / "py.typed").is_file()

    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    python, command = fresh_environment / "bin" / "python", fresh_environment / "bin" / "hf-audio-ssm"
    # Installed scripts name the interpreter that installed them.
    run = [python, command]
    assert (
        subprocess.check_output([python, "-c", TYPED], env=environment, cwd=tmp_path, text=True).split()[0] == "True"
    )
    checkpoint = ROOT / "tests" / "fixtures" / "golden" / "ssamba" / "pretrain" / "checkpoint.pth"
    subprocess.run([*run, "convert", checkpoint, "converted"], env=environment, cwd=tmp_path, check=True)
    told = subprocess.check_output([*run, "info", "converted"], env=environment, cwd=tmp_path, text=True)
    assert "SsambaForPreTraining" in told
