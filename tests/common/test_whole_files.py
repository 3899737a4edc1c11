# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or not there, whoever else writes them, and whatever their names are."""

import pytest

from hf_audio_ssm.common.whole_files import replacing


def test_two_writers_of_a_file_do_not_meet(tmp_path):
    with replacing(tmp_path / "a.txt") as first, replacing(tmp_path / "a.txt") as second:
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "a.txt").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_that_could_not_be_written_stays_as_it_was(tmp_path):
    (tmp_path / "a.txt").write_text("whole")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a.txt") as partial:
        partial.write_text(f"{1 / 0}")
    assert (tmp_path / "a.txt").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_names_may_be_as_long_as_the_file_system_takes_them(tmp_path):
    name = "n" * 251 + ".txt"
    with replacing(tmp_path / name) as partial:
        partial.write_text("whole")
    assert (tmp_path / name).read_text() == "whole"
