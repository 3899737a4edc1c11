# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Masks and the joint objective of pretraining."""

import random

import pytest
import torch
import torch.nn.functional as F
from transformers import Trainer, TrainingArguments

from hf_audio_ssm import SsambaConfig, SsambaForPreTraining
from hf_audio_ssm.models.patch_encoder.masked_patch_modeling import draw_patch_mask


def draw_mask_by_the_rule(grid, num_masked_patches, cluster_sizes, rng) -> set[int]:
    """The rule in words, one clip at a time."""
    rows, columns = grid
    size = rng.choice(cluster_sizes)
    covered: set[int] = set()
    while len(covered) <= num_masked_patches:
        start = rng.randrange(rows * columns)
        for i in range(size):
            for j in range(size):
                if 0 < start + columns * i + j < rows * columns:
                    covered.add(start + columns * i + j)
    return set(sorted(covered)[:num_masked_patches])


@pytest.mark.parametrize(("grid", "num_masked"), [((8, 64), 400), ((8, 16), 40), ((8, 8), 63), ((3, 2), 1)])
def test_every_clip_has_the_wanted_number(grid, num_masked):
    mask = draw_patch_mask(50, grid, num_masked)
    assert mask.shape == (50, grid[0] * grid[1])
    assert mask.dtype == torch.bool
    assert (mask.sum(dim=1) == num_masked).all()
    assert not mask[:, 0].any()
    if num_masked < 63:
        assert len({tuple(row.tolist()) for row in mask}) > 1


@pytest.mark.parametrize("cluster_sizes", [(3,), (5,), (3, 4, 5)])
def test_distribution_is_the_rules(cluster_sizes):
    grid, num_masked, clips = (8, 16), 40, 3000
    rng = random.Random(0)
    by_rule = torch.zeros(clips, 128)
    for clip in by_rule:
        clip[list(draw_mask_by_the_rule(grid, num_masked, cluster_sizes, rng))] = 1
    drawn = draw_patch_mask(clips, grid, num_masked, cluster_sizes, generator=torch.Generator().manual_seed(0)).float()
    # How often each patch is masked, and how often together with its neighbours in time and frequency.
    for statistic in (
        lambda masks: masks,
        lambda masks: masks[:, 1:] * masks[:, :-1],
        lambda masks: masks[:, 16:] * masks[:, :-16],
    ):
        difference = statistic(drawn).mean(dim=0) - statistic(by_rule).mean(dim=0)
        # Five standard errors of a difference of shares.
        assert difference.abs().max() < 5 * (2 * 0.25 / clips) ** 0.5


def test_single_patches_are_uniform():
    for grid, cluster_sizes in [((1, 64), (3, 4, 5)), ((8, 8), None)]:
        mask = draw_patch_mask(4000, grid, 16, cluster_sizes, generator=torch.Generator().manual_seed(0))
        assert (mask.sum(dim=1) == 16).all()
        assert (mask.float().mean(dim=0) - 0.25).abs().max() < 5 * (0.25 * 0.75 / 4000) ** 0.5


def test_masks_are_reproducible():
    draws = []
    for _ in range(2):
        torch.manual_seed(3)
        draws.append(draw_patch_mask(4, (8, 16), 40))
    assert torch.equal(*draws)
    assert not torch.equal(draws[0], draw_patch_mask(4, (8, 16), 40))


@pytest.mark.parametrize("num_masked", [0, 128, 400])
def test_a_mask_must_fit_the_grid(num_masked):
    with pytest.raises(ValueError, match=rf"below the number of patches, 8 x 16 = 128, got {num_masked}"):
        draw_patch_mask(2, (8, 16), num_masked)


def make_model(**arguments) -> SsambaForPreTraining:
    torch.manual_seed(0)
    config = SsambaConfig(
        **{
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "patch_size": 4,
            "frequency_stride": 4,
            "time_stride": 4,
            "max_length": 24,
            "num_mel_bins": 16,
            **arguments,
        }
    )
    return SsambaForPreTraining(config).eval()


