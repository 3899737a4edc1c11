# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The golden data: what the original code computes for small models, and how to compare with it."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file


GOLDEN_DIR = Path(__file__).resolve().parents[1] / "fixtures" / "golden"
FINE_TUNING_CASES = ("finetune_same_grid", "finetune_stride10_longer", "finetune_stride10_shorter")
PRETRAINING_CASES = ("pretrain", "pretrain_unpaired")
TRAJECTORY_CASE = "pretrain_trajectory"
CASES = (*FINE_TUNING_CASES, *PRETRAINING_CASES, TRAJECTORY_CASE)
SSAST_FINE_TUNING_CASES = ("finetune_patch_stride10_shorter", "finetune_frame_longer")
SSAST_PRETRAINING_CASES = ("pretrain_patch", "pretrain_frame")

# Of the largest value, for float32 results.
TOLERANCE = 1e-5


def load_case(
    name: str, model_type: str = "ssamba"
) -> tuple[dict[str, Any], Path, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """
    Reads a golden case.

    Returns:
        The original's hyper-parameters, the path of its checkpoint, and the tensors that go in and come out.
    """
    folder = GOLDEN_DIR / model_type / name
    case = json.loads((folder / "case.json").read_text())
    inputs, expected = (load_file(folder / f"{part}.safetensors") for part in ("inputs", "expected"))
    return case, folder / "checkpoint.pth", inputs, expected


def mask_of(mask_index: torch.Tensor, num_patches: int) -> torch.Tensor:
    """Turns indices of masked patches, (batch_size, masked), into `bool_masked_pos`, (batch_size, num_patches)."""
    mask = torch.zeros(mask_index.shape[0], num_patches, dtype=torch.bool)
    return mask.scatter(1, mask_index, True)


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference, relative to the largest expected value."""
    assert actual.shape == expected.shape, f"{tuple(actual.shape)} instead of {tuple(expected.shape)}"
    return ((actual - expected).abs().max() / expected.abs().max()).item()
