# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The pretraining script continues exactly where it stopped, was asked to stop or was killed, alone and with others."""

import json
import random
import re
import signal
import time
from types import SimpleNamespace

import datasets
import pytest
import torch
from accelerate import Accelerator
from pretraining_runs import (
    FRAMES,
    SMALL,
    SSAST,
    START,
    Script,
    assert_equal_weights,
    command_line,
    weights,
)
from safetensors.torch import load_file
from several_processes import job_variables
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.training.pretraining.arguments import (
    PretrainingArguments,
    PretrainingDataArguments,
)
from hf_audio_ssm.training.pretraining.batches import TrainingBatches
from hf_audio_ssm.training.pretraining.run_folder import steps_in
from hf_audio_ssm.training.pretraining.schedule import Schedule


WAYS = {
    "cosine": {"lr_scheduler_type": "cosine", "mixup": 0.5, "gradient_accumulation_steps": 2, "max_grad_norm": 0.5},
    "two masks": {"two_masks": True, "num_workers": 2},
    "streaming": {"streaming": True, "num_workers": 2, "shuffle_buffer_size": 5, "mixup": 0.5, "speed": 0.1},
    "cached": {"cache_dir": "cache", "normalization": "data"},
    "ssast": {"model_type": "ssast", "config_overrides": json.dumps({**SSAST, **FRAMES})},
    "a teacher": {"objective": "follow_teacher", "objective_options": '{"decay": 0.8}'},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_run_continues_exactly(clips, tmp_path, run, monkeypatch, way):
    monkeypatch.chdir(tmp_path)
    whole = run(clips, tmp_path / "whole", max_steps=7, **WAYS[way])
    stopped = {}
    check_trigger = Accelerator.check_trigger

    def stop_at_3(self):
        stopped["steps"] = stopped.get("steps", 0) + 1
        return stopped["steps"] == 3 or check_trigger(self)

    monkeypatch.setattr(Accelerator, "check_trigger", stop_at_3)
    first = run(clips, tmp_path / "parts", max_steps=7, **WAYS[way])
    monkeypatch.setattr(Accelerator, "check_trigger", check_trigger)
    second = run(clips, tmp_path / "parts", max_steps=7, resume_from_checkpoint="latest", **WAYS[way])
    assert {step for step, _ in first} == {1, 2, 3}
    assert {step for step, _ in second} == {4, 5, 6, 7}
    assert {**first, **second} == whole
    assert_equal_weights(weights(tmp_path / "whole", 7), weights(tmp_path / "parts", 7))


def test_an_earlier_run_in_the_folder_is_set_aside(clips, tmp_path, run, capsys):
    arguments = {"eval_steps": 2, "save_total_limit": 1}
    run(clips, tmp_path, max_steps=6, **arguments)
    first = weights(tmp_path, 6)
    run(clips, tmp_path, max_steps=4, seed=1, **arguments)
    assert "of an earlier run" in capsys.readouterr().out
    assert [path.name for path in steps_in(tmp_path / "checkpoints")] == ["step-4"]
    assert_equal_weights(load_file(tmp_path / "evaluations" / "earlier-step-6" / "model.safetensors"), first)
    assert (tmp_path / "earlier-best" / "model.safetensors").is_file()
    logged = run(clips, tmp_path, max_steps=5, seed=1, resume_from_checkpoint="latest", **arguments)
    assert {step for step, _ in logged} == {5}


@pytest.mark.parametrize("num_processes", [1, 3])
def test_other_processes_go_on_at_the_same_place(num_processes):
    def make_batches(batch_size, world_size):
        accelerator = SimpleNamespace(process_index=0, num_processes=world_size)
        data = PretrainingDataArguments(train_data=["clips"])
        return TrainingBatches(datasets.Dataset.from_dict({}), None, data, batch_size, 0, accelerator)

    before, after = make_batches(4, 2), make_batches(6, num_processes)
    before.load_position({"place": 16, "places": {}, "num_workers": 0})
    position = before.position(5)
    assert position["place"] == 16 + 5 * 8
    after.load_position(json.loads(json.dumps(position)))
    # No clips to read: none are.
    assert list(after.iterate(7, 7)) == []
    assert after.count_clips(7) == 56
    assert after.count_clips(9) == 56 + 2 * 6 * num_processes


def test_weights_that_are_not_finite_are_not_saved(clips, tmp_path, run):
    with pytest.raises(InputError, match="the weights after step . are not finite; a lower --learning_rate"):
        run(clips, tmp_path, learning_rate=1e30, warmup_steps=0, logging_steps=50, eval_steps=50, save_steps=1)
    for folder in steps_in(tmp_path / "checkpoints"):
        assert all(value.isfinite().all() for value in load_file(folder / "model.safetensors").values())


def test_the_learning_rate_is_halved_on_a_plateau_and_kept_in_its_state():
    arguments = PretrainingArguments(learning_rate=1.0, warmup_steps=3, lr_patience=2)

    def make_schedule():
        optimizer = torch.optim.AdamW([torch.zeros(1)], lr=1.0)
        return Schedule(optimizer, arguments, max_steps=100), optimizer.param_groups[0]

    schedule, group = make_schedule()
    rates = [group["lr"]]
    for _ in range(4):
        schedule.after_step()
        rates.append(group["lr"])
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    rates = []
    for evaluation, accuracy in enumerate([0.5, 0.6, 0.6, 0.5, 0.4, 0.7, 0.7, 0.7, 0.7]):
        schedule.after_step()
        schedule.after_evaluation(accuracy)
        if evaluation == 3:
            state, lr = schedule.state_dict(), group["lr"]
            schedule, group = make_schedule()
            schedule.load_state_dict(state)
            # The rate itself comes with the optimiser.
            group["lr"] = lr
        rates.append(group["lr"])
    assert rates == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25]


