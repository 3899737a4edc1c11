# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The pretraining script: what it writes, what may be chosen, and what it refuses."""

import csv
import json
import re
import runpy
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import run_pretrain
import torch
from accelerate import Accelerator
from hub_server import card_errors
from huggingface_hub import ModelCard
from pretraining_runs import (
    FRAMES,
    SMALL,
    SSAST,
    assert_equal_weights,
    command_line,
    reset_accelerate,
    weights,
)
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tones import write_broken_clips
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForPreTraining

from hf_audio_ssm.audio.decoding import read_audio
from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.data.pretraining import PretrainingExamples
from hf_audio_ssm.models.patch_encoder.packing import draw_patchout
from hf_audio_ssm.objectives.masked_patches import MaskedPatches
from hf_audio_ssm.training.pretraining import run as pretraining_run
from hf_audio_ssm.training.pretraining.arguments import PretrainingModelArguments
from hf_audio_ssm.training.pretraining.evaluation import Evaluation
from hf_audio_ssm.training.pretraining.model_and_data import load_data, make_model
from hf_audio_ssm.training.pretraining.run import PretrainingRun
from hf_audio_ssm.training.pretraining.run_folder import comparable, read_state


CONFIGS = Path(run_pretrain.__file__).parent / "configs"
# ---- What a run writes ----


def test_a_run_writes_models_pictures_logs_and_checkpoints(clips, tmp_path, run):
    out = tmp_path / "out"
    logged = run(clips, out, report_to="tensorboard", save_total_limit=2, normalization="data", draws=True)
    assert {path.name for path in out.iterdir()} == {"best", "checkpoints", "evaluations", "logs", "pictures"}
    assert {path.name for path in (out / "checkpoints").iterdir()} == {"step-4", "step-6"}
    assert {path.name for path in (out / "evaluations").iterdir()} == {"step-3", "step-6"}
    assert all((out / "pictures" / f"step-{step}.png").read_bytes().startswith(b"\x89PNG") for step in (3, 6))

    for step in range(1, 7):
        nce, mse = (logged[step, f"train/{name}"] for name in ("nce", "mse"))
        assert logged[step, "train/loss"] == pytest.approx(nce + 10 * mse, rel=1e-5)
        assert 0 <= logged[step, "train/accuracy"] <= 1
    # The paper's schedule: up over the warm-up, and then constant while it learns.
    rates = [logged[step, "train/learning_rate"] for step in range(1, 7)]
    assert rates == pytest.approx([2e-3, *[3e-3] * 5])
    events = EventAccumulator(str(out / "logs" / "pretraining")).Reload()
    assert {"train/loss", "train/tokens_per_second", "eval/accuracy", "eval/mse"} <= set(events.Tags()["scalars"])
    assert [event.value for event in events.Scalars("train/loss")] == pytest.approx(
        [logged[step, "train/loss"] for step in range(1, 7)]
    )
    assert events.Tags()["images"] == ["reconstruction"]

    best = max((3, 6), key=lambda step: logged[step, "eval/accuracy"])
    assert_equal_weights(load_file(out / "best" / "model.safetensors"), weights(out, best))
    feature_extractor = AutoFeatureExtractor.from_pretrained(out / "best")
    clips_read = [read_audio(path, 16_000, 0.495) for path in sorted(clips.iterdir(), key=lambda path: path.name)]
    feature_extractor_of_data = type(feature_extractor)(max_length=48)
    mean, std = feature_extractor_of_data.compute_mean_std(clips_read, sampling_rate=16_000)
    assert (feature_extractor.mean, feature_extractor.std) == pytest.approx((mean, std), rel=1e-5)
    inputs = feature_extractor(clips_read[0], sampling_rate=16_000, return_tensors="pt")
    assert AutoModel.from_pretrained(out / "best")(**inputs).pooler_output.shape == (1, 32)
    card = (out / "best" / "README.md").read_text()
    assert card_errors(card) == []
    measured = {result.metric_type: result for result in ModelCard(card).data.eval_results}
    assert measured.keys() == {"accuracy", "nce", "mse"}
    assert {result.dataset_split for result in measured.values()} == {"validation"}
    # The card in each folder is about what lies there.
    for name, step in (("best", best), ("evaluations/step-3", 3), ("evaluations/step-6", 6)):
        text = (out / name / "README.md").read_text()
        assert f'from_pretrained("./out/{name}"' in text
        assert f"| {logged[step, 'eval/accuracy']:.4f} |" in text
    for text in (
        f"| Training | {best} steps of 4 clips, ",
        "| Started from | new weights |",
        f"on the 12 validation clips of {clips.name}. In each, 18 of 24 patches were masked.",
        f"{logged[best, 'eval/accuracy']:.4f}",
        "library_name: transformers",
    ):
        assert text in card

    # The last evaluation, again, from what was saved.
    model = AutoModelForPreTraining.from_pretrained(out / "evaluations" / "step-6").eval()
    data, _, _ = run_pretrain.parse_arguments(command_line(clips, out))
    _, clips_to_evaluate = load_data(data, seed=0)
    objective = MaskedPatches(model, feature_extractor)
    examples = PretrainingExamples(feature_extractor, objective.make_example, random_crop=False, is_training=False)
    evaluation = Evaluation(clips_to_evaluate, examples, objective, num_workers=0, batch_size=12)
    reset_accelerate()
    metrics, skipped = evaluation.run(Accelerator(), objective, tmp_path / "again.png")
    assert metrics == pytest.approx({name: logged[6, f"eval/{name}"] for name in metrics}, rel=1e-5)
    assert skipped == []


