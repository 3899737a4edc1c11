# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""A pretraining run continues from complete checkpoints alone, and nothing in them runs code."""

import json
import re
import shutil

import pytest
import run_pretrain
from code_in_pickles import SOME_WRITERS, write_pickle
from pretraining_runs import command_line, reset_accelerate

from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.inference import plots
from hf_audio_ssm.training.checkpoints import MANIFEST, write_manifest
from hf_audio_ssm.training.pretraining.run import PretrainingRun
from hf_audio_ssm.training.pretraining.run_folder import restore_interrupted


# All that accelerate reads, if it is there.
MORE = (
    "custom_checkpoint_0.pkl", "random_states_0.pkl", "scheduler.bin", "scaler.pt", "sampler.bin", "dl_state_dict.bin",
    "pytorch_model.bin", "pytorch_model/latest",
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(clips, tmp_path_factory):
    """The folder of a run of two steps."""
    out = tmp_path_factory.mktemp("finished") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "save_figure", lambda figure, path: None)
        reset_accelerate()
        run_pretrain.main(
            *run_pretrain.parse_arguments(command_line(clips, out, max_steps=2, save_steps=1, eval_steps=2))
        )
    return out


@pytest.fixture
def out(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture(scope="module")
def load(clips, finished):
    """Does what a run does with a checkpoint before its first step, but with a model that is made only once."""
    reset_accelerate()
    arguments = command_line(clips, finished, max_steps=3, resume_from_checkpoint=finished / "checkpoints" / "step-2")
    run = PretrainingRun(*run_pretrain.parse_arguments(arguments))
    run.setup()

    def load(checkpoint):
        run.arguments.resume_from_checkpoint = str(checkpoint)
        run.read_checkpoint()
        run.load_checkpoint()

    yield load
    run.stream.close()
    run.bar.close()
    reset_accelerate()


def files_of(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def continue_run(run, clips, out):
    return run(clips, out, max_steps=3, eval_steps=3, resume_from_checkpoint="latest")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("write", SOME_WRITERS)
def test_nothing_in_a_checkpoint_runs_code(out, load, tmp_path, write):
    checkpoint, mark = out / "checkpoints" / "step-2", tmp_path / "mark"
    names = files_of(checkpoint)
    assert {path.rsplit(".", 1)[-1] for path in names} == {"safetensors", "bin", "json"}
    for name in [*names, *MORE]:
        path = checkpoint / name
        before = path.read_bytes() if path.exists() else None
        path.parent.mkdir(exist_ok=True)
        write(path, mark)
        if before is None:
            with pytest.raises(InputError, match=f"step-2 holds {re.escape(name)}, which is not in its manifest.json"):
                load(checkpoint)
        if name != MANIFEST:
            # By the hand that wrote the file.
            write_manifest(checkpoint)
        try:
            load(checkpoint)
            # Nothing reads these.
            assert name in MORE
        except InputError:
            pass
        assert not mark.exists(), name
        path.unlink()
        if before is not None:
            path.write_bytes(before)
        write_manifest(checkpoint)
    load(checkpoint)


def damage(folder, name, how):
    path = folder / name
    if how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:-7])
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


@pytest.mark.parametrize("how", ["missing", "empty", "truncated", "changed"])
def test_a_checkpoint_that_is_not_whole_is_refused_by_name(out, load, how):
    checkpoint = out / "checkpoints" / "step-2"
    names = files_of(checkpoint)
    assert set(names) == {"model.safetensors", "optimizer.bin", "random_states_0.json", "run.json", MANIFEST}
    for name in names:
        content = (checkpoint / name).read_bytes()
        damage(checkpoint, name, how)
        with pytest.raises(InputError, match=re.escape(str(checkpoint))) as error:
            load(checkpoint)
        assert name in str(error.value) or (name == MANIFEST and how == "changed")
        (checkpoint / name).write_bytes(content)
    load(checkpoint)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("step", -1, "`step` must be a number of steps, got -1"),
        ("step", 1.5, "`step` must be a number of steps, got 1.5"),
        ("step", True, "`step` must be a number of steps, got True"),
        ("best", "0.3", "`best` must be a number or null, got '0.3'"),
        ("metrics", [1], "`metrics` must be numbers by name"),
        ("metrics", {"accuracy": None}, "`metrics` must be numbers by name"),
        ("position", [], "`position` must be the place"),
        ("position", [{"place": -4, "places": {}, "num_workers": 0}], "`position` must be the place"),
        ("position", [{"place": 4, "places": {"a": [1, 2]}, "num_workers": 0}], "`position` must be the place"),
        ("mean_std", [0.0, float("nan")], "`mean_std` must be a mean and a positive"),
        ("mean_std", [0.0, 0.0], "`mean_std` must be a mean and a positive"),
        ("skipped", ["a"], "`skipped` must be reasons by clip"),
        ("schedule", {"step": 3}, "the schedule's state cannot be used"),
        ("schedule", None, "`schedule` must be the schedule's state"),
        ("data", 3, "of a run whose .* was None"),
        ("config", None, "of a run whose .* was None"),
    ],
)
def test_values_that_no_run_writes_are_refused(out, load, name, value, message):
    checkpoint = out / "checkpoints" / "step-2"
    state = json.loads((checkpoint / "run.json").read_text())
    (checkpoint / "run.json").write_text(json.dumps({**state, name: value}))
    write_manifest(checkpoint)
    with pytest.raises(InputError, match=message):
        load(checkpoint)
    del state[name]
    (checkpoint / "run.json").write_text(json.dumps(state))
    write_manifest(checkpoint)
    with pytest.raises(InputError, match="is missing|whose .* was None"):
        load(checkpoint)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '"a"', "[" * 100_000, "\udcff", "{}"])
