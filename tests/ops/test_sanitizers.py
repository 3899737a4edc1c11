# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The operators' tests with a library that watches its own memory accesses and arithmetic (AddressSanitizer, UBSan)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import hf_audio_ssm


FLAGS = "-std=c++17 -O1 -g -fPIC -shared -fopenmp -ffp-contract=fast -fvisibility=hidden -w".split()
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or shutil.which("g++") is None, reason="needs Linux and GCC")
def test_sanitized_kernels(tmp_path):
    package = tmp_path / "hf_audio_ssm"
    shutil.copytree(Path(hf_audio_ssm.__file__).parent, package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    sources = sorted((package / "ops" / "csrc").glob("*.cpp"))
    library = package / "ops" / "_cpu.abi3.so"
    subprocess.run(["g++", *FLAGS, *SANITIZERS, *map(str, sources), "-o", str(library)], check=True)
    runtimes = [
        subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path),
        "LD_PRELOAD": " ".join(runtimes),
        # The interpreter never frees everything.
        "ASAN_OPTIONS": "detect_leaks=0",
    }
    loaded = subprocess.run(
        [sys.executable, "-c", "from hf_audio_ssm.ops import cpu; print(cpu._library._name)"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout.strip() == str(library)
    tests = [str(Path(__file__).with_name(name)) for name in ("test_scan.py", "test_mixing.py", "test_layers.py")]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", "cpu or layers", *tests],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-5000:]
