# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Objectives: one registry, what workers get of them, what checkpoints hold, and labels beside unlabelled clips."""

import pickle
import re

import datasets
import numpy as np
import pytest
import torch
import toy_objectives
from accelerate import Accelerator
from tones import write_tone
from torch.utils.data import DataLoader
from transformers import AutoModelForPreTraining, Trainer, TrainingArguments

from hf_audio_ssm import SsambaConfig, SsambaFeatureExtractor, SsambaForPreTraining
from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.data.filter_banks import cache_filter_banks
from hf_audio_ssm.data.pretraining import (
    PositionBatches,
    PretrainingClips,
    PretrainingExamples,
    PretrainingStream,
    collate_pretraining,
)
from hf_audio_ssm.data.sources import load_and_hold_out, load_sources
from hf_audio_ssm.objectives import OBJECTIVES, Objective, ObjectiveOutput, make_objective, objective_class
from hf_audio_ssm.objectives.masked_patches import MaskedPatches
from hf_audio_ssm.training.pretraining.arguments import PretrainingArguments, PretrainingModelArguments
from hf_audio_ssm.training.pretraining.evaluation import Means
from hf_audio_ssm.training.pretraining.run_folder import RunFolder


@pytest.fixture
def model() -> SsambaForPreTraining:
    torch.manual_seed(0)
    return SsambaForPreTraining(SsambaConfig(hidden_size=16, num_hidden_layers=2, state_size=4, max_length=48))


@pytest.fixture
def extractor() -> SsambaFeatureExtractor:
    return SsambaFeatureExtractor(max_length=48)


@pytest.fixture
def sources(tmp_path) -> list[str]:
    """Four clips with labels, in a saved data set, and six without, in a folder."""
    for index in range(4):
        write_tone(tmp_path / "labelled" / f"{index}.wav", 200 + 300 * index, seconds=1.0, seed=index)
    for index in range(6):
        write_tone(tmp_path / "folder" / f"{index}.wav", 200 + 300 * index, seconds=1.0, seed=10 + index)
    rows = [{"audio": str(tmp_path / "labelled" / f"{index}.wav"), "label": index % 2} for index in range(4)]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "data")
    return [str(tmp_path / "data"), str(tmp_path / "folder")]


# ---- The registry ----


def test_every_entry_is_an_objective():
    for name in OBJECTIVES:
        assert issubclass(objective_class(name), Objective)
    assert objective_class("masked_patches") is MaskedPatches


def test_unknown_objectives_and_options_are_refused(model, extractor):
    with pytest.raises(InputError, match="^--objective must be one of masked_patches, got 'nothing'$"):
        objective_class("nothing")
    with pytest.raises(InputError, match="^--objective must be one of masked_patches, got 'nothing'$"):
        PretrainingModelArguments(objective="nothing")
    with pytest.raises(
        InputError, match=r"^--objective_options: masked_patches cannot take \{'masks': 2\} \(.*'masks'\)$"
    ):
        make_objective("masked_patches", model, extractor, {"masks": 2})
    assert make_objective("masked_patches", model, extractor, {"two_masks": True}).two_masks


def test_options_come_from_the_arguments():
    arguments = PretrainingModelArguments(objective_options='{"two_masks": false}', two_masks=True)
    assert arguments.options == {"two_masks": True}


# ---- Examples ----


@pytest.mark.parametrize("kind", [MaskedPatches, toy_objectives.FewLabels])
def test_workers_get_no_weights(model, extractor, kind):
    objective = kind(model, extractor)
    for part in (objective.make_example, objective.collate):
        # What starts a worker that does not share this process's memory.
        assert b"torch._utils" not in pickle.dumps(part)
        pickle.loads(pickle.dumps(part))


def test_two_crops_of_a_clip(sources, extractor):
    examples = PretrainingExamples(extractor, toy_objectives.FollowTeacher.make_example)
    dataset = PretrainingClips(load_sources(sources), examples, seed=0)
    example = dataset[3]
    assert example["first"].shape == example["second"].shape == (48, 128)
    assert not torch.equal(example["first"], example["second"])
    assert torch.equal(dataset[3]["second"], example["second"])
    # Without random crops, both begin where the clip does.
    fixed = PretrainingExamples(extractor, toy_objectives.FollowTeacher.make_example, random_crop=False)
    example = PretrainingClips(load_sources(sources), fixed, seed=0)[3]
    assert torch.equal(example["first"], example["second"])