def test_the_best_model_goes_to_the_hub(clips, tmp_path, run, hub):
    run(clips, tmp_path / "out", max_steps=2, eval_steps=2, push_to_hub="org/pretrained")
    files = hub.files("org/pretrained")
    best = {path.name: path.read_bytes() for path in (tmp_path / "out" / "best").iterdir()}
    assert {name: content for name, content in files.items() if name != ".gitattributes"} == best
    assert b'from_pretrained("org/pretrained"' in files["README.md"]
    with pytest.raises(InputError, match="--push_to_hub other/pretrained: cannot be written to"):
        run(clips, tmp_path / "none", push_to_hub="other/pretrained")
    assert not (tmp_path / "none").exists()


def test_unusable_clips_are_reported_and_the_run_ends_well(clips, tmp_path, run, capsys):
    folder = tmp_path / "mixed"
    shutil.copytree(clips, folder)
    reasons = write_broken_clips(folder)
    run(folder, tmp_path / "out", num_workers=2, max_bad_share=0.5)
    with open(tmp_path / "out" / "skipped_clips.csv", newline="") as file:
        rows = {Path(row["clip"]).name: row["reason"] for row in csv.DictReader(file)}
    assert rows.keys() == reasons.keys()
    assert all(reason in rows[name] for name, reason in reasons.items())
    assert f"{len(reasons)} clips could not be used" in capsys.readouterr().out


def test_the_speed_is_that_of_training_alone(clips, tmp_path, run, monkeypatch):
    """A step takes a second by a clock of its own, and an evaluation, between two rows of the log, a hundred."""
    seconds, logged = [0.0], []
    monkeypatch.setattr(pretraining_run, "time", SimpleNamespace(perf_counter=lambda: seconds[0]))
    train_batch, evaluate = PretrainingRun.train_batch, Evaluation.run

    def count(amount, function):
        def counted(*arguments):
            seconds[0] += amount
            return function(*arguments)

        return counted

    monkeypatch.setattr(PretrainingRun, "train_batch", count(1, train_batch))
    monkeypatch.setattr(Evaluation, "run", count(100, evaluate))
    monkeypatch.setattr(Accelerator, "log", lambda self, values, step: logged.append(values))
    monkeypatch.setattr(Evaluation, "draw", lambda *arguments: None)
    run_pretrain.main(*run_pretrain.parse_arguments(command_line(clips, tmp_path, logging_steps=2)))
    tokens = 4 * (3 * 8 + 1)
    assert [row["train/tokens_per_second"] for row in logged if "train/loss" in row] == [tokens] * 3


