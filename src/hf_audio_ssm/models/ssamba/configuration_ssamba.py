# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""SSAMBA (Self-Supervised Audio Mamba) model configuration."""

import math

from huggingface_hub.dataclasses import strict
from transformers.activations import ACT2FN
from transformers.configuration_utils import PreTrainedConfig


@strict
class SsambaConfig(PreTrainedConfig):
    r"""
    Configuration of SSAMBA, the bidirectional Mamba encoder over spectrogram patches of
    [SSAMBA: Self-Supervised Audio Representation Learning with Mamba State Space Model](https://arxiv.org/abs/2405.11831).
    The defaults are those of the published `ssamba_tiny_400` in pretraining; see also [`SsambaConfig.tiny`],
    [`SsambaConfig.small`] and [`SsambaConfig.base`].

    Args:
        hidden_size (`int`, *optional*, defaults to 192):
            Dimension of the tokens.
        num_hidden_layers (`int`, *optional*, defaults to 24):
            Number of Mamba layers; even if `paired_layers`.
        state_size (`int`, *optional*, defaults to 16):
            State dimensions of each channel of the selective scan.
        conv_kernel (`int`, *optional*, defaults to 4):
            Taps of the causal depthwise convolution.
        expand (`int`, *optional*, defaults to 2):
            Channels of the mixer as a multiple of `hidden_size`.
        time_step_rank (`int` or `"auto"`, *optional*, defaults to `"auto"`):
            Rank of the projection that makes the time step; `"auto"` is `ceil(hidden_size / 16)`.
        time_step_min (`float`, *optional*, defaults to 0.001):
            Smallest time step drawn at initialisation.
        time_step_max (`float`, *optional*, defaults to 0.1):
            Largest time step drawn at initialisation.
        time_step_floor (`float`, *optional*, defaults to 0.0001):
            Lower bound of the time steps drawn at initialisation.
        use_conv_bias (`bool`, *optional*, defaults to `True`):
            Whether the convolutions have a bias.
        use_bias (`bool`, *optional*, defaults to `False`):
            Whether `in_proj` and `out_proj` have a bias.
        hidden_act (`str`, *optional*, defaults to `"silu"`):
            Activation after the convolutions and on the gate.
        layer_norm_eps (`float`, *optional*, defaults to 1e-05):
            Epsilon of the layer norms.
        drop_path_rate (`float`, *optional*, defaults to 0.1):
            Stochastic depth: rate of the last layer, rising linearly from 0.
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
        paired_layers (`bool`, *optional*, defaults to `True`):
            Whether layers run in pairs, the second of each in reversed time (`if_bidirectional` in the original).
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

    Raises:
        `huggingface_hub.errors.StrictDataclassError`: naming the field, its value and what is allowed.

    Example:

    ```python
    >>> from hf_audio_ssm import SsambaConfig, SsambaModel

    >>> configuration = SsambaConfig.tiny(num_hidden_layers=4)
    >>> model = SsambaModel(configuration)
    >>> model.config.hidden_size
    192
    ```
    """

    model_type = "ssamba"

    hidden_size: int = 192
    num_hidden_layers: int = 24
    state_size: int = 16
    conv_kernel: int = 4
    expand: int = 2
    time_step_rank: int | str = "auto"
    time_step_min: float = 0.001
    time_step_max: float = 0.1
    time_step_floor: float = 1e-4
    use_conv_bias: bool = True
    use_bias: bool = False
    hidden_act: str = "silu"
    layer_norm_eps: float = 1e-5
    drop_path_rate: float | int = 0.1
    hidden_dropout_prob: float | int = 0.0
    patch_size: int | list[int] | tuple[int, int] = 16
    frequency_stride: int = 16
    time_stride: int = 16
    max_length: int = 1024
    num_mel_bins: int = 128
    initializer_range: float = 0.02
    paired_layers: bool = True
    pooling: str = "mean"
    position_grid: list[int] | tuple[int, int] | None = None
    num_masked_patches: int | None = None
    mask_cluster_sizes: list[int] | tuple[int, ...] | None = (3, 4, 5)
    generative_loss_weight: float | int = 10.0

    @classmethod
    def tiny(cls, **kwargs) -> "SsambaConfig":
        """The published tiny model: 192 wide, 24 layers; keyword arguments override any field."""
        return cls(**{"hidden_size": 192, **kwargs})

    @classmethod
    def small(cls, **kwargs) -> "SsambaConfig":
        """The published small model: 384 wide, 24 layers; keyword arguments override any field."""
        return cls(**{"hidden_size": 384, **kwargs})

    @classmethod
    def base(cls, **kwargs) -> "SsambaConfig":
        """The published base model: 768 wide, 24 layers; keyword arguments override any field."""
        return cls(**{"hidden_size": 768, **kwargs})

    def __post_init__(self, **kwargs):
        if self.time_step_rank == "auto":
            self.time_step_rank = math.ceil(self.hidden_size / 16)
        # Lists, as JSON has no tuples: a reloaded configuration then equals the saved one.
        for field in ("patch_size", "position_grid", "mask_cluster_sizes"):
            if isinstance(getattr(self, field), tuple):
                setattr(self, field, list(getattr(self, field)))
        # Kept in the saved configuration, so that a later change of stride or length leaves the weights' shape alone.
        if self.position_grid is None and min(self.frequency_stride, self.time_stride) > 0:
            self.position_grid = list(self.patch_grid())
        super().__post_init__(**kwargs)

    @property
    def intermediate_size(self) -> int:
        """Channels of the mixer."""
        return self.expand * self.hidden_size

    @property
    def patch_shape(self) -> tuple[int, int]:
        """Patch size as (mel bins, frames)."""
        if isinstance(self.patch_size, int):
            return self.patch_size, self.patch_size
        return self.patch_size[0], self.patch_size[1]

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

    def validate_architecture(self):
        """Cross-field checks, run when the configuration is made or loaded."""

        def refuse(field: str, allowed: str):
            raise ValueError(f"`{field}` must be {allowed}, got {getattr(self, field)!r}.")

        for field in (
            "hidden_size",
            "num_hidden_layers",
            "state_size",
            "conv_kernel",
            "expand",
            "frequency_stride",
            "time_stride",
            "max_length",
            "num_mel_bins",
            "num_masked_patches",
        ):
            if getattr(self, field) is not None and getattr(self, field) < 1:
                refuse(field, "a positive integer")
        if isinstance(self.time_step_rank, str) or self.time_step_rank < 1:
            refuse("time_step_rank", '"auto" or a positive integer')
        for field in ("time_step_min", "time_step_max", "time_step_floor", "layer_norm_eps"):
            if not 0 < getattr(self, field) < math.inf:
                refuse(field, "a positive number")
        if self.time_step_min > self.time_step_max:
            refuse("time_step_min", f"at most `time_step_max` ({self.time_step_max})")
        for field in ("drop_path_rate", "hidden_dropout_prob"):
            if not 0 <= getattr(self, field) < 1:
                refuse(field, "at least 0 and below 1")
        if not 0 <= self.generative_loss_weight < math.inf:
            refuse("generative_loss_weight", "zero or a positive number")
        if not 0 <= self.initializer_range < math.inf:
            refuse("initializer_range", "zero or a positive number")
        if self.hidden_act not in ACT2FN:
            refuse("hidden_act", f"one of {', '.join(sorted(ACT2FN))}")
        if self.paired_layers and self.num_hidden_layers % 2:
            refuse("num_hidden_layers", "even where `paired_layers` is true")
        if self.pooling not in ("mean", "cls"):
            refuse("pooling", 'one of "mean", "cls"')
        for field in ("patch_size", "position_grid"):
            value = getattr(self, field)
            if value is not None and not isinstance(value, int) and len(value) != 2:
                refuse(field, "a pair (frequency, time)")
        if min(self.patch_shape) < 1:
            refuse("patch_size", "positive")
        if self.patch_shape[0] > self.num_mel_bins or self.patch_shape[1] > self.max_length:
            refuse(
                "patch_size",
                f"at most the spectrogram, `num_mel_bins` x `max_length` = {self.num_mel_bins} x {self.max_length}",
            )
        if min(self.position_grid) < 1:
            refuse("position_grid", "a pair of positive integers (frequency, time)")
        if self.mask_cluster_sizes is not None and (
            len(self.mask_cluster_sizes) == 0 or min(self.mask_cluster_sizes) < 1
        ):
            refuse("mask_cluster_sizes", "positive side lengths, or None for single patches")


__all__ = ["SsambaConfig"]
