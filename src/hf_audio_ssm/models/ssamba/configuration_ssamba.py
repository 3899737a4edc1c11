# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""SSAMBA (Self-Supervised Audio Mamba) model configuration."""

import math

from huggingface_hub.dataclasses import strict

from ..heads.configuration_classifier import ClassifierConfig
from ..patch_encoder.configuration_checks import one_line_errors


LARGEST_TIME_STEP = 1000


@one_line_errors
@strict
class SsambaConfig(ClassifierConfig):
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
        paired_layers (`bool`, *optional*, defaults to `True`):
            Whether layers run in pairs, the second of each in reversed time (`if_bidirectional` in the original).
        kwargs:
            Classification heads: see [`HeadConfig`]. Patches, positions, pooling and pretraining: see
            [`PatchEncoderConfig`].

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
    paired_layers: bool = True

    def __post_init__(self, **kwargs) -> None:
        if self.time_step_rank == "auto":
            self.time_step_rank = math.ceil(self.hidden_size / 16)
        super().__post_init__(**kwargs)

    @property
    def intermediate_size(self) -> int:
        """Channels of the mixer."""
        return self.expand * self.hidden_size

    @property
    def layers_per_stream(self) -> int:
        """Layers after which the recorded hidden states are complete: 2 where layers run in pairs."""
        return 2 if self.paired_layers else 1

    def validate_architecture(self) -> None:
        """Cross-field checks, run when the configuration is made or loaded."""
        self.check_positive("state_size", "conv_kernel", largest=4096)
        self.check_positive("expand", largest=64)
        if isinstance(self.time_step_rank, str) or self.time_step_rank < 1:
            self.refuse("time_step_rank", '"auto" or a positive integer')
        for field in ("time_step_min", "time_step_max", "time_step_floor"):
            if not 0 < getattr(self, field) <= LARGEST_TIME_STEP:
                self.refuse(field, f"a positive number of at most {LARGEST_TIME_STEP}")
        if self.time_step_min > self.time_step_max:
            self.refuse("time_step_min", f"at most `time_step_max` ({self.time_step_max})")
        if not 0 <= self.drop_path_rate < 1:
            self.refuse("drop_path_rate", "at least 0 and below 1")
        if self.paired_layers and self.num_hidden_layers % 2:
            self.refuse("num_hidden_layers", "even where `paired_layers` is true")
        super().validate_architecture()
        for field in ("state_size", "conv_kernel", "time_step_rank"):
            self.check_product(
                f"`{field}`: the layers", self.num_hidden_layers, self.intermediate_size, getattr(self, field)
            )


__all__ = ["SsambaConfig"]
