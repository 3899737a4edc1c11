# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Batches for pretraining: the same whatever makes them, from any place on; unusable clips are listed; the Trainer."""

import shutil

import datasets
import numpy as np
import pytest
import soundfile as sf
import torch
from tones import write_broken_clips, write_tone
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

from hf_audio_ssm import SsambaConfig, SsambaFeatureExtractor, SsambaForPreTraining
from hf_audio_ssm.audio.decoding import read_audio
from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.data.filter_banks import cache_filter_banks
from hf_audio_ssm.data.pretraining import (
    PositionBatches,
    PretrainingClips,
    PretrainingExamples,
    PretrainingStream,
    collate_pretraining,
)
from hf_audio_ssm.data.sources import load_source
from hf_audio_ssm.objectives.masked_patches import MaskedPatches, MaskedPatchExamples


CONFIG = {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, "max_length": 48}


def make_examples(two_masks=False, **kwargs) -> PretrainingExamples:
    make_example = MaskedPatchExamples(SsambaConfig(**CONFIG), num_masked_patches=12, two_masks=two_masks)
    return PretrainingExamples(SsambaFeatureExtractor(max_length=48), make_example, **kwargs)


@pytest.fixture
def clips(tmp_path) -> datasets.Dataset:
    """Ten clips of a second, each of its own pitch."""
    for index in range(10):
        write_tone(tmp_path / "clips" / f"{index}.wav", 200 + 300 * index, seconds=1.0, seed=index)
    return load_source(str(tmp_path / "clips"))


def assert_same_batches(batches, expected):
    assert len(batches) == len(expected)
    for batch, other in zip(batches, expected, strict=True):
        assert batch.keys() == other.keys()
        for name in ("input_values", "bool_masked_pos"):
            assert torch.equal(batch[name], other[name])


def load(dataset, examples, start=0, stop=8, batch_size=2, num_workers=0, rank=0, world_size=1, seed=0):
    sampler = PositionBatches(batch_size, start * batch_size * world_size, stop - start, rank, world_size)
    clips = PretrainingClips(dataset, examples, seed)
    return list(DataLoader(clips, batch_sampler=sampler, collate_fn=collate_pretraining, num_workers=num_workers))


def test_workers_and_starting_point_change_nothing(clips):
    examples = make_examples(mixup=0.5)
    batches = load(clips, examples)
    assert_same_batches(load(clips, examples, num_workers=2), batches)
    assert_same_batches(load(clips, examples, start=5), batches[5:])
    assert not torch.equal(load(clips, examples, seed=1)[0]["input_values"], batches[0]["input_values"])


def test_processes_share_the_batch_of_one(clips):
    examples = make_examples()
    whole = load(clips, examples, stop=4, batch_size=4)
    shares = [load(clips, examples, stop=4, batch_size=2, rank=rank, world_size=2) for rank in range(2)]
    for batch, first, second in zip(whole, *shares, strict=True):
        for name in ("input_values", "bool_masked_pos"):
            assert torch.equal(batch[name], torch.cat((first[name], second[name])))


