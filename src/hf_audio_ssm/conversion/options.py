# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What a user may tell a conversion, beside the checkpoint and the folder to write."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..models.filter_bank.feature_extraction_ssamba import NORMALIZATION_PRESETS
from .checkpoint_conversion import ConversionError, check_repo_id


@dataclass(frozen=True)
class ConversionOptions:
    """
    The options of a conversion, as on the command line. None stands for an option that was not given.

    Args:
        filename (`str`, *optional*): The checkpoint's path in its Hub repository.
        revision (`str`, *optional*): Branch, tag or commit of that repository.
        frequency_stride (`int`, *optional*): Mel bins between patches.
        time_stride (`int`, *optional*): Frames between patches.
        max_length (`int`, *optional*): Frames of a clip, 10 ms each.
        num_mel_bins (`int`, *optional*): Mel bins.
        num_masked_patches (`int`, *optional*): Patches masked in pretraining.
        pooling (`str`, *optional*, defaults to `"mean"`): What the classifier reads, "mean" or "cls".
        id2label (`str`, `Path`, `Mapping` or `Sequence[str]`, *optional*): Names of the classes, see [`read_labels`].
        dataset (`str`, *optional*): The data set whose normalisation was used, a key of `NORMALIZATION_PRESETS`.
        mean (`float`, *optional*): Mean of the log-mel values; needs `std`.
        std (`float`, *optional*): Standard deviation of the log-mel values; needs `mean`.
        overwrite (`bool`, *optional*, defaults to `False`): Replace an earlier conversion.
        push_to_hub (`str`, *optional*): Upload the result to this model repository, `org/name`.
        private (`bool`, *optional*, defaults to `False`): Make that repository private.

    Raises:
        [`ConversionError`]: If an option is out of range, or contradicts another one.
    """

    filename: str | None = None
    revision: str | None = None
    frequency_stride: int | None = None
    time_stride: int | None = None
    max_length: int | None = None
    num_mel_bins: int | None = None
    num_masked_patches: int | None = None
    pooling: str = "mean"
    id2label: str | Path | Mapping | Sequence[str] | None = None
    dataset: str | None = None
    mean: float | None = None
    std: float | None = None
    overwrite: bool = False
    push_to_hub: str | None = None
    private: bool = False

    def __post_init__(self) -> None:
        for name in ("num_masked_patches", "frequency_stride", "time_stride", "max_length", "num_mel_bins"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConversionError(f"--{name} must be positive, got {value}.")
        self._check_normalization()
        check_repo_id(self.push_to_hub, self.private)

    def _check_normalization(self) -> None:
        if self.dataset is not None and self.dataset not in NORMALIZATION_PRESETS:
            raise ConversionError(f"--dataset must be one of {', '.join(NORMALIZATION_PRESETS)}, got {self.dataset}.")
        if self.mean is None or self.std is None:
            if self.mean is not None or self.std is not None:
                raise ConversionError(f"--mean and --std go together, got {self.given('mean', 'std')} alone.")
            return
        if self.dataset is not None:
            raise ConversionError(f"--mean and --std contradict --dataset {self.dataset}, which has its own.")
        if not (math.isfinite(self.mean) and 0 < self.std < math.inf):
            raise ConversionError(f"--mean must be finite, --std finite and positive, got {self.mean} and {self.std}.")

    def given(self, *names: str) -> str:
        """Those of the named options that were given, as on the command line; empty, if none was."""
        values = {name: getattr(self, name) for name in names}
        return ", ".join(f"--{name} {value}" for name, value in values.items() if value is not None)