def test_objective_clip_by_clip():
    """The losses by the original's loop, for clips with different numbers of masked patches."""
    model, input_values = make_model(), torch.randn(3, 24, 16)
    mask = torch.rand(3, 24) < 0.5
    outputs = model(input_values, bool_masked_pos=mask)
    nce = mse = accuracy = 0.0
    for clip, spectrogram in enumerate(input_values):
        positions = mask[clip].nonzero()[:, 0].tolist()
        patches = torch.stack(
            [
                spectrogram.T[4 * (p // 6) : 4 * (p // 6) + 4, 4 * (p % 6) : 4 * (p % 6) + 4].flatten()
                for p in positions
            ]
        )
        scores = patches @ outputs.discriminative_predictions[clip, positions].T
        nce -= scores.log_softmax(dim=1).diagonal().mean() / 3
        accuracy += (scores.softmax(dim=1).argmax(dim=0) == torch.arange(len(positions))).float().mean() / 3
        mse += F.mse_loss(outputs.generative_predictions[clip, positions], patches) / 3
    for actual, expected in [(outputs.nce, nce), (outputs.mse, mse), (outputs.accuracy, accuracy)]:
        torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(outputs.loss, outputs.nce + 10 * outputs.mse)
    assert torch.equal(outputs.mask, mask.long())


def test_one_mask_and_one_pass_for_both_losses(monkeypatch):
    model, passes = make_model(num_masked_patches=7), []
    model.ssamba.register_forward_hook(lambda *_: passes.append(1))
    outputs = model(torch.randn(3, 24, 16))
    assert len(passes) == 1
    assert outputs.mask.sum(dim=1).tolist() == [7, 7, 7]
    assert outputs.generative_predictions.shape == outputs.discriminative_predictions.shape == (3, 24, 16)


def test_masked_patches_are_not_seen():
    model, input_values = make_model(), torch.randn(1, 24, 16)
    mask = torch.zeros(1, 24, dtype=torch.bool)
    mask[0, 6 * 1 + 2] = True
    changed = input_values.clone()
    changed[0, 8:12, 4:8] += 1
    with torch.no_grad():
        same, other = (
            model.ssamba(values, bool_masked_pos=mask).last_hidden_state for values in (input_values, changed)
        )
    assert torch.equal(same, other)


def test_default_share_is_400_of_512():
    outputs = make_model(max_length=64)(torch.randn(2, 64, 16))
    assert outputs.mask.sum(dim=1).tolist() == [50, 50]


def test_losses_can_be_left_out():
    outputs = make_model()(torch.randn(2, 24, 16), return_loss=False)
    assert outputs.loss is None
    assert outputs.generative_predictions is not None


def test_bad_masks_are_refused():
    model = make_model(num_masked_patches=24)
    input_values = torch.randn(2, 24, 16)
    with pytest.raises(ValueError, match="below the number of patches, 4 x 6 = 24, got 24"):
        model(input_values)
    mask = torch.ones(2, 24, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"\(batch_size, patches\) = \(2, 24\), got \(2, 23\)"):
        model(input_values, bool_masked_pos=mask[:, :23])
    mask[1] = False
    with pytest.raises(ValueError, match="at least one patch of each clip"):
        model(input_values, bool_masked_pos=mask)


def test_pretraining_with_the_trainer(tmp_path):
    generator = torch.Generator().manual_seed(0)
    clips = [{"input_values": torch.randn(24, 16, generator=generator).cumsum(0) / 5} for _ in range(16)]
    model = make_model(hidden_size=32)
    trainer = Trainer(
        model,
        TrainingArguments(
            str(tmp_path),
            max_steps=100,
            per_device_train_batch_size=8,
            learning_rate=3e-3,
            report_to="none",
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
        ),
        train_dataset=clips,
        eval_dataset=clips,
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < 0.95 * before
