# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""SSAST (Self-Supervised Audio Spectrogram Transformer) model configuration."""

from huggingface_hub.dataclasses import strict
from transformers.models.audio_spectrogram_transformer.configuration_audio_spectrogram_transformer import ASTConfig

from ..heads.configuration_classifier import ClassifierConfig
from ..patch_encoder.configuration_checks import one_line_errors


@one_line_errors
@strict
class SsastConfig(ClassifierConfig, ASTConfig):
    r"""
    Configuration of SSAST, the Transformer encoder over spectrogram patches of
    [SSAST: Self-Supervised Audio Spectrogram Transformer](https://arxiv.org/abs/2110.09784). The defaults are those of
    the published `SSAST-Tiny-Patch-400` in pretraining; see also [`SsastConfig.tiny`], [`SsastConfig.small`] and
    [`SsastConfig.base`]. The published frame models have `patch_size=(128, 2), frequency_stride=128, time_stride=2`.

    Args:
        hidden_size (`int`, *optional*, defaults to 192):
            Dimension of the tokens.
        num_hidden_layers (`int`, *optional*, defaults to 12):
            Number of Transformer layers.
        num_attention_heads (`int`, *optional*):
            Attention heads of each layer. Defaults to one for every 64 dimensions of `hidden_size`.
        intermediate_size (`int`, *optional*):
            Dimension between the two linear layers of each layer's perceptron. Defaults to four times `hidden_size`.
        hidden_act (`str`, *optional*, defaults to `"gelu"`):
            Activation of the perceptron.
        attention_probs_dropout_prob (`float`, *optional*, defaults to 0.0):
            Dropout on the attention weights.
        qkv_bias (`bool`, *optional*, defaults to `True`):
            Whether queries, keys and values have a bias.
        layer_norm_eps (`float`, *optional*, defaults to 1e-06):
            Epsilon of the layer norms.
        kwargs:
            Classification heads: see [`HeadConfig`]. Patches, positions, pooling and pretraining: see
            [`PatchEncoderConfig`].

    Raises:
        `huggingface_hub.errors.StrictDataclassError`: naming the field, its value and what is allowed.

    Example:

    ```python
    >>> from hf_audio_ssm import SsastConfig, SsastModel

    >>> configuration = SsastConfig.tiny(num_hidden_layers=4)
    >>> model = SsastModel(configuration)
    >>> model.config.num_attention_heads
    3
    ```
    """

    model_type = "ssast"
    # [CLS] and the distillation token.
    num_prefix_tokens = 2

    hidden_size: int = 192
    num_hidden_layers: int = 12
    num_attention_heads: int | None = None
    intermediate_size: int | None = None
    layer_norm_eps: float = 1e-6

    def __post_init__(self, **kwargs) -> None:
        if self.num_attention_heads is None:
            self.num_attention_heads = max(1, self.hidden_size // 64)
        if self.intermediate_size is None:
            self.intermediate_size = 4 * self.hidden_size
        super().__post_init__(**kwargs)

    def validate_architecture(self) -> None:
        """Cross-field checks, run when the configuration is made or loaded."""
        super().validate_architecture()
        self.check_positive("num_attention_heads", "intermediate_size")
        if self.hidden_size % self.num_attention_heads:
            self.refuse("num_attention_heads", f"a divisor of `hidden_size` ({self.hidden_size})")
        if not 0 <= self.attention_probs_dropout_prob < 1:
            self.refuse("attention_probs_dropout_prob", "at least 0 and below 1")


__all__ = ["SsastConfig"]
