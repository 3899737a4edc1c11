# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The kernels on processors that are not this one, emulated by QEMU: which instruction sets they choose, and right results.

Needs Debian's packages qemu-user and g++-aarch64-linux-gnu.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

import hf_audio_ssm


CSRC = Path(hf_audio_ssm.__file__).parent / "ops" / "csrc"
FLAGS = "-static -std=c++17 -O2 -w -fopenmp -ffp-contract=fast".split()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("compiler", "emulator", "names"),
    [
        ("g++", [], None),
        ("g++", ["qemu-x86_64", "-cpu", "qemu64"], ["baseline"]),
        ("g++", ["qemu-x86_64", "-cpu", "max"], ["avx2", "baseline"]),
        ("aarch64-linux-gnu-g++", ["qemu-aarch64"], ["baseline"]),
    ],
    ids=["native", "x86-64", "avx2", "aarch64"],
)
def test_native_check(compiler, emulator, names, tmp_path):
    for program in (compiler, *emulator[:1]):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    sources = [Path(__file__).with_name("native_check.cpp"), *sorted(CSRC.glob("*.cpp"))]
    check = tmp_path / "native_check"
    subprocess.run([compiler, *FLAGS, f"-I{CSRC}", *map(str, sources), "-o", str(check)], check=True)
    result = subprocess.run([*emulator, str(check)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    found = [line.split(":")[0] for line in result.stdout.splitlines()]
    assert "baseline" in found
    if names is not None:
        assert found == names
