# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs of the pretraining script: its command lines, its small models, and the script in a process of its own."""

import json
import os
import time
from pathlib import Path

import pytest
import run_pretrain
import torch
import toy_objectives
from accelerate.state import AcceleratorState, GradientState, PartialState
from safetensors.torch import load_file
from warm_python import start_python

from hf_audio_ssm.training.pretraining.run_folder import steps_in


SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "state_size": 4,
    "max_length": 48,
    "drop_path_rate": 0.2,
}
SSAST = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_length": 48,
}
FRAMES = {"patch_size": [128, 2], "frequency_stride": 128, "time_stride": 2}


def command_line(clips, out, **kwargs) -> list[str]:
    arguments = {
        "train_data": clips,
        "eval_data": clips,
        "output_dir": out,
        "config_overrides": json.dumps(SMALL),
        "max_steps": 6,
        "per_device_train_batch_size": 4,
        "learning_rate": 3e-3,
        "warmup_steps": 2,
        "logging_steps": 1,
        "eval_steps": 3,
        "save_steps": 2,
        "save_total_limit": 3,
        "num_workers": 0,
        "report_to": "none",
        **kwargs,
    }
    words = []
    for name, value in arguments.items():
        if value is not None:
            words += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return words


def check_reconstruction(inputs, visible, reconstruction):
    assert inputs.shape == visible.shape == reconstruction.shape
    assert reconstruction.isfinite().all()
    assert visible.isnan().any()
    shown = ~visible.isnan()
    assert torch.equal(visible[shown], inputs[shown])


def reset_accelerate():
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


# Runs a script on one thread, which knows the objectives of the tests.
START = """
import runpy, sys, torch, toy_objectives
torch.set_num_threads(1)
toy_objectives.register()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Script:
    """The script in a process of its own, whose output goes to files in `folder`."""

    def __init__(self, folder: Path, *words: str, code: str = START, **variables: str):
        folder.mkdir(exist_ok=True)
        self.streams = [folder / "out", folder / "errors"]
        environment = {
            **os.environ,
            "ACCELERATE_USE_CPU": "1",
            "PYTHONPATH": str(Path(toy_objectives.__file__).parent),
            **variables,
        }
        command = ["-c", code, run_pretrain.__file__, *words]
        self.process = start_python(command, folder, [str(stream) for stream in self.streams], environment)

    def wait_for_checkpoint(self, out: Path) -> None:
        while not steps_in(out / "checkpoints"):
            assert self.process.is_alive(), "the run ended by itself\n" + "\n".join(self.written())
            time.sleep(0.01)

    def finish(self, seconds: float = 600) -> tuple[int, str, str]:
        """Exit status, output and errors."""
        self.process.join(seconds)
        is_late = self.process.is_alive()
        self.process.kill()
        self.process.join()
        if is_late:
            pytest.fail(f"not at its end after {seconds:g} s\n" + "\n".join(self.written()))
        return self.process.exitcode, *self.written()

    def written(self) -> list[str]:
        """Output and errors so far."""
        return [stream.read_text() for stream in self.streams]


def weights(out: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(out / "evaluations" / f"step-{step}" / "model.safetensors")


def assert_equal_weights(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
