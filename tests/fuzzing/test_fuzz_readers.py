# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Fuzzing of the readers of audio: whatever bytes a file holds, reading it gives the same samples everywhere or an error of one line,
at once, in memory that the file's size explains, and no decoder prints anything.
"""

import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from audio_mutations import SEEDS, mutated_files, read_every_way
from fuzzing import check_examples, many_examples


# For a file of a few kilobytes, with much reserve for a loaded machine.
MAX_SECONDS = 20
# Of the process, above what it had before.
MAX_MEGABYTES = 300


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@many_examples
def test_any_bytes(num_examples, capfd):
    for name, content in SEEDS.items():
        assert (read_every_way(content) is None) == (name == "text")
    before = peak_megabytes()
    outcomes = []

    def check(content: bytes) -> None:
        begun = time.monotonic()
        outcomes.append(read_every_way(content) is not None)
        assert time.monotonic() - begun < MAX_SECONDS

    check_examples(num_examples, check, mutated_files())
    assert peak_megabytes() - before < MAX_MEGABYTES
    assert capfd.readouterr() == ("", "")
    # Both happen often: the mutations are neither harmless nor all fatal.
    assert 0.2 < sum(outcomes) / len(outcomes) < 0.95


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="atheris is installed on Linux")
def test_coverage_guided(tmp_path):
    """atheris looks for branches of the readers that no input took before, within a limit of memory."""
    pytest.importorskip("atheris")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for name, content in SEEDS.items():
        (corpus / name).write_bytes(content)
    harness = Path(__file__).with_name("atheris_readers.py")
    command = [sys.executable, str(harness), str(corpus), "-runs=10000", "-max_len=20000", "-timeout=60", "-seed=1"]
    command += ["-rss_limit_mb=4096", f"-artifact_prefix={tmp_path}/"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=3000)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Done 10000 runs" in result.stderr
