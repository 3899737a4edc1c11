# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The card at each save: where it is written, and that it says what was measured until then."""

import pytest
import torch
from hub_server import card_errors
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import Trainer, TrainingArguments

from hf_audio_ssm import SsambaConfig, SsambaForAudioClassification
from hf_audio_ssm.hub.card_callback import ModelCardCallback


def make_card(metrics, state, folder) -> ModelCard:
    assert metrics.get("step", state.global_step) == state.global_step
    results = [
        EvalResult("audio-classification", "clips", "validation clips", name, value, metric_name=name)
        for name, value in metrics.items()
        if name in ("eval_loss", "eval_sum")
    ]
    data = ModelCardData(model_name="model", eval_results=results or None, library_name="transformers")
    return ModelCard(f"---\n{data.to_yaml()}\n---\n# Step {state.global_step} in {folder.name}\n")


def train(output_dir, eval_strategy: str, **arguments) -> Trainer:
    torch.manual_seed(0)
    config = SsambaConfig(hidden_size=16, num_hidden_layers=2, max_length=32, num_labels=2)
    clips = [{"input_values": torch.randn(32, 128), "labels": index % 2} for index in range(4)]
    trainer = Trainer(
        SsambaForAudioClassification(config),
        TrainingArguments(
            str(output_dir),
            max_steps=2,
            per_device_train_batch_size=2,
            eval_strategy=eval_strategy,
            eval_steps=1,
            save_strategy="steps",
            save_steps=1,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            **arguments,
        ),
        train_dataset=clips,
        eval_dataset=clips,
        compute_metrics=lambda prediction: {"sum": float(prediction.predictions.sum())},
        callbacks=[ModelCardCallback(make_card)],
    )
    trainer.train()
    return trainer


def test_each_save_has_the_metrics_of_its_own_step(tmp_path):
    trainer = train(tmp_path, "steps")
    measured = {entry["step"]: entry for entry in trainer.state.log_history if "eval_sum" in entry}
    for step in (1, 2):
        text = (tmp_path / f"checkpoint-{step}" / "README.md").read_text()
        assert card_errors(text) == []
        card = ModelCard(text)
        assert f"# Step {step} in checkpoint-{step}" in card.text
        results = {result.metric_type: result.metric_value for result in card.data.eval_results}
        assert results == {
            "eval_loss": pytest.approx(measured[step]["eval_loss"]),
            "eval_sum": pytest.approx(measured[step]["eval_sum"]),
        }
    last = (tmp_path / "checkpoint-2" / "README.md").read_text()
    assert (tmp_path / "README.md").read_text() == last.replace("checkpoint-2", tmp_path.name)
    assert not list(tmp_path.rglob("*.partial"))


def test_nothing_is_claimed_before_an_evaluation(tmp_path):
    train(tmp_path, "no")
    text = (tmp_path / "README.md").read_text()
    assert card_errors(text) == []
    assert ModelCard(text).data.eval_results is None


def test_what_is_pushed_at_a_save_has_the_card_of_that_save(tmp_path, hub):
    """The Trainer pushes before it tells its callbacks of the save."""
    pushed = {
        "push_to_hub": True,
        "hub_model_id": "org/run",
        "hub_strategy": "all_checkpoints",
        "hub_always_push": True,
    }
    trainer = train(tmp_path, "steps", **pushed)
    trainer._finish_current_push()
    files = hub.files("org/run")
    for step in (1, 2):
        assert f"# Step {step} in checkpoint-{step}".encode() in files[f"checkpoint-{step}/README.md"]
    assert f"# Step 2 in {tmp_path.name}".encode() in files["README.md"]