@pytest.mark.parametrize("name", ["run.json", "random_states_0.json", MANIFEST])
def test_json_that_is_damaged_is_refused_in_one_line(out, load, name, text):
    checkpoint = out / "checkpoints" / "step-2"
    (checkpoint / name).write_bytes(text.encode(errors="surrogateescape"))
    if name != MANIFEST:
        write_manifest(checkpoint)
    with pytest.raises(InputError) as error:
        load(checkpoint)
    assert "\n" not in str(error.value)
    assert "step-2" in str(error.value)


def change_python(states):
    states["python"][1][0] = -1


def change_length(states):
    states["numpy"][0].pop()


def change_position(states):
    states["numpy"][1] = 10**6


def change_torch(states):
    states["torch"] = "AAAA" * 1264


@pytest.mark.parametrize("change", [change_python, change_length, change_position, change_torch])
def test_random_states_of_another_form_are_refused(out, load, change):
    checkpoint = out / "checkpoints" / "step-2"
    states = json.loads((checkpoint / "random_states_0.json").read_text())
    change(states)
    (checkpoint / "random_states_0.json").write_text(json.dumps(states))
    write_manifest(checkpoint)
    with pytest.raises(InputError, match="step-2 is damaged: random_states_0.json cannot be used"):
        load(checkpoint)


def test_another_number_of_processes_is_said(out, load, capsys):
    checkpoint = out / "checkpoints" / "step-2"
    state = json.loads((checkpoint / "run.json").read_text())
    state["position"] *= 2
    (checkpoint / "run.json").write_text(json.dumps(state))
    write_manifest(checkpoint)
    load(checkpoint)
    assert "step-2 is of 2 processes, this run of 1: random numbers differ" in capsys.readouterr().out


def test_nothing_else_in_a_run_folder_runs_code(clips, out, run, tmp_path):
    others = [name for name in files_of(out) if not name.startswith("checkpoints/step-2/")]
    assert {name.split("/")[0] for name in others} >= {"best", "checkpoints", "evaluations"}
    for name in [*others, "pictures/step-2.png", "logs/code.pkl", "skipped_clips.csv", "emissions.csv"]:
        (out / name).parent.mkdir(exist_ok=True)
        write_pickle(out / name, tmp_path / "mark")
    assert {step for step, _ in continue_run(run, clips, out)} == {3}
    assert not (tmp_path / "mark").exists()


def test_latest_is_the_newest_complete_one_and_this_is_said(clips, out, run, capsys):
    (out / "checkpoints" / "step-2" / "random_states_0.json").unlink()
    logged = continue_run(run, clips, out)
    assert {step for step, _ in logged} == {2, 3}
    said = capsys.readouterr().out
    assert re.search(
        r"step-2 is incomplete: random_states_0.json is missing. Continuing from \S+step-1 instead\n", said
    )
    for folder in (out / "checkpoints").glob("step-*"):
        (folder / MANIFEST).unlink()
    with pytest.raises(InputError, match="step-3 is incomplete: manifest.json is missing"):
        continue_run(run, clips, out)


def test_the_best_model_is_found_again_after_a_kill_while_it_was_replaced(out):
    (out / "best").rename(out / ".best.old")
    restore_interrupted(out)
    assert (out / "best" / "model.safetensors").is_file()
    assert not (out / ".best.old").exists()