# ---- Arguments ----


PAPER = {"tiny": 192, "small": 384, "base": 768}


@pytest.mark.parametrize("masked", [250, 300, 400])
@pytest.mark.parametrize("size", PAPER)
def test_the_papers_configurations(size, masked):
    data, model, training = run_pretrain.parse_arguments([str(CONFIGS / f"ssamba_{size}_{masked}.yaml")])
    assert model.overrides == {"hidden_size": PAPER[size], "num_masked_patches": masked}
    assert data.train_data == ["data/audioset", "data/librispeech"]
    assert (training.per_device_train_batch_size, training.num_train_epochs) == (64, 10)
    assert (training.learning_rate, training.warmup_steps, training.eval_steps) == (1e-4, 1000, 4000)
    assert (training.adam_beta1, training.adam_beta2, training.weight_decay) == (0.95, 0.999, 5e-8)
    assert (training.lr_scheduler_type, training.lr_patience) == ("plateau", 2)
    assert training.output_dir == f"outputs/ssamba_{size}_{masked}"
    made, feature_extractor = make_model(
        PretrainingModelArguments(config_overrides=json.dumps({**model.overrides, "num_hidden_layers": 2}))
    )
    assert made.config.patch_grid(feature_extractor.max_length) == (8, 64)


def test_files_include_others_and_the_command_line_wins(tmp_path):
    (tmp_path / "base.yaml").write_text("train_data: [a, b]\nlearning_rate: 1e-3\nseed: 4\n")
    (tmp_path / "run.json").write_text('{"include": "base.yaml", "seed": 5, "config_overrides": {"hidden_size": 64}}')
    data, model, training = run_pretrain.parse_arguments([str(tmp_path / "run.json"), "--learning_rate", "2e-3"])
    assert data.train_data == ["a", "b"]
    assert (training.learning_rate, training.seed) == (2e-3, 5)
    assert model.overrides == {"hidden_size": 64}