@pytest.mark.parametrize("is_cached", [False, True])
def test_an_objective_may_ask_for_random_crops_in_evaluation(sources, extractor, tmp_path, is_cached):
    def crops(clip):
        return {"first": clip.input_values(), "anywhere": clip.input_values(random_crop=True)}

    clips = load_sources(sources)
    if is_cached:
        clips = cache_filter_banks(clips, extractor, tmp_path / "cache")
    examples = PretrainingExamples(extractor, crops, random_crop=False, is_training=False)
    dataset = PretrainingClips(clips, examples, seed=0, shuffle=False)
    assert not torch.equal(dataset[3]["first"], dataset[3]["anywhere"])
    assert torch.equal(dataset[3]["anywhere"], dataset[3]["anywhere"])


def test_samples_can_be_changed_before_they_are_filter_banks(sources, extractor, tmp_path):
    def louder(clip):
        samples = clip.samples()
        return {"plain": clip.input_values(samples), "louder": clip.input_values(2 * samples)}

    clips = load_sources(sources)
    example = PretrainingClips(clips, PretrainingExamples(extractor, louder), seed=0)[0]
    difference = (example["louder"] - example["plain"]) * 2 * extractor.std
    # All but those values that are at the floor of the logarithm.
    assert ((difference - np.log(4)).abs() < 1e-3).float().mean() > 0.95
    cached = cache_filter_banks(clips, extractor, tmp_path / "cache")
    with pytest.raises(InputError, match="^--cache_dir must be left out: this objective reads samples"):
        PretrainingClips(cached, PretrainingExamples(extractor, louder), seed=0)[0]


