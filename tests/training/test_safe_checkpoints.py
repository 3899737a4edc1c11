# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning continues from complete checkpoints alone, and nothing in them runs code."""

import json
import re
import shutil

import peft
import pytest
from code_in_pickles import SOME_WRITERS
from labelled_tones import save_encoder, write_tones
from transformers import TrainerState

from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.data.labelled import LabelledDataArguments
from hf_audio_ssm.training import exact_trainer
from hf_audio_ssm.training.checkpoints import MANIFEST, write_manifest
from hf_audio_ssm.training.classifiers import ClassifierArguments
from hf_audio_ssm.training.fine_tuning import FineTuningArguments, FineTuningTrainer, make_trainer


# What the Trainer or PEFT read, if it is there, or if what they read first is not.
MORE = (
    "pytorch_model.bin", "adapter_model.bin", "rng_state_0.pth", "scaler.pt", "optimizer.bin", "pytorch_model_fsdp.bin",
    "default/adapter_model.bin", "pytorch_model_fsdp_0/__0_0.distcp",
)  # fmt: skip


# What each training reads.
READ = {
    "config.json",
    "scaler.pt",
    "pytorch_model_fsdp.bin",
    "pytorch_model_fsdp_0/__0_0.distcp",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "trainer_state.json",
    MANIFEST,
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = write_tones(
        tmp_path_factory.mktemp("tones"), {"train": 2, "validation": 1, "test": 1}, labels=("low", "high")
    )
    return LabelledDataArguments(data=str(folder)).load()[0]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return str(save_encoder(tmp_path_factory.mktemp("encoder"), hidden_size=16))


def make(clips, encoder, output_dir, method="full", classifier_type="linear", **arguments):
    feature_extractor, model = ClassifierArguments(encoder, classifier_type=classifier_type).load(clips)
    if method == "lora":
        config = peft.LoraConfig(target_modules=["in_proj"], modules_to_save=["classifier"])
        model = peft.get_peft_model(model, config)
    defaults = {
        "output_dir": str(output_dir),
        "max_steps": 3,
        "per_device_train_batch_size": 2,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    return make_trainer(model, feature_extractor, clips, FineTuningArguments(**defaults | arguments))


@pytest.fixture(scope="module", params=["full", pytest.param("lora", marks=pytest.mark.slow)])
def method(request):
    return request.param


@pytest.fixture(scope="module")
def finished(clips, encoder, method, tmp_path_factory):
    """The folder of a training with checkpoints after each of three steps."""
    folder = tmp_path_factory.mktemp("finished")
    make(clips, encoder, folder, method, save_strategy="steps", save_steps=1).train()
    return folder


@pytest.fixture
def out(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture(scope="module")
def trainer(clips, encoder, method, tmp_path_factory):
    return make(clips, encoder, tmp_path_factory.mktemp("trainer"), method)


def files_of(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("write", SOME_WRITERS)
def test_nothing_in_a_checkpoint_runs_code(finished, trainer, method, tmp_path, write):
    mark, unread = tmp_path / "mark", tmp_path / "unread" / "checkpoint-2"
    shutil.copytree(finished / "checkpoint-2", unread)
    for name in [*files_of(finished / "checkpoint-2"), *MORE]:
        # Adapters in a folder of their own are for a model with adapters.
        is_weights = name.endswith(("model.safetensors", "model.bin")) and ("/" not in name or method == "lora")
        is_read = name in READ or is_weights
        checkpoint = tmp_path / name.replace("/", "-") / "checkpoint-2" if is_read else unread
        if is_read:
            shutil.copytree(finished / "checkpoint-2", checkpoint)
        (checkpoint / name).parent.mkdir(exist_ok=True)
        if name in ("pytorch_model.bin", "adapter_model.bin"):
            # They might be read if there is nothing better.
            for weights in checkpoint.glob("*.safetensors"):
                weights.unlink()
        write(checkpoint / name, mark)
        if name != MANIFEST:
            # By the hand that wrote the file.
            write_manifest(checkpoint)
        if is_read:
            with pytest.raises(InputError, match="checkpoint-2"):
                trainer.train(resume_from_checkpoint=str(checkpoint))
        assert not mark.exists(), name
    trainer.train(resume_from_checkpoint=str(unread))
    assert not mark.exists()


def damage(path, how):
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


@pytest.mark.parametrize("how", ["missing", "empty", "truncated", "changed", "added"])
def test_a_checkpoint_that_is_not_whole_is_refused_by_name(out, trainer, how):
    checkpoint = out / "checkpoint-2"
    names = MORE if how == "added" else files_of(checkpoint)
    for name in names:
        path = checkpoint / name
        if how == "added":
            path.parent.mkdir(exist_ok=True)
            path.touch()
        else:
            content = path.read_bytes()
            damage(path, how)
        if name != "README.md":
            with pytest.raises(InputError, match="checkpoint-2") as error:
                trainer.train(resume_from_checkpoint=str(checkpoint))
            assert name in str(error.value) or (name == MANIFEST and how == "changed")
        if how == "added":
            path.unlink()
            if path.parent != checkpoint:
                path.parent.rmdir()
        else:
            path.write_bytes(content)
    trainer.train(resume_from_checkpoint=str(checkpoint))


def test_true_is_the_newest_complete_one_and_this_is_said(clips, encoder, method, out, capsys):
    (out / "checkpoint-3" / "rng_state.pth").unlink()
    make(clips, encoder, out, method).train(resume_from_checkpoint=True)
    said = capsys.readouterr().out
    assert re.search(
        r"checkpoint-3 is incomplete: rng_state.pth is missing. Continuing from \S+checkpoint-2 instead\n", said
    )
    for folder in out.glob("checkpoint-*"):
        (folder / MANIFEST).unlink()
    with pytest.raises(InputError, match="checkpoint-3 is incomplete: manifest.json is missing"):
        make(clips, encoder, out, method).train(resume_from_checkpoint=True)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("global_step", -1, "`global_step` must be a number of steps, got -1"),
        ("global_step", "2", "`global_step` must be a number of steps, got '2'"),
        ("epoch", float("nan"), "`epoch` must be a number that is not negative, got nan"),
        ("log_history", [3], "`log_history` must be a list of entries"),
        ("best_model_checkpoint", 3, "`best_model_checkpoint` must be a folder or null, got 3"),
        ("stateful_callbacks", None, "`stateful_callbacks` must be states by callback"),
        ("more", 1, "checkpoint-2 is damaged: trainer_state.json cannot be used"),
    ],
)
def test_values_that_no_trainer_writes_are_refused(out, trainer, name, value, message):
    path = out / "checkpoint-2" / "trainer_state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    write_manifest(path.parent)
    with pytest.raises(InputError, match=message):
        trainer.train(resume_from_checkpoint=str(path.parent))
    path.write_text("[" * 100_000)
    write_manifest(path.parent)
    with pytest.raises(InputError, match="trainer_state.json cannot be read as JSON"):
        trainer.train(resume_from_checkpoint=str(path.parent))


class KilledError(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


@pytest.mark.parametrize("method", ["full"], indirect=True)
@pytest.mark.parametrize(
    "step",
    [
        pytest.param((FineTuningTrainer, "save_model"), marks=pytest.mark.slow),
        (FineTuningTrainer, "_save_optimizer_and_scheduler"),
        pytest.param((FineTuningTrainer, "_save_rng_state"), marks=pytest.mark.slow),
        pytest.param((FineTuningTrainer, "save_more_state"), marks=pytest.mark.slow),
        (exact_trainer, "write_manifest"),
        (exact_trainer, "rotate_checkpoints"),
    ],
    ids=lambda step: step[1],
)
def test_killed_at_any_step_of_saving_it_continues(clips, encoder, out, method, monkeypatch, capsys, step):
    for number in (1, 2):
        shutil.rmtree(out / f"checkpoint-{number}")
    options = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 1, "max_steps": 5}

    def kill(*arguments, **kwargs):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(*step, kill)
        with pytest.raises(KilledError):
            make(clips, encoder, out, method, **options).train(resume_from_checkpoint=True)
    again = make(clips, encoder, out, method, **options)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 5
    assert [path.name for path in out.glob("checkpoint-*")] == ["checkpoint-5"]
    # Before the manifest, the checkpoint is not taken for whole.
    was_whole = step[1] == "rotate_checkpoints"
    began = (out / "checkpoint-4").exists() or not was_whole
    assert ("checkpoint-4 is incomplete" in capsys.readouterr().out) == (began and step[1] != "save_model")


@pytest.mark.parametrize("method", ["full"], indirect=True)
def test_killed_while_it_saves_for_the_first_time_it_begins_again(
    clips, encoder, tmp_path, method, monkeypatch, capsys
):
    def kill(*arguments, **kwargs):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(exact_trainer, "write_manifest", kill)
        with pytest.raises(KilledError):
            make(clips, encoder, tmp_path, method, save_strategy="steps", save_steps=1).train()
    make(clips, encoder, tmp_path, method).train(resume_from_checkpoint=True)
    assert re.search(r"checkpoint-1 is incomplete: .*. Starting from the beginning\n", capsys.readouterr().out)
    with pytest.raises(InputError, match="checkpoint-1 is incomplete"):
        make(clips, encoder, tmp_path, method).train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_what_training_cannot_continue_from_is_said(clips, encoder, tmp_path, method):
    make(clips, encoder, tmp_path, method, save_strategy="steps", save_steps=2, save_only_model=True).train()
    with pytest.raises(InputError, match="checkpoint-2 has no optimizer.pt, .* --save_only_model"):
        make(clips, encoder, tmp_path, method).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    with pytest.raises(InputError, match="nowhere is no folder"):
        make(clips, encoder, tmp_path, method).train(resume_from_checkpoint="nowhere")


def test_the_checkpoint_of_another_model_is_refused(clips, encoder, out, method):
    options = {"classifier_type": "attentive"} if method == "full" else {"method": "full"}
    message = (
        "checkpoint-2 is of another model: classifier" if method == "full" else "checkpoint-2 has no model.safetensors"
    )
    with pytest.raises(InputError, match=message):
        make(clips, encoder, out, **options).train(resume_from_checkpoint=str(out / "checkpoint-2"))


@pytest.mark.parametrize("method", ["full"], indirect=True)
def test_the_best_checkpoint_may_have_moved_but_not_be_missing(clips, encoder, tmp_path, method):
    options = {"save_strategy": "steps", "eval_strategy": "steps", "save_steps": 1, "eval_steps": 1, "max_steps": 2,
               "load_best_model_at_end": True, "metric_for_best_model": "loss", "greater_is_better": True}  # fmt: skip
    before, after = tmp_path / "before", tmp_path / "after"
    make(clips, encoder, before, **options, learning_rate=1e-3).train()
    assert TrainerState.load_from_json(before / "checkpoint-2" / "trainer_state.json").best_global_step == 1
    before.rename(after)
    again = make(clips, encoder, after, **options)
    again.train(resume_from_checkpoint=str(after / "checkpoint-2"))
    assert again.state.best_model_checkpoint == str(after / "checkpoint-1")
    shutil.rmtree(after / "checkpoint-1")
    with pytest.raises(
        InputError, match="checkpoint-2 needs the best checkpoint before it, .*checkpoint-1, which is missing"
    ):
        make(clips, encoder, after, **options).train(resume_from_checkpoint=str(after / "checkpoint-2"))
