# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Clips to pretrain on, and the pretraining script in the process of the tests."""

import signal
from pathlib import Path

import datasets
import pytest
import run_pretrain
import torch
import toy_objectives
from accelerate import Accelerator
from pretraining_runs import check_reconstruction, command_line, reset_accelerate
from tones import write_tone

from hf_audio_ssm.inference import plots
from hf_audio_ssm.objectives import OBJECTIVES


PLOT = plots.plot_reconstruction


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for index in range(12):
        write_tone(folder / f"{index}.wav", 200 + 250 * index, seconds=0.8, seed=index)
    return folder


@pytest.fixture(scope="module")
def labelled(clips, tmp_path_factory) -> list[Path]:
    """Two sources: the clips with labels, and without."""
    rows = [{"audio": str(path), "label": int(path.stem) % 2} for path in sorted(clips.iterdir())]
    folder = tmp_path_factory.mktemp("labelled") / "data"
    datasets.Dataset.from_list(rows).save_to_disk(folder)
    return [folder, clips]


@pytest.fixture
def run(monkeypatch):
    """
    Runs the script in this process, and returns what it logged, by step and name. Reconstructions are computed, but pictures
    of them, which take most of a run's time, are drawn only if asked for.
    """
    threads, handler = torch.get_num_threads(), signal.getsignal(signal.SIGTERM)
    torch.set_num_threads(1)
    log, save_figure = Accelerator.log, plots.save_figure
    monkeypatch.setitem(OBJECTIVES, "follow_teacher", "")
    monkeypatch.setitem(OBJECTIVES, "few_labels", "")
    toy_objectives.register()

    def run(*arguments, draws=False, **kwargs) -> dict[tuple[int, str], float]:
        logged = {}
        monkeypatch.setattr(plots, "save_figure", save_figure if draws else lambda figure, path: None)
        monkeypatch.setattr(plots, "plot_reconstruction", PLOT if draws else check_reconstruction)

        def record(self, values, step, **more):
            logged.update({(step, name): value for name, value in values.items()})
            log(self, values, step=step, **more)

        monkeypatch.setattr(Accelerator, "log", record)
        reset_accelerate()
        run_pretrain.main(*run_pretrain.parse_arguments(command_line(*arguments, **kwargs)))
        return {key: value for key, value in logged.items() if not key[1].endswith("per_second")}

    yield run
    reset_accelerate()
    torch.set_num_threads(threads)
    signal.signal(signal.SIGTERM, handler)