def test_an_epoch_takes_every_clip_once_and_each_is_shuffled_anew(clips):
    dataset = PretrainingClips(clips, make_examples(), seed=3)
    epochs = [[dataset.index(10 * epoch + offset) for offset in range(10)] for epoch in range(3)]
    assert all(sorted(order) == list(range(10)) for order in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert dataset.index(4) == epochs[0][4]
    in_order = PretrainingClips(clips, make_examples(), seed=3, shuffle=False)
    assert [in_order.index(position) for position in range(12)] == [*range(10), 0, 1]


def test_masks_and_crops_differ_by_clip_and_epoch(clips):
    batches = load(clips, make_examples(), stop=2, batch_size=10)
    masks = torch.cat([batch["bool_masked_pos"] for batch in batches])
    assert masks.shape == (20, 24)
    assert masks.dtype == torch.bool
    assert (masks.sum(dim=1) == 12).all()
    assert len(masks.unique(dim=0)) > 10
    assert "generative_bool_masked_pos" not in batches[0]
    two = load(clips, make_examples(two_masks=True), stop=2, batch_size=10)
    assert (two[0]["bool_masked_pos"] != two[0]["generative_bool_masked_pos"]).any(dim=1).sum() > 5

    dataset = PretrainingClips(clips, make_examples(), seed=0)
    of_clip_0 = [dataset[position]["input_values"] for position in range(20) if dataset.index(position) == 0]
    assert len(of_clip_0) == 2
    assert not torch.equal(*of_clip_0)
    fixed = PretrainingClips(clips, make_examples(random_crop=False), seed=0, shuffle=False)
    samples = read_audio(clips[3]["audio"], 16_000, 0.495)
    expected = fixed.examples.feature_extractor(samples, sampling_rate=16_000, return_tensors="pt").input_values[0]
    assert torch.equal(fixed[3]["input_values"], expected)
    assert torch.equal(fixed[13]["input_values"], expected)


def test_mixup_adds_another_clip(clips):
    examples = make_examples(mixup=1.0, random_crop=False)

    class Draws:
        """A generator whose shares and masks are known."""

        random = staticmethod(lambda: 0.5)
        beta = staticmethod(lambda a, b: 0.75 if (a, b) == (10, 10) else None)
        integers = staticmethod(lambda high: 0)

    mixed = examples(clips[1], Draws(), lambda: clips[2])["input_values"]
    first, second = (read_audio(clips[index]["audio"], 16_000, 0.495) for index in (1, 2))
    samples = 0.75 * (first - first.mean()) + 0.25 * (second - second.mean())
    expected = examples.feature_extractor(samples, sampling_rate=16_000, return_tensors="pt").input_values[0]
    torch.testing.assert_close(mixed, expected, rtol=0, atol=1e-3)


def test_speed_moves_pitch_and_length(clips, tmp_path):
    examples = make_examples(speed=0.2)
    write_tone(tmp_path / "tone.wav", 1000, seconds=0.4)
    write_tone(tmp_path / "shortest.wav", 1000, seconds=0.025)
    speeds = []
    for seed in range(20):
        samples = examples.read({"audio": tmp_path / "tone.wav"}, np.random.default_rng(seed))
        pitch = np.abs(np.fft.rfft(samples, 32_000)).argmax() / 2
        assert 6400 / len(samples) == pytest.approx(pitch / 1000, rel=0.01)
        speeds.append(pitch / 1000)
        # As long as the input at any speed: never padded.
        assert len(examples.read(clips[0], np.random.default_rng(seed))) >= 0.494 * 16_000
        assert len(examples.read({"audio": tmp_path / "shortest.wav"}, np.random.default_rng(seed))) >= 400
    assert 0.79 < min(speeds) < 0.9 < 1.1 < max(speeds) < 1.21


@pytest.fixture
def mixed_folder(clips, tmp_path):
    """The clips, broken ones, silence, and one at 8 kHz in stereo; and what is to be said about those unusable."""
    folder = tmp_path / "clips"
    reasons = write_broken_clips(folder)
    sf.write(folder / "silent.wav", np.zeros(16_000), 16_000)
    write_tone(folder / "telephone.wav", 500, seconds=1.0, rate=8_000, channels=2)
    return folder, {**reasons, "silent.wav": "is silent"}


def check_skipped(skipped, reasons):
    found = {clip.rpartition("/")[2]: reason for clip, reason in skipped}
    assert found.keys() == reasons.keys()
    assert all(reason in found[name] for name, reason in reasons.items())


def test_unusable_clips_are_listed_and_replaced(mixed_folder):
    folder, reasons = mixed_folder
    dataset = load_source(str(folder))
    batches = load(dataset, make_examples(), stop=len(dataset), batch_size=1, num_workers=2)
    check_skipped([clip for batch in batches for clip in batch["skipped"]], reasons)
    assert all(batch["input_values"].shape == (1, 48, 128) for batch in batches)


def test_unusable_clips_of_a_stream_are_listed(mixed_folder):
    folder, reasons = mixed_folder
    dataset = load_source(str(folder), streaming=True)
    stream = iter(PretrainingStream(dataset, make_examples(), seed=0, buffer_size=4))
    examples = [next(stream) for _ in range(24)]
    check_skipped([clip for example in examples for clip in example["skipped"]], reasons)


def test_data_that_is_all_unusable_ends_the_run(tmp_path):
    write_broken_clips(tmp_path / "broken")
    for streaming in (False, True):
        dataset = load_source(str(tmp_path / "broken"), streaming=streaming)
        kind = PretrainingStream if streaming else PretrainingClips
        with pytest.raises(InputError, match="100 clips in a row cannot be used, the last of them .*broken"):
            next(iter(kind(dataset, make_examples(), seed=0)))


def read_stream(clips_folder, places=None, count=20, num_workers=0, **kwargs):
    dataset = load_source(str(clips_folder), streaming=True)
    stream = PretrainingStream(dataset, make_examples(mixup=0.3), seed=1, buffer_size=4, places=places, **kwargs)
    loader = DataLoader(stream, batch_size=2, num_workers=num_workers, collate_fn=collate_pretraining)
    return [batch for batch, _ in zip(loader, range(count), strict=False)]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stream_is_taken_up_where_it_was_left(clips, tmp_path, num_workers):
    batches = read_stream(tmp_path / "clips", num_workers=num_workers)
    assert batches[-1]["place"][1] > 1
    for done in (2, 8, 14):
        places = {}
        for batch in batches[:done]:
            worker, *place = batch["place"]
            places[worker] = tuple(place)
        rest = read_stream(tmp_path / "clips", places, 20 - done, num_workers)
        assert_same_batches(rest, batches[done:])
        assert [batch["place"] for batch in rest] == [batch["place"] for batch in batches[done:]]


def test_workers_keep_their_own_epochs(tmp_path):
    for index in range(4):
        write_tone(tmp_path / "clips" / f"{index}.wav", 200 + 300 * index, seconds=0.5, seed=index)
    # Thirty epochs or more of two clips a worker: what one shared with the other would soon go wrong.
    batches = read_stream(tmp_path / "clips", count=60, num_workers=2)
    assert batches[-1]["place"][1] >= 29
    for _ in range(2):
        assert_same_batches(read_stream(tmp_path / "clips", count=60, num_workers=2), batches)


def test_processes_read_their_own_part_of_a_stream(clips, tmp_path):
    halves = []
    for rank in range(2):
        batches = read_stream(tmp_path / "clips", count=2, rank=rank, world_size=2)
        halves.append(torch.cat([batch["input_values"] for batch in batches]))
    assert not any(torch.equal(a, b) for a in halves[0] for b in halves[1])


# ---- Cached filter banks ----


def test_cached_filter_banks_are_those_of_the_clips(mixed_folder, tmp_path):
    folder, reasons = mixed_folder
    extractor = SsambaFeatureExtractor(max_length=120)
    dataset = load_source(str(folder))
    # Starts torch's threads, which a forked process does not have.
    torch.rand(1_000_000).mean()
    cached = cache_filter_banks(dataset, extractor, tmp_path / "cache", num_workers=2)
    make_example = MaskedPatchExamples(SsambaConfig(**{**CONFIG, "max_length": 120}), 12)
    examples = PretrainingExamples(extractor, make_example)
    from_disk = load(cached, examples, stop=len(dataset), batch_size=1)
    directly = load(dataset, examples, stop=len(dataset), batch_size=1)
    for first, second in zip(from_disk, directly, strict=True):
        torch.testing.assert_close(first["input_values"], second["input_values"], rtol=0, atol=1e-5)
        assert [clip for clip, _ in first["skipped"]] == [clip for clip, _ in second["skipped"]]
    found = {clip.rpartition("/")[2] for batch in from_disk for clip, _ in batch["skipped"]}
    assert found == reasons.keys()


def test_the_cache_is_used_again_until_a_clip_changes(clips, tmp_path, monkeypatch):
    extractor = SsambaFeatureExtractor(max_length=48)
    cache = tmp_path / "cache"
    first = cache_filter_banks(clips, extractor, cache)
    written = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    again = cache_filter_banks(load_source(str(tmp_path / "clips")), extractor, cache)
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == written
    assert np.array_equal(again[5]["filter_bank"], first[5]["filter_bank"])
    write_tone(tmp_path / "clips" / "5.wav", 4000, seconds=1.5)
    changed = cache_filter_banks(load_source(str(tmp_path / "clips")), extractor, cache)
    assert len(changed[5]["filter_bank"]) > len(first[5]["filter_bank"])


def test_crops_of_cached_filter_banks(clips, tmp_path):
    cached = cache_filter_banks(clips, SsambaFeatureExtractor(max_length=48), tmp_path / "cache")
    dataset = PretrainingClips(cached, make_examples(), seed=0)
    whole = cached[0]["filter_bank"].reshape(-1, 128)
    extractor = dataset.examples.feature_extractor
    starts = set()
    for position in range(200):
        if dataset.index(position) == 0:
            values = dataset[position]["input_values"].numpy() * 2 * extractor.std + extractor.mean
            distances = [np.abs(whole[start : start + 48] - values).max() for start in range(len(whole) - 47)]
            assert min(distances) < 1e-4
            starts.add(int(np.argmin(distances)))
    assert len(starts) > 8


# ---- The Trainer ----


def test_the_trainer_pretrains_and_evaluates(clips, tmp_path):
    torch.manual_seed(0)
    model = SsambaForPreTraining(SsambaConfig(**CONFIG, num_masked_patches=12, drop_path_rate=0.0))
    extractor = SsambaFeatureExtractor(max_length=48)
    objective = MaskedPatches(model, extractor)
    examples = PretrainingExamples(extractor, objective.make_example, random_crop=False)

    def collate(rows):
        batch = collate_pretraining(rows, objective.collate)
        del batch["skipped"]
        return batch

    arguments = TrainingArguments(
        output_dir=str(tmp_path / "out"),
        max_steps=30,
        per_device_train_batch_size=5,
        learning_rate=3e-3,
        eval_strategy="steps",
        eval_steps=15,
        logging_steps=15,
        save_strategy="no",
        report_to="none",
        remove_unused_columns=False,
        label_names=["bool_masked_pos"],
        use_cpu=True,
    )
    dataset = PretrainingClips(clips, examples, seed=0, shuffle=False)
    trainer = Trainer(objective, arguments, train_dataset=dataset, eval_dataset=dataset, data_collator=collate)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    losses = [row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row]
    assert len(losses) == 2
    assert losses[1] < losses[0] < before
    objective.model_to_save().save_pretrained(tmp_path / "saved")
    again = SsambaForPreTraining.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(again.state_dict(), {k: v.cpu() for k, v in model.state_dict().items()})
    shutil.rmtree(tmp_path / "saved")
