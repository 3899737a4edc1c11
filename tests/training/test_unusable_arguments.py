# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Training arguments that cannot be used are refused in one line that names them, before anything is read or written."""

import pytest
from labelled_tones import save_encoder, write_tones

from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.data.labelled import LabelledDataArguments
from hf_audio_ssm.training.arguments import ComparisonArguments, FineTuningFields
from hf_audio_ssm.training.classifiers import ClassifierArguments
from hf_audio_ssm.training.command_line import parse_arguments
from hf_audio_ssm.training.fine_tuning import FineTuningArguments, make_trainer
from hf_audio_ssm.training.pretraining.arguments import PretrainingArguments


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("per_device_train_batch_size", 0, "at least 1, got 0"),
        ("per_device_eval_batch_size", -1, "at least 1, got -1"),
        ("gradient_accumulation_steps", 0, "at least 1, got 0"),
        ("learning_rate", float("nan"), "at least 0, got nan"),
        ("learning_rate", float("inf"), "at least 0, got inf"),
        ("weight_decay", -1.0, "at least 0, got -1.0"),
        ("num_train_epochs", float("nan"), "at least 0, got nan"),
        ("logging_steps", float("nan"), "at least 0, got nan"),
        ("dataloader_num_workers", -1, "at least 0, got -1"),
        ("seed", -1, r"in 0 ... 2\*\*32 - 1, got -1"),
        ("data_seed", 2**32, r"in 0 ... 2\*\*32 - 1, got 4294967296"),
    ],
)
def test_numbers_of_fine_tuning(name, value, expected, tmp_path):
    with pytest.raises(InputError, match=f"--{name} must be {expected}"):
        FineTuningArguments(output_dir=str(tmp_path / "out"), report_to="none", **{name: value})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--lr_scheduler_kwargs", "{bad"], r"--lr_scheduler_kwargs must be JSON, got '\{bad'"),
        (["--optim_target_modules", "[", "--load_best_model_at_end", "true", "--eval_strategy", "no", "--save_strategy", "epoch"], "requires"),
        (["--warmup_steps", "-1"], "--warmup_steps must be at least 0, got -1.0"),
        (["--accelerator_config", "/none.json"], None),
    ],
)  # fmt: skip
def test_words_of_fine_tuning(words, expected):
    with pytest.raises((InputError, OSError)) as refused:
        parse_arguments((FineTuningFields,), ["--report_to", "none", *words], "")
    assert len(str(refused.value).splitlines()) == 1
    if expected is not None:
        refused.match(expected)


def test_numbers_of_other_runs():
    with pytest.raises(InputError, match=r"--seeds must be in 0 ... 2\*\*32 - 1, got -1"):
        ComparisonArguments("out", ["knn"], seeds=[0, -1])
    with pytest.raises(InputError, match=r"--seed must be in 0 ... 2\*\*32 - 1, got 4294967296"):
        PretrainingArguments(seed=2**32)
    with pytest.raises(InputError, match="--report_to must be none or one of .*tensorboard.*, got 'paper'"):
        PretrainingArguments(report_to="paper")
    assert PretrainingArguments(report_to="wandb").report_to == "wandb"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"metric_for_best_model": "eval_beauty"}, "--metric_for_best_model must be one of loss, accuracy, .*, got 'eval_beauty'"),
        ({"report_to": "paper"}, "paper is not supported, only"),
    ],
)  # fmt: skip
def test_what_the_trainer_refuses(options, expected, tmp_path):
    folder = write_tones(tmp_path / "tones", {"train": 2, "validation": 1, "test": 1})
    (clips,) = LabelledDataArguments(str(folder)).load()
    feature_extractor, model = ClassifierArguments(save_encoder(tmp_path / "encoder")).load(clips)
    arguments = FineTuningArguments(output_dir=str(tmp_path / "out"), **{"report_to": "none", **options})
    with pytest.raises(InputError, match=expected) as refused:
        make_trainer(model, feature_extractor, clips, arguments)
    assert len(str(refused.value).splitlines()) == 1
    assert not (tmp_path / "out").exists()