@pytest.mark.parametrize(("model_type", "config"), [("ssamba", SMALL), ("ssast", SSAST)])
def test_frames_as_patches(clips, tmp_path, run, model_type, config):
    """SSAST's frames, for either encoder; and going on from the checkpoint, on longer clips."""
    config = json.dumps({**config, **FRAMES})
    logged = run(clips, tmp_path / "out", model_type=model_type, config_overrides=config)
    assert logged[6, "train/loss"] < logged[1, "train/loss"]
    assert logged[6, "eval/loss"] < logged[3, "eval/loss"]
    model = AutoModelForPreTraining.from_pretrained(tmp_path / "out" / "best")
    assert (model.config.model_type, model.config.patch_grid()) == (model_type, (1, 24))
    changes = {"model_name_or_path": tmp_path / "out" / "best", "config_overrides": '{"max_length": 64}'}
    run(clips, tmp_path / "more", max_steps=1, eval_steps=1, **changes)
    more = tmp_path / "more" / "best"
    assert AutoFeatureExtractor.from_pretrained(more).max_length == 64
    assert AutoModelForPreTraining.from_pretrained(more).config.patch_grid() == (1, 32)


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "ssast", "config_overrides": json.dumps(SSAST)},
        {"mixed_precision": "bf16", "gradient_checkpointing": True},
        {"config_overrides": json.dumps({**SMALL, "time_patchout": 0.3, "patchout": 0.2}), "two_masks": True},
        pytest.param({"torch_compile": True}, marks=pytest.mark.slow),
    ],
    ids=["ssast", "bf16", "patchout", "compiled"],
)
def test_other_encoders_and_ways_to_compute(clips, tmp_path, run, changes):
    logged = run(clips, tmp_path, **changes)
    assert logged[6, "train/loss"] < logged[1, "train/loss"]
    model, info = AutoModelForPreTraining.from_pretrained(tmp_path / "best", output_loading_info=True)
    assert not any(info.values())
    assert model.config.model_type == changes.get("model_type", "ssamba")
    assert model.dtype == torch.float32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_steps": 0}, "--max_steps must be at least 1, got 0"),
        ({"learning_rate": "nan"}, "--learning_rate must be a positive number, got nan"),
        ({"adam_beta2": 1.0}, "--adam_beta2 must be at least 0 and below 1"),
        ({"mixup": 1.5}, "--mixup must be a share from 0 to 1, got 1.5"),
        ({"speed": 0.6}, "--speed must be a share from 0 to 0.5, got 0.6"),
        ({"speed": 0.1, "cache_dir": "cache"}, "--cache_dir keeps filter banks of whole data sets"),
        ({"lr_scheduler_type": "steep"}, "--lr_scheduler_type must be one of plateau, linear, .*got 'steep'"),
        ({"lr_scheduler_type": "greedy"}, "--lr_scheduler_type must be one of .*got 'greedy'"),
        ({"config_overrides": "{"}, "--config_overrides must be JSON, got '{'"),
        ({"config_overrides": '{"hidden": 3}'}, "SsambaConfig has no field 'hidden'"),
        ({"config_overrides": '{"num_hidden_layers": 3}'}, "num_hidden_layers"),
        ({"objective": "nothing"}, "--objective must be one of .*masked_patches, got 'nothing'"),
        ({"objective_options": "[1]"}, r"--objective_options must map names to values, got '\[1\]'"),
        (
            {"objective_options": '{"three_masks": true}'},
            "--objective_options: masked_patches cannot take .*'three_masks'",
        ),
        ({"model_type": "nothing"}, "cannot make the model nothing"),
        ({"model_name_or_path": "nowhere/at all"}, "cannot make the model nowhere/at all"),
        ({"num_masked_patches": 24}, "--num_masked_patches must be below the number of patches of a clip, 24, got 24"),
        ({"train_data": "nowhere/"}, "nowhere/: "),
        ({"train_weights": [1, 2]}, "`weights` must be one for each of 1 sources, got 2"),
        ({"streaming": True, "eval_data": None}, "--streaming needs --eval_data"),
        ({"streaming": True, "max_steps": None}, "--streaming needs --max_steps"),
        ({"streaming": True, "cache_dir": "cache"}, "--cache_dir keeps filter banks of whole data sets"),
        ({"resume_from_checkpoint": "latest"}, "--resume_from_checkpoint latest: no checkpoint in"),
        (
            {"resume_from_checkpoint": "nowhere"},
            "--resume_from_checkpoint must be a checkpoint of this script, got nowhere",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(clips, tmp_path, run, changes, message):
    with pytest.raises(InputError, match=message):
        run(clips, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_audio_is_refused(tmp_path, run):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: no audio found"):
        run(tmp_path / "empty", tmp_path / "out")


@pytest.mark.parametrize(
    ("what", "name", "value", "message"),
    [
        (
            "config",
            "hidden_size",
            48,
            "must be a checkpoint of this run, got .* of a run whose hidden_size was 32, not 48",
        ),
        ("config", "num_masked_patches", 5, "whose num_masked_patches was None, not 5"),
        ("data", "seed", 3, "whose seed was 0, not 3"),
        ("data", "two_masks", True, "whose two_masks was False, not True"),
        ("data", "objective", "other", "whose objective was 'masked_patches', not 'other'"),
    ],
)
def test_the_checkpoint_of_another_run_is_refused(tmp_path, what, name, value, message):
    model, _ = make_model(PretrainingModelArguments(config_overrides=json.dumps(SMALL)))
    compared = {
        "config": comparable(model.config.to_dict()),
        "data": {"seed": 0, "two_masks": False, "objective": "masked_patches"},
    }
    position = {"place": 8, "places": {}, "num_workers": 0}
    rest = {"step": 2, "best": None, "metrics": {}, "position": [position], "mean_std": [0.0, 1.0], "skipped": {}}
    (tmp_path / "run.json").write_text(json.dumps({**compared, **rest, "schedule": {}}))
    assert read_state(tmp_path, **compared)["step"] == 2
    compared[what][name] = value
    with pytest.raises(InputError, match=message):
        read_state(tmp_path, **compared)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat: 1", "there is no argument 'learning_rat'; did you mean learning_rate?"),
        ("- a\n- b", "must map arguments to values, got list"),
        ("a: [", "cannot be read as YAML or JSON"),
        ("include: missing.yaml", "missing.yaml: cannot be read"),
    ],
)
def test_bad_configuration_files_are_refused(tmp_path, text, message):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(InputError, match=re.escape(message)):
        run_pretrain.parse_arguments([str(tmp_path / "bad.yaml")])


