# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The harness of atheris for the readers of audio, run by test_fuzz_readers.py: any exception but a ClipError ends it."""

import sys
from pathlib import Path

import atheris


sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

with atheris.instrument_imports(include=["hf_audio_ssm.audio"]):
    from audio_mutations import read_every_way


def read(content: bytes) -> None:
    """Reads one file; what is wrong raises."""
    read_every_way(content)


def main() -> None:
    """Runs until an input fails or the runs are over."""
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
