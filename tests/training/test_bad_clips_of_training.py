# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What the scripts leave out and say, from the summary at their beginning to the list at their end, in one process and in two."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import run_audio_classification
import run_few_shot
import run_probing
from huggingface_hub import ModelCard
from labelled_tones import save_encoder, write_tones
from several_processes import start_job

from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.data.labelled import LabelledDataArguments
from hf_audio_ssm.training.classifiers import ClassifierArguments
from hf_audio_ssm.training.command_line import parse_arguments
from hf_audio_ssm.training.comparison import ComparisonArguments


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Tones of two labels; a training and a test clip are broken."""
    folder = write_tones(
        tmp_path_factory.mktemp("data"), {"train": 8, "validation": 2, "test": 4}, labels=("low", "high")
    )
    for split in ("train", "test"):
        (folder / split / "low" / "0.wav").write_text("no audio")
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return save_encoder(tmp_path_factory.mktemp("encoder"))


def check_end(printed: str, output_dir: Path) -> None:
    assert "train: 15 clips, 2 classes" in printed
    assert "test: 7 clips, 2 classes" in printed
    assert f"Left out, as they cannot be read: 2 clips, see {output_dir / 'skipped_clips.csv'}:" in printed
    with open(output_dir / "skipped_clips.csv", newline="") as file:
        clips = [row["clip"] for row in csv.DictReader(file)]
    assert [Path(clip).parts[-3:] for clip in clips] == [("train", "low", "0.wav"), ("test", "low", "0.wav")]


def arguments_of(data, encoder, output_dir, *more):
    words = ["--model", encoder, "--data", data, "--output_dir", output_dir, "--max_steps", 1, "--report_to", "none",
             "--disable_tqdm", "true", "--max_bad_share", 0.1, "--save_steps", 1, "--robustness", "false", "--vary_recordings", "false", *more]  # fmt: skip
    return parse_arguments(run_audio_classification.ARGUMENTS, list(map(str, words)), "")


def test_fine_tuning_without_bad_clips(data, encoder, tmp_path, capsys):
    run_audio_classification.main(*arguments_of(data, encoder, tmp_path))
    check_end(capsys.readouterr().out, tmp_path)
    assert "1 clips of the split cannot be read and are left out." in ModelCard.load(tmp_path / "README.md").text
    assert json.loads((tmp_path / "test_results.json").read_text())["test_clips_left_out"] == 1
    # A run continues on the same clips.
    other = tmp_path / "data"
    shutil.copytree(data, other)
    (other / "train" / "low" / "1.wav").write_text("no audio")
    options = ["--resume_from_checkpoint", "true"]
    with pytest.raises(
        InputError, match=r"--resume_from_checkpoint: the run left out 2 clips, and now 3 cannot be read"
    ):
        run_audio_classification.main(*arguments_of(other, encoder, tmp_path, "--max_bad_share", 0.2, *options))


@pytest.mark.parametrize("script", [run_probing, run_few_shot])
def test_probing_without_bad_clips(data, encoder, tmp_path, capsys, script):
    kind = ComparisonArguments if script is run_probing else run_few_shot.FewShotArguments
    options = {} if script is run_probing else {"shots": [1], "seeds": [0]}
    script.main(
        LabelledDataArguments(str(data), max_bad_share=0.1),
        ClassifierArguments(str(encoder)),
        kind(str(tmp_path), methods=["knn"], **options),
    )
    check_end(capsys.readouterr().out, tmp_path)


TWO_PROCESSES = """
import json
import sys
from accelerate import PartialState
from hf_audio_ssm.data.bad_clips import report_bad_clips
from hf_audio_ssm.data.labelled import LabelledDataArguments

state = PartialState(cpu=True)
arguments = LabelledDataArguments(sys.argv[1], max_bad_share=0.1)
(clips,) = arguments.check(arguments.load(), 16000)
with open(f"{sys.argv[2]}/bad-{state.process_index}.json", "w") as file:
    json.dump([clips.bad, clips.num_short, {split: len(rows) for split, rows in clips.splits.items()}], file)
report_bad_clips(sys.argv[2], clips.bad)
state.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_leave_out_the_same_clips(data, tmp_path):
    for process, errors in start_job(["-c", TWO_PROCESSES, str(data), str(tmp_path)], tmp_path):
        process.join()
        assert process.exitcode == 0, errors.read_text()
    first, second = (json.loads((tmp_path / f"bad-{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    check_end((tmp_path / "out-0").read_text(), tmp_path)
    assert not (tmp_path / "out-1").read_text()