def test_errors_of_the_script_are_one_line(tmp_path, run, monkeypatch):
    words = ["--train_data", str(tmp_path), "--output_dir", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [run_pretrain.__file__, *words])
    reset_accelerate()
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(run_pretrain.__file__, run_name="__main__")
    # Python prints it as it is, without a traceback, and ends with status 1.
    assert re.fullmatch(r"error: .*no audio found.*", ended.value.code)


def test_two_masks_take_nce_from_one_and_mse_from_the_other(clips, tmp_path):
    torch.manual_seed(0)
    model, feature_extractor = make_model(
        PretrainingModelArguments(config_overrides=json.dumps({**SMALL, "drop_path_rate": 0.0}))
    )
    inputs = torch.randn(3, 48, 128)
    masks = [torch.rand(3, 24) < 0.5 for _ in range(2)]
    batch = {"input_values": inputs, "bool_masked_pos": masks[0], "generative_bool_masked_pos": masks[1]}
    output = MaskedPatches(model, feature_extractor, two_masks=True)(**batch)
    losses = {"loss": output.loss, **output.metrics}
    first, second = (model(inputs, bool_masked_pos=mask) for mask in masks)
    torch.testing.assert_close(losses["nce"], first.nce)
    torch.testing.assert_close(losses["accuracy"], first.accuracy)
    torch.testing.assert_close(losses["mse"], second.mse)
    torch.testing.assert_close(losses["loss"], first.nce + 10 * second.mse)


def test_two_masks_without_what_patchout_leaves_out():
    """Neither loss depends on patches that were not read."""
    torch.manual_seed(0)
    overrides = {**SMALL, "drop_path_rate": 0.0, "patchout": 0.5}
    model, extractor = make_model(PretrainingModelArguments(config_overrides=json.dumps(overrides)))
    inputs, masks = torch.randn(3, 48, 128), [torch.rand(3, 24) < 0.7 for _ in range(2)]
    torch.manual_seed(1)
    kept = draw_patchout(6, (8, 3), model.config)
    is_read = torch.zeros(6, 24, dtype=torch.bool).scatter(1, kept, True)
    is_read = is_read[:3] | is_read[3:]
    assert (~is_read & masks[0] & masks[1]).any()
    patches = model.patchify(inputs)
    other = model.unpatchify(torch.where(is_read[..., None], patches, 9.0), 48)
    losses = []
    for values in (inputs, other):
        torch.manual_seed(1)
        batch = {"input_values": values, "bool_masked_pos": masks[0], "generative_bool_masked_pos": masks[1]}
        output = MaskedPatches(model, extractor, two_masks=True).train()(**batch)
        losses.append({"loss": output.loss, **output.metrics})
    for name, value in losses[0].items():
        assert value > 0 or name == "accuracy"
        torch.testing.assert_close(losses[1][name], value)
