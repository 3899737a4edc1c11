# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What the configurations of all encoders of spectrogram patches have in common."""

import math
from collections.abc import Collection
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers.activations import ACT2FN
from transformers.configuration_utils import PreTrainedConfig
from typing_extensions import Self

from ...audio.frames import centre_of_frames
from .configuration_checks import MAX_PARAMETERS, check_common_fields, check_extra_fields, is_inverse, one_line_errors
from .saved_code import SavesCode


# Larger values are mistakes: objects, and work, without end.
LARGEST = {
    "hidden_size": 65_536,
    "num_hidden_layers": 4096,
    "num_mel_bins": 4096,
    # More than eleven days.
    "max_length": 100_000_000,
    "mask_cluster_sizes": 64,
}
LARGEST_WEIGHT = 1e6


@one_line_errors
@strict
class PatchEncoderConfig(SavesCode, PreTrainedConfig):
    r"""
    Base of the configurations of encoders of spectrogram patches: patches, positions, pooling and pretraining.
    Subclasses declare `hidden_size`, `num_hidden_layers`, `intermediate_size`, `hidden_act` and `layer_norm_eps`, which are
    checked here.

    Args:
        hidden_dropout_prob (`float`, *optional*, defaults to 0.0):
            Dropout on the embeddings.
        patch_size (`int` or `(int, int)`, *optional*, defaults to 16):
            Patch size in (mel bins, frames); one number for a square.
        frequency_stride (`int`, *optional*, defaults to 16):
            Step between patches in mel bins (16 in the published pretraining, usually 10 in fine-tuning).
        time_stride (`int`, *optional*, defaults to 16):
            Step between patches in frames.
        max_length (`int`, *optional*, defaults to 1024):
            Frames that the model is set up for; the model itself takes any number from one patch up.
        num_mel_bins (`int`, *optional*, defaults to 128):
            Mel bins of the input.
        initializer_range (`float`, *optional*, defaults to 0.02):
            Standard deviation of the truncated normal for position embeddings and the [CLS] token.
        pooling (`str`, *optional*, defaults to `"mean"`):
            What the classifier reads: `"mean"` of all patch tokens, or the `"cls"` token.
        position_grid (`(int, int)`, *optional*):
            Rows and columns (frequency, time) of the stored position embeddings, which are cut or interpolated to the
            grid of each input. Defaults to the grid of a spectrogram of `num_mel_bins` x `max_length`.
        num_masked_patches (`int`, *optional*):
            Patches masked in a clip in pretraining (250, 300 or 400 of 512 in the published runs). `None` masks the
            same share of any grid as 400 of 512.
        mask_cluster_sizes (`tuple[int, ...]`, *optional*, defaults to `(3, 4, 5)`):
            Side lengths of the square clusters of masked patches, one drawn per clip. `None`, or a grid of one row
            (patches as tall as the spectrogram), masks single patches.
        generative_loss_weight (`float`, *optional*, defaults to 10.0):
            Weight of the reconstruction error beside the contrastive loss in pretraining.
        frequency_patchout (`float`, *optional*, defaults to 0.0):
            Share of the rows of patches that each clip leaves out in training (structured patchout, as in PaSST, arXiv
            2110.05069): the encoder does not read them, which saves their time.
        time_patchout (`float`, *optional*, defaults to 0.0):
            Share of the columns of patches that each clip leaves out in training.
        patchout (`float`, *optional*, defaults to 0.0):
            Share of the patches then left that each clip leaves out, wherever they are (unstructured patchout).

    Raises:
        `huggingface_hub.errors.StrictDataclassError`: naming the field, its value and what is allowed.
    """

    # Tokens before the patches: [CLS], and what an encoder adds.
    num_prefix_tokens = 1

    hidden_dropout_prob: float | int = 0.0
    patch_size: int | list[int] | tuple[int, int] = 16
    frequency_stride: int = 16
    time_stride: int = 16
    max_length: int = 1024
    num_mel_bins: int = 128
    initializer_range: float = 0.02
    pooling: str = "mean"
    position_grid: list[int] | tuple[int, int] | None = None
    num_masked_patches: int | None = None
    mask_cluster_sizes: list[int] | tuple[int, ...] | None = (3, 4, 5)
    generative_loss_weight: float | int = 10.0
    frequency_patchout: float | int = 0.0
    time_patchout: float | int = 0.0
    patchout: float | int = 0.0

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs) -> Any:
        """
        As transformers' own, except that fields in `kwargs` are checked with the others, and labels, or their number, replace
        the saved ones as a whole.
        """
        if not isinstance(config_dict, dict):
            raise ValueError(f"A configuration must be a mapping, got {type(config_dict).__name__}.")
        config_dict = dict(config_dict)
        implementation = config_dict.get("attn_implementation")
        if "attn_implementation" not in kwargs and isinstance(implementation, str) and "/" in implementation:
            # transformers would load a kernel from the Hub.
            raise ValueError(
                f"`attn_implementation` must not name a repository in a configuration, got {implementation!r}; pass it to"
                " `from_pretrained` if you want it."
            )
        saved_labels = config_dict.get("id2label")
        num_saved = len(saved_labels) if isinstance(saved_labels, dict) else 0
        if kwargs.get("id2label") is not None:
            config_dict["label2id"] = None
        elif kwargs.get("num_labels") not in (None, num_saved):
            config_dict |= {"id2label": None, "label2id": None}
        elif saved_labels and not is_inverse(config_dict.get("label2id"), saved_labels):
            # Saved after its names alone were changed.
            config_dict["label2id"] = None
        fields = [name for name in kwargs if name in cls.__dataclass_fields__ and name != "dtype"]
        config_dict |= {name: kwargs.pop(name) for name in fields}
        return super().from_dict(config_dict, **kwargs)

    def __post_init__(self, **kwargs) -> None:
        if kwargs.get("num_labels", 0) is None:
            del kwargs["num_labels"]
        check_extra_fields(self, kwargs)
        check_common_fields(self, kwargs)
        # Lists, as JSON has no tuples: a reloaded configuration then equals the saved one.
        for field in ("patch_size", "position_grid", "mask_cluster_sizes"):
            if isinstance(getattr(self, field), tuple):
                setattr(self, field, list(getattr(self, field)))
        # Kept in the saved configuration, so that a later change of stride or length leaves the weights' shape alone.
        is_pair = isinstance(self.patch_size, int) or len(self.patch_size) == 2
        if self.position_grid is None and min(self.frequency_stride, self.time_stride) > 0 and is_pair:
            self.position_grid = list(self.patch_grid())
        super().__post_init__(**kwargs)

    @classmethod
    def tiny(cls, **kwargs) -> Self:
        """The published tiny model: 192 wide; keyword arguments override any field."""
        return cls(**{"hidden_size": 192, **kwargs})

    @classmethod
    def small(cls, **kwargs) -> Self:
        """The published small model: 384 wide; keyword arguments override any field."""
        return cls(**{"hidden_size": 384, **kwargs})

    @classmethod
    def base(cls, **kwargs) -> Self:
        """The published base model: 768 wide; keyword arguments override any field."""
        return cls(**{"hidden_size": 768, **kwargs})

    @property
    def patch_shape(self) -> tuple[int, int]:
        """Patch size as (mel bins, frames)."""
        if isinstance(self.patch_size, int):
            return self.patch_size, self.patch_size
        return self.patch_size[0], self.patch_size[1]

    @property
    def layers_per_stream(self) -> int:
        """Layers after which the recorded hidden states are complete: 2 where layers run in pairs."""
        return 1

    def patch_grid(self, num_frames: int | None = None) -> tuple[int, int]:
        """
        Rows and columns (frequency, time) of the patches of a spectrogram.

        Args:
            num_frames (`int`, *optional*, defaults to `max_length`):
                Length of the spectrogram in frames.
        """
        num_frames = self.max_length if num_frames is None else num_frames
        patch_frequency, patch_time = self.patch_shape
        return (
            (self.num_mel_bins - patch_frequency) // self.frequency_stride + 1,
            (num_frames - patch_time) // self.time_stride + 1,
        )

    def column_centres(self, num_columns: int) -> list[float]:
        """
        The middle of what each column of patches spans, in frames from the clip's beginning.

        Args:
            num_columns (`int`): Columns of patches.
        """
        first = centre_of_frames(self.patch_shape[1])
        return [column * self.time_stride + first for column in range(num_columns)]

    def refuse(self, field: str, allowed: str) -> None:
        """Raises the `ValueError` for a field whose value is not allowed."""
        raise ValueError(f"`{field}` must be {allowed}, got {getattr(self, field)!r}.")

    def check_positive(self, *fields: str, largest: int | None = None) -> None:
        """Refuses those of the fields that are neither None nor from 1 to `largest`, or the field's own largest value."""
        for field in fields:
            value, limit = getattr(self, field), LARGEST.get(field, largest)
            if value is not None and value < 1:
                self.refuse(field, "a positive integer")
            if value is not None and limit is not None and value > limit:
                self.refuse(field, f"at most {limit}")

    def check_product(self, what: str, *sizes: int) -> None:
        """Refuses sizes whose product is beyond the parameters of any model."""
        if math.prod(sizes) > MAX_PARAMETERS:
            factors = " x ".join(str(size) for size in sizes)
            raise ValueError(
                f"{what} would have {factors} parameters, more than the {MAX_PARAMETERS} that are allowed."
            )

    def check_choice(self, field: str, allowed: Collection[str]) -> None:
        """Refuses a field whose value is none of those allowed."""
        if getattr(self, field) not in allowed:
            self.refuse(field, "one of " + ", ".join(f'"{value}"' for value in allowed))

    def validate_architecture(self) -> None:
        """Cross-field checks, run when the configuration is made or loaded."""
        self.check_positive("hidden_size", "num_hidden_layers", "num_mel_bins", "max_length")
        self.check_positive("frequency_stride", "time_stride", "num_masked_patches")
        if self.hidden_act not in ACT2FN:
            self.refuse("hidden_act", f"one of {', '.join(sorted(ACT2FN))}")
        if not 0 < self.layer_norm_eps < math.inf:
            self.refuse("layer_norm_eps", "a positive number")
        for field in ("hidden_dropout_prob", "frequency_patchout", "time_patchout", "patchout"):
            if not 0 <= getattr(self, field) < 1:
                self.refuse(field, "at least 0 and below 1")
        for field in ("generative_loss_weight", "initializer_range"):
            if not 0 <= getattr(self, field) < LARGEST_WEIGHT:
                self.refuse(field, f"zero or a positive number below {LARGEST_WEIGHT:g}")
        self.check_choice("pooling", ("mean", "cls"))
        for field in ("patch_size", "position_grid"):
            value = getattr(self, field)
            if value is not None and not isinstance(value, int) and len(value) != 2:
                self.refuse(field, "a pair (frequency, time)")
        if min(self.patch_shape) < 1:
            self.refuse("patch_size", "positive")
        if self.patch_shape[0] > self.num_mel_bins or self.patch_shape[1] > self.max_length:
            self.refuse(
                "patch_size",
                f"at most the spectrogram, `num_mel_bins` x `max_length` = {self.num_mel_bins} x {self.max_length}",
            )
        if min(self.position_grid) < 1:
            self.refuse("position_grid", "a pair of positive integers (frequency, time)")
        if self.mask_cluster_sizes is not None and (
            len(self.mask_cluster_sizes) == 0 or min(self.mask_cluster_sizes) < 1
        ):
            self.refuse("mask_cluster_sizes", "positive side lengths, or None for single patches")
        if max(self.mask_cluster_sizes or [1]) > LARGEST["mask_cluster_sizes"]:
            self.refuse("mask_cluster_sizes", f"side lengths of at most {LARGEST['mask_cluster_sizes']}")
        self.check_product(
            "`position_grid` and `hidden_size`: the position embeddings", *self.position_grid, self.hidden_size
        )
        self.check_product(
            "`patch_size` and `hidden_size`: the embedding of patches", *self.patch_shape, self.hidden_size
        )
        self.check_product(
            "`num_hidden_layers`, `hidden_size` and `intermediate_size`: the layers",
            self.num_hidden_layers,
            self.hidden_size,
            # Not every encoder has one.
            getattr(self, "intermediate_size", self.hidden_size),
        )


__all__ = ["PatchEncoderConfig"]