@pytest.mark.parametrize("objective", ["masked_patches", "few_labels"])
def test_killed_at_any_step_it_continues_to_the_same_weights(labelled, tmp_path, run, objective):
    arguments = {"eval_steps": 1000, "save_steps": 3, "num_workers": 1, "objective": objective, "eval_data": labelled}
    words = command_line(labelled, tmp_path / "killed", **arguments, max_steps=1000)
    killed = Script(tmp_path / "script", *words)
    killed.wait_for_checkpoint(tmp_path / "killed")
    time.sleep(random.uniform(0, 0.5))
    killed.process.kill()
    assert killed.finish()[0] == -signal.SIGKILL
    assert not (tmp_path / "killed" / "evaluations").exists()
    last = steps_in(tmp_path / "killed" / "checkpoints")[-1]
    steps = int(last.name.removeprefix("step-")) + 5
    run(labelled, tmp_path / "whole", **arguments, max_steps=steps)
    logged = run(labelled, tmp_path / "killed", **arguments, max_steps=steps, resume_from_checkpoint="latest")
    assert len({step for step, _ in logged}) == 5
    assert_equal_weights(weights(tmp_path / "whole", steps), weights(tmp_path / "killed", steps))
    # With all that belongs to the objective: a teacher, say.
    states = [
        load_file(tmp_path / name / "checkpoints" / f"step-{steps}" / "model.safetensors")
        for name in ("whole", "killed")
    ]
    assert_equal_weights(*states)
    assert any(name.startswith("teacher.") for name in states[0]) == (objective == "few_labels")


def test_sigterm_saves_before_it_stops(clips, tmp_path):
    words = command_line(clips, tmp_path, max_steps=100_000, eval_steps=100_000, save_steps=7, num_workers=1)
    run = Script(tmp_path / "script", *words)
    run.wait_for_checkpoint(tmp_path)
    run.process.terminate()
    status, out, errors = run.finish()
    assert status == 0, errors
    step = int(re.search(r"Asked to stop: saved step (\d+)", out)[1])
    newest = steps_in(tmp_path / "checkpoints")[-1]
    assert newest.name == f"step-{step}"
    assert json.loads((newest / "run.json").read_text())["step"] == step


def test_a_checkpoint_that_was_not_finished_is_none(clips, tmp_path, run):
    run(clips, tmp_path / "out", max_steps=2)
    (tmp_path / "out" / "checkpoints" / ".step-4.partial").mkdir()
    (tmp_path / "out" / "checkpoints" / ".step-4.partial" / "run.json").write_text("{")
    assert {step for step, _ in run(clips, tmp_path / "out", resume_from_checkpoint="latest")} == {3, 4, 5, 6}


# ---- Several processes ----


# Before processes end, they must have freed what reduces gradients: otherwise they may wait without end.
ENDS_WELL = """
import gc
from accelerate import Accelerator
from torch.nn.parallel import DistributedDataParallel

end_training = Accelerator.end_training

def end(accelerator):
    assert accelerator.num_processes == 2
    assert not any(type(thing) is DistributedDataParallel for thing in gc.get_objects())
    end_training(accelerator)
    print("ended")

Accelerator.end_training = end
"""


@pytest.mark.parametrize("objective", ["masked_patches", "few_labels"])
def test_two_processes_do_what_one_does(labelled, tmp_path, run, objective):
    config = json.dumps({**SMALL, "drop_path_rate": 0.0})
    arguments = {"config_overrides": config, "report_to": "tensorboard", "max_steps": 3, "objective": objective}
    arguments["eval_data"] = labelled
    shares = {"per_device_train_batch_size": 2, "per_device_eval_batch_size": 5}
    words = command_line(labelled, tmp_path / "two", **arguments, **shares)
    two = [
        Script(tmp_path / f"script-{job['RANK']}", *words, code=ENDS_WELL + START, **job) for job in job_variables()
    ]
    run(labelled, tmp_path / "one", **arguments, per_device_train_batch_size=4)
    for script in two:
        status, out, errors = script.finish()
        assert status == 0, errors
        assert out.count("ended") == 1
    assert "on 2 processes" in two[0].written()[0]
    values = {}
    for name in ("one", "two"):
        events = EventAccumulator(str(tmp_path / name / "logs" / "pretraining")).Reload()
        tags = [tag for tag in events.Tags()["scalars"] if not tag.endswith("per_second")]
        values[name] = {(tag, event.step): event.value for tag in tags for event in events.Scalars(tag)}
    assert values["two"] == pytest.approx(values["one"], rel=1e-5)
    # AdamW divides gradients by their size: its first moment holds the gradients themselves.
    first, second = (
        torch.load(tmp_path / name / "checkpoints" / "step-2" / "optimizer.bin", weights_only=True)["state"]
        for name in ("one", "two")
    )
    # Some gradients are zero but for rounding (that of a bias which all scores share): they count by all gradients' size.
    total = torch.stack([state["exp_avg"].norm() for state in first.values()]).norm()
    for index, state in first.items():
        expected = state["exp_avg"]
        difference = (second[index]["exp_avg"] - expected).norm()
        assert difference <= 1e-5 * expected.norm() + 1e-7 * total