def read_labels(dataset, extractor, count):
    examples = PretrainingExamples(extractor, toy_objectives.FewLabels.make_example)
    if isinstance(dataset, datasets.IterableDataset):
        loader = DataLoader(PretrainingStream(dataset, examples, seed=0), batch_size=5, collate_fn=collate_pretraining)
    else:
        batches = PositionBatches(5, 0, count // 5)
        clips = PretrainingClips(dataset, examples, seed=0)
        loader = DataLoader(clips, batch_sampler=batches, collate_fn=collate_pretraining)
    batches = [batch for batch, _ in zip(loader, range(count // 5), strict=False)]
    assert all(batch["first"].shape == (5, 48, 128) for batch in batches)
    return torch.cat([batch["labels"] for batch in batches]).tolist()


@pytest.mark.parametrize("way", ["whole", "streamed", "cached", "weighted"])
def test_labels_beside_unlabelled_clips(sources, extractor, tmp_path, way):
    weights = [1, 1] if way == "weighted" else None
    dataset = load_sources(sources, weights, streaming=way == "streamed", columns=("label", "other"))
    if way == "cached":
        dataset = cache_filter_banks(dataset, extractor, tmp_path / "cache")
    labels = read_labels(dataset, extractor, 10)
    if way == "weighted":
        assert {-100, 0, 1} == set(labels)
    else:
        assert sorted(labels) == [-100] * 6 + [0, 0, 1, 1]


def test_columns_of_clips_that_are_held_out(sources):
    train, held_out = load_and_hold_out(sources, columns=("label",))
    assert len(held_out) == 1
    assert sorted(row["label"] for row in [*train, *held_out] if row["label"] is not None) == [0, 0, 1, 1]
    train, _ = load_and_hold_out(sources)
    assert train.column_names == ["audio"]


# ---- The loss, and what follows a step ----


def test_the_teacher_follows_and_is_saved(model, extractor):
    objective = toy_objectives.FollowTeacher(model, extractor, decay=0.75)
    weight = "embeddings.cls_token"
    start = objective.model.base_model.get_parameter(weight).detach().clone()
    objective.after_step(1, 10)
    for step in (2, 3):
        with torch.no_grad():
            objective.model.base_model.get_parameter(weight).add_(1)
        objective.after_step(step, 10)
    followed = objective.teacher.module.get_parameter(weight)
    # The distances from the start are 0, then 0.25 x 1, then 0.75 x 0.25 + 0.25 x 2.
    torch.testing.assert_close(followed, start + 0.6875)
    state = objective.state_dict()
    assert torch.equal(state[f"teacher.module.{weight}"], followed)
    assert state["teacher.n_averaged"] == 3
    # The teacher is not trained.
    assert not any(name.startswith("teacher") for name, p in objective.named_parameters() if p.requires_grad)


def test_a_teacher_can_be_what_is_saved(model, extractor, tmp_path):
    class SaveTeacher(toy_objectives.FollowTeacher):
        def __init__(self, model, feature_extractor):
            super().__init__(model, feature_extractor)
            self.teacher = torch.optim.swa_utils.AveragedModel(model)
            with torch.no_grad():
                self.teacher.module.generative_head.dense.bias.fill_(7.0)

        def model_to_save(self):
            return self.teacher.module

    objective = SaveTeacher(model, extractor)
    accelerator = Accelerator(cpu=True)
    folder = RunFolder(accelerator, PretrainingArguments(output_dir=str(tmp_path)))
    folder.save_model(objective, objective, extractor, lambda name: "a card", step=1, is_best=True)
    saved, loading = AutoModelForPreTraining.from_pretrained(tmp_path / "best", output_loading_info=True)
    assert not any(loading.values())
    assert (saved.generative_head.dense.bias == 7).all()


def test_means_count_cases():
    def output(loss, accuracy, count=None):
        counts = None if count is None else {"accuracy": torch.tensor(count)}
        return ObjectiveOutput(torch.tensor(loss), {"accuracy": torch.tensor(accuracy)}, counts)

    means = Means()
    means.add(output(1.0, 0.5, 2), 4)
    means.add(output(4.0, float("nan"), 0), 2)
    means.add(output(2.0, 1.0, 6), 6)
    # An empty batch of a process that has no clip left.
    means.add(output(100.0, 0.0, 3), 0)
    assert means.compute(Accelerator(cpu=True)) == pytest.approx({"loss": 24 / 12, "accuracy": 7 / 8})
    means = Means()
    means.add(output(1.0, 0.5), 3)
    means.add(output(float("nan"), 0.0), 1)
    result = means.compute(Accelerator(cpu=True))
    assert np.isnan(result["loss"])
    assert result["accuracy"] == 0.375


def test_what_the_card_says(model, extractor):
    description = MaskedPatches(model, extractor, two_masks=True).describe()
    assert description.facts == {"Masked patches": "18 of 24, two masks"}
    assert list(description.measures) == ["accuracy", "nce", "mse"]
    assert list(description.notes) == ["In each, 18 of 24 patches were masked."]
    assert "masked spectrogram patch modelling" in description.summary
    assert toy_objectives.FollowTeacher(model, extractor).describe().measures == {}


def test_an_objective_without_forward_says_so(model, extractor):
    with pytest.raises(NotImplementedError, match=re.escape("Objective needs a method `forward`")):
        Objective(model, extractor)(input_values=torch.zeros(1, 48, 128))


# ---- The Trainer ----


def test_the_trainer_runs_any_objective(sources, model, extractor, tmp_path):
    objective = toy_objectives.FewLabels(model, extractor)
    examples = PretrainingExamples(extractor, objective.make_example)
    clips = PretrainingClips(load_sources(sources, columns=objective.columns), examples, seed=0)

    def collate(rows):
        batch = collate_pretraining(rows, objective.collate)
        del batch["skipped"]
        return batch

    arguments = TrainingArguments(
        str(tmp_path / "out"),
        max_steps=3,
        per_device_train_batch_size=5,
        gradient_accumulation_steps=2,
        report_to="none",
        save_strategy="no",
        remove_unused_columns=False,
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(objective, arguments, train_dataset=clips, eval_dataset=clips, data_collator=collate)
    before = trainer.evaluate()["eval_loss"]
    result = trainer.train()
    # A mean over clips, also where a step has several batches.
    assert result.training_loss == pytest.approx(before, rel=0.3)
    assert trainer.evaluate()["eval_loss"] < before
