# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Builds the native CPU kernel if there is a C++ compiler. All other settings are in setup.cfg and pyproject.toml."""

import sys
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


SOURCES = Path("src/hf_audio_ssm/ops/csrc")


class BuildKernel(build_ext):
    """Compiles with OpenMP if the compiler has it. If the kernel cannot be compiled, the install goes on without it."""

    def build_extension(self, extension):
        if self._compiles("-fopenmp"):
            extension.extra_compile_args.append("-fopenmp")
            extension.extra_link_args.append("-fopenmp")
        super().build_extension(extension)

    def _compiles(self, flag: str) -> bool:
        with tempfile.TemporaryDirectory() as directory:
            source = Path(directory) / "probe.cpp"
            source.write_text("#include <omp.h>\nint main() { return omp_get_num_threads() - 1; }\n")
            try:
                objects = self.compiler.compile([str(source)], output_dir=directory, extra_postargs=[flag])
                self.compiler.link_executable(objects, str(Path(directory) / "probe"), extra_postargs=[flag])
            except Exception:
                return False
        return True


kernel = Extension(
    "hf_audio_ssm.ops._cpu",
    sources=[str(path) for path in sorted(SOURCES.glob("*.cpp"))],
    depends=[str(path) for path in sorted([*SOURCES.glob("*.h"), *SOURCES.glob("*.inc")])],
    language="c++",
    extra_compile_args=["-std=c++17", "-O3", "-ffp-contract=fast", "-fvisibility=hidden"],
    extra_link_args=["-Wl,-s"] if sys.platform == "linux" else [],
    py_limited_api=True,
    optional=True,
)

setup(
    ext_modules=[kernel],
    cmdclass={"build_ext": BuildKernel},
    # The library calls no Python function: one wheel works with every version.
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
