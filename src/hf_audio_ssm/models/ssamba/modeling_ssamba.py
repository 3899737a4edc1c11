# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
PyTorch SSAMBA (Self-Supervised Audio Mamba) model.

Written from the paper (arXiv 2405.11831) and the published behaviour of its original code (SiavashShams/ssamba, whose
block is Vision Mamba's, arXiv 2401.09417). Everything here is plain PyTorch and defines the model; the kernels of
`hf_audio_ssm.ops` compute the same faster and are used where that package is installed.
"""

import math
from collections.abc import Callable
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import PreTrainedModel
from transformers.utils.output_capturing import capture_outputs

from ..heads.audio_classification import PatchEncoderForAudioClassification
from ..heads.audio_frame_classification import PatchEncoderForAudioFrameClassification
from ..patch_encoder.masked_patch_modeling import PatchEncoderForPreTraining
from ..patch_encoder.modeling_patch_encoder import PatchEncoderModel, PatchEncoderPreTrainedModel
from ..patch_encoder.packing import PatchEncoderOutput, map_clips
from .configuration_ssamba import SsambaConfig


try:
    from hf_audio_ssm import ops
except ImportError:
    ops = None  # type: ignore[assignment]


def map_rows(function: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> torch.Tensor:
    """`function(*inputs)`, for a function that treats each token by itself, with less memory traffic where that helps."""
    return function(*inputs) if ops is None else ops.map_rows(function, *inputs)


def selective_scan(
    hidden_states: torch.Tensor,
    time_step: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
    reverse: bool = False,
) -> torch.Tensor:
    """
    The selective scan (Mamba, arXiv 2312.00752, section 3), token by token: `h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t`,
    `y_t = C_t . h_t + D x_t`, in float32 or better. This loop is the definition that every kernel is tested against.

    Args:
        hidden_states (`torch.Tensor` of shape `(batch_size, length, channels)`): The input x.
        time_step (`torch.Tensor` of shape `(batch_size, length, channels)`): The positive time steps dt.
        A (`torch.Tensor` of shape `(channels, state_size)`): The negative rates of decay.
        B (`torch.Tensor` of shape `(batch_size, length, state_size)`): The input matrices.
        C (`torch.Tensor` of shape `(batch_size, length, state_size)`): The output matrices.
        D (`torch.Tensor` of shape `(channels,)`): The skip connection.
        reverse (`bool`, *optional*, defaults to `False`): Whether to run from the last token to the first.

    Returns:
        `torch.Tensor` of shape `(batch_size, length, channels)`, in the dtype of `hidden_states`.
    """
    dtype = torch.promote_types(hidden_states.dtype, torch.float32)
    x, time_step, A, B, C, D = (tensor.to(dtype) for tensor in (hidden_states, time_step, A, B, C, D))
    length = x.shape[1]
    state = x.new_zeros(x.shape[0], *A.shape)
    outputs: list[torch.Tensor | None] = [None] * length
    for t in reversed(range(length)) if reverse else range(length):
        decay = torch.exp(time_step[:, t, :, None] * A)
        state = decay * state + (time_step[:, t] * x[:, t])[..., None] * B[:, t, None, :]
        outputs[t] = (state * C[:, t, None, :]).sum(-1)
    return (torch.stack(outputs, dim=1) + D * x).to(hidden_states.dtype)


class SsambaLayerNorm(nn.LayerNorm):
    """Layer norm that reads the (float32) residual stream and returns the dtype of its weights."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return map_rows(self.normalize, hidden_states)

    def normalize(self, hidden_states: torch.Tensor) -> torch.Tensor:
        dtype = hidden_states.dtype
        weight, bias = self.weight.to(dtype), self.bias.to(dtype)
        normalized = F.layer_norm(hidden_states, self.normalized_shape, weight, bias, self.eps)
        return normalized.to(self.weight.dtype)


class SsambaFinalLayerNorm(SsambaLayerNorm):
    """
    The final layer norm, applied twice with the same weights, as in the code that trained the published weights.

    Args:
        hidden_size (`int`): Dimension of the tokens.
        eps (`float`): Epsilon of the second application.
        stream_eps (`float`): Epsilon of the first application, whose input may be a scaled residual stream.
    """

    def __init__(self, hidden_size: int, eps: float, stream_eps: float):
        super().__init__(hidden_size, eps=eps)
        self.stream_eps = stream_eps

    def normalize(self, hidden_states: torch.Tensor) -> torch.Tensor:
        dtype = hidden_states.dtype
        weight, bias = self.weight.to(dtype), self.bias.to(dtype)
        for eps in (self.stream_eps, self.eps):
            hidden_states = F.layer_norm(hidden_states, self.normalized_shape, weight, bias, eps)
        return hidden_states.to(self.weight.dtype)


class SsambaSelectiveSSM(nn.Module):
    """One direction of a mixer: convolution, and a state-space model whose time step, B and C depend on the input."""

    def __init__(self, config: SsambaConfig):
        super().__init__()
        channels = config.intermediate_size
        self.state_size = config.state_size
        self.time_step_rank = config.time_step_rank
        self.conv_kernel = config.conv_kernel
        self.act = ACT2FN[config.hidden_act]
        self.conv1d = nn.Conv1d(channels, channels, config.conv_kernel, groups=channels, bias=config.use_conv_bias)
        self.x_proj = nn.Linear(channels, config.time_step_rank + 2 * config.state_size, bias=False)
        self.dt_proj = nn.Linear(config.time_step_rank, channels, bias=True)
        self.A_log = nn.Parameter(torch.empty(channels, config.state_size))
        self.D = nn.Parameter(torch.empty(channels))

    def convolve(self, hidden_states: torch.Tensor, reverse: bool) -> torch.Tensor:
        """Depthwise convolution over the tokens already passed, and its activation."""
        # A module in the convolution's place need not say its size.
        reach = getattr(self.conv1d, "kernel_size", (self.conv_kernel,))[0] - 1
        states = hidden_states.flip(1) if reverse else hidden_states
        states = self.conv1d(F.pad(states.transpose(1, 2), (reach, 0))).transpose(1, 2)
        return self.act(states.flip(1) if reverse else states)

    def forward(self, hidden_states: torch.Tensor, reverse: bool = False) -> torch.Tensor:
        """`hidden_states` and the result, not yet gated, have the shape `(batch_size, length, channels)`."""
        hidden_states = self.convolve(hidden_states, reverse)
        time_step, B, C = self.x_proj(hidden_states).split(
            (self.time_step_rank, self.state_size, self.state_size), dim=-1
        )
        time_step = self.dt_proj(time_step)
        dtype = torch.promote_types(time_step.dtype, torch.float32)
        A = -torch.exp(self.A_log.to(dtype))
        if ops is not None:
            return ops.selective_scan(hidden_states, time_step, A, B, C, self.D, reverse=reverse)
        time_step = F.softplus(time_step.to(dtype))
        return selective_scan(hidden_states, time_step, A, B, C, self.D, reverse=reverse)


class SsambaMixer(nn.Module):
    """The bidirectional Mamba mixer of Vision Mamba: both directions share the projections in and out and the gate."""

    def __init__(self, config: SsambaConfig):
        super().__init__()
        self.in_proj = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=config.use_bias)
        self.forward_ssm = SsambaSelectiveSSM(config)
        self.backward_ssm = SsambaSelectiveSSM(config)
        self.act = ACT2FN[config.hidden_act]
        self.out_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.use_bias)
        # Read by `_init_weights`, which is not called with modules that have no parameters of their own.
        self.out_proj.init_scale = config.num_hidden_layers**-0.5

    def forward(
        self,
        hidden_states: torch.Tensor,
        reverse: bool = False,
        clip_shapes: tuple[tuple[int, int], ...] | None = None,
    ) -> torch.Tensor:
        """
        Args:
            hidden_states (`torch.Tensor` of shape `(batch_size, length, hidden_size)`): The normalised tokens.
            reverse (`bool`, *optional*, defaults to `False`): Whether time runs from the last token to the first.
            clip_shapes (`tuple[tuple[int, int], ...]`, *optional*): The groups of packed clips, see [`Packing`].
        """
        if ops is not None:
            return ops.bidirectional_mixer(self, hidden_states, reverse=reverse, clip_shapes=clip_shapes)

        def mix(hidden_states: torch.Tensor) -> torch.Tensor:
            mixed = self.forward_ssm(hidden_states, reverse=reverse)
            return mixed + self.backward_ssm(hidden_states, reverse=not reverse)

        hidden_states, gate = self.in_proj(hidden_states).chunk(2, dim=-1)
        return self.out_proj(map_clips(mix, hidden_states, clip_shapes) * self.act(gate) / 2)


class SsambaDropPath(nn.Module):
    """Stochastic depth per clip: in training, drops a clip's update with probability `rate` and scales the others."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if not self.training or self.rate == 0:
            return hidden_states
        keep = hidden_states.new_empty(hidden_states.shape[0], 1, 1).bernoulli_(1 - self.rate)
        return hidden_states * keep / (1 - self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


class SsambaLayer(GradientCheckpointingLayer):
    """
    One layer: its mixer's output is added to the residual stream.

    In the original, the two layers of pair k read the same stream and the stream doubles in each pair, close to
    float16's limit at the end. Here the stream is kept divided by 2^k, with the layer norms' epsilon divided by 4^k,
    which is exactly equal and never overflows; the second layer of a pair runs in reversed time instead of on flipped
    tokens.

    In the original a layer drops, by its own rate, the update that the layers before it made, so `update` travels along.
    """

    def __init__(self, config: SsambaConfig, layer_idx: int):
        super().__init__()
        pair = layer_idx // 2 if config.paired_layers else 0
        self.reverse = config.paired_layers and layer_idx % 2 == 1
        self.share = 0.5 if config.paired_layers else 1.0
        self.update_scale = 0.5**pair
        self.output_scale = self.update_scale * self.share
        # The original's rates: 0, then n values from 0 to drop_path_rate, of which layer i uses the i-th.
        rate = config.drop_path_rate * max(layer_idx - 1, 0) / max(config.num_hidden_layers - 1, 1)
        self.norm = SsambaLayerNorm(config.hidden_size, eps=config.layer_norm_eps / 4**pair)
        self.mixer = SsambaMixer(config)
        self.drop_path = SsambaDropPath(rate)

    def forward(
        self,
        hidden_states: torch.Tensor,
        residual: torch.Tensor | None = None,
        update: torch.Tensor | None = None,
        clip_shapes: tuple[tuple[int, int], ...] | None = None,
        partner: "SsambaLayer | None" = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        Args:
            hidden_states (`torch.Tensor` of shape `(batch_size, length, hidden_size)`):
                The scaled residual stream that the layer reads.
            residual (`torch.Tensor`, *optional*):
                The stream that it adds to: what the first layer of its pair returned; `hidden_states` otherwise.
            update (`torch.Tensor`, *optional*):
                The unscaled part of `hidden_states` that drop path may drop.
            clip_shapes (`tuple[tuple[int, int], ...]`, *optional*):
                The groups of packed clips, see [`Packing`].
            partner (`SsambaLayer`, *optional*):
                The second layer of the pair, where `can_join` allows to compute both at once.

        Returns:
            `tuple[torch.Tensor, torch.Tensor | None]`: the stream with this layer's output added, or both layers', and, in
            training, the output, or the sum of both.
        """
        if partner is not None:
            return self.forward_pair(partner, hidden_states, update, clip_shapes)
        residual = hidden_states if residual is None else residual
        change = self.drop_update(update, clip_shapes)
        if change is not None:
            hidden_states = hidden_states + change
            residual = residual + self.share * change
        if can_fuse(self):
            stream = ops.bidirectional_layer(self, hidden_states, residual, clip_shapes)
            if stream is not None:
                return stream, None
        output = self.mixer(self.norm(hidden_states), reverse=self.reverse, clip_shapes=clip_shapes)
        return map_rows(self.add_output, residual, output), output if self.training else None

    def forward_pair(
        self,
        partner: "SsambaLayer",
        hidden_states: torch.Tensor,
        update: torch.Tensor | None,
        clip_shapes: tuple[tuple[int, int], ...] | None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """`forward` of this layer and then of its partner, whose mixers are computed at once."""
        layers = (self, partner)
        changes = [layer.drop_update(update, clip_shapes) for layer in layers]
        normalized = [
            layer.norm(hidden_states if change is None else hidden_states + change)
            for layer, change in zip(layers, changes, strict=True)
        ]
        outputs = ops.bidirectional_mixer_pair([layer.mixer for layer in layers], normalized, clip_shapes)
        for layer, change, output in zip(layers, changes, outputs, strict=True):
            residual = hidden_states if change is None else hidden_states + layer.share * change
            hidden_states = layer.add_output(residual, output)
        return hidden_states, outputs[0] + outputs[1] if self.training and partner.training else None

    def drop_update(
        self, update: torch.Tensor | None, clip_shapes: tuple[tuple[int, int], ...] | None
    ) -> torch.Tensor | None:
        """What dropping the update for some clips changes in the stream; `None`: nothing."""
        if update is None or not self.training or self.drop_path.rate == 0:
            return None
        return self.update_scale * (map_clips(self.drop_path, update, clip_shapes) - update)

    def add_output(self, residual: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        return torch.add(residual, output, alpha=self.output_scale)


def can_fuse(layer: nn.Module) -> bool:
    """Whether `ops.bidirectional_layer`, which looks at the layer's modules, computes what a layer does in inference."""
    return ops is not None and type(layer) is SsambaLayer and not layer.training


def can_join(
    first: nn.Module,
    second: nn.Module,
    hidden_states: torch.Tensor,
    clip_shapes: tuple[tuple[int, int], ...] | None,
) -> bool:
    """Whether to compute the layers of a pair at once: that is faster, and computes what the modules do that are not called."""
    layers = (first, second)
    if ops is None or not all(type(layer) is SsambaLayer for layer in layers):
        return False
    return ops.pairs_pay(layers, hidden_states, clip_shapes)


class SsambaPreTrainedModel(PatchEncoderPreTrainedModel, PreTrainedModel):
    """Weight initialisation, loading and saving of SSAMBA models."""

    config: SsambaConfig
    base_model_prefix = "ssamba"
    supports_gradient_checkpointing = True
    _no_split_modules = ["PatchTokenEmbeddings", "SsambaLayer"]
    _can_record_outputs = {"hidden_states": SsambaLayer}
    _keep_in_fp32_modules_strict = ["A_log", "D"]
    _supports_context_parallel = False
    _can_compile_fullgraph = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if hasattr(module, "init_scale"):
            init.copy_(module.weight, module.weight * module.init_scale)
        elif isinstance(module, SsambaSelectiveSSM):
            states = torch.arange(1, self.config.state_size + 1, dtype=torch.float32)
            init.copy_(module.A_log, states.log().expand_as(module.A_log).to(module.A_log.device))
            init.ones_(module.D)
            bound = self.config.time_step_rank**-0.5
            init.uniform_(module.dt_proj.weight, -bound, bound)
            low, high = math.log(self.config.time_step_min), math.log(self.config.time_step_max)
            time_step = torch.empty_like(module.dt_proj.bias, dtype=torch.float32).uniform_(low, high).exp()
            time_step = time_step.clamp(min=self.config.time_step_floor)
            # The inverse of softplus.
            init.copy_(module.dt_proj.bias, time_step + torch.log(-torch.expm1(-time_step)))


class SsambaModel(PatchEncoderModel, SsambaPreTrainedModel):
    """
    The bare SSAMBA encoder. Its `hidden_states` are the residual stream, divided by 2 to the number of pairs passed; every
    second one, from the first, is complete: the stream between pairs.

    Args:
        config (`SsambaConfig`): The configuration.
        use_mask_token (`bool`, *optional*, defaults to `False`): Whether to have the mask embedding of pretraining.
    """

    def __init__(self, config: SsambaConfig, use_mask_token: bool = False):
        super().__init__(config, use_mask_token=use_mask_token)
        self.layers = nn.ModuleList([SsambaLayer(config, layer_idx) for layer_idx in range(config.num_hidden_layers)])
        num_pairs = config.num_hidden_layers // 2 if config.paired_layers else 0
        self.final_update_scale = 0.5**num_pairs
        self.drop_path = SsambaDropPath(config.drop_path_rate)
        self.layernorm = SsambaFinalLayerNorm(
            config.hidden_size, eps=config.layer_norm_eps, stream_eps=config.layer_norm_eps / 4**num_pairs
        )
        self.post_init()

    def run_layers(self, hidden_states: torch.Tensor, clip_shapes: tuple[tuple[int, int], ...] | None) -> torch.Tensor:
        """The residual stream `(batch_size, length, hidden_size)` through all layers."""
        if all(map(can_fuse, self.layers)):
            stream = ops.bidirectional_layers(self.layers, hidden_states, self.config.paired_layers, clip_shapes)
            if stream is not None:
                return stream
        update = None
        if self.config.paired_layers:
            for first, second in zip(self.layers[::2], self.layers[1::2], strict=True):
                if can_join(first, second, hidden_states, clip_shapes):
                    hidden_states, update = first(hidden_states, None, update, clip_shapes, partner=second)
                    continue
                residual, first_output = first(hidden_states, None, update, clip_shapes)
                hidden_states, second_output = second(hidden_states, residual, update, clip_shapes)
                # A layer in evaluation mode gives no output of its own: then nothing is dropped.
                update = None if first_output is None or second_output is None else first_output + second_output
        else:
            for layer in self.layers:
                hidden_states, update = layer(hidden_states, None, update, clip_shapes)
        if update is not None and self.training and self.drop_path.rate > 0:
            change = map_clips(self.drop_path, update, clip_shapes) - update
            hidden_states = hidden_states + self.final_update_scale * change
        return hidden_states

    @capture_outputs(tie_last_hidden_states=False)
    def encode(
        self, hidden_states: torch.Tensor, clip_shapes: tuple[tuple[int, int], ...] | None = None, **kwargs
    ) -> PatchEncoderOutput:
        """Runs the layers and the last layer norm, see the base class."""
        # In low precision the stream would lose the small updates of deep layers.
        hidden_states = hidden_states.to(torch.promote_types(hidden_states.dtype, torch.float32))
        with nullcontext() if ops is None or torch.compiler.is_compiling() else ops.shared_buffers():
            hidden_states = self.run_layers(hidden_states, clip_shapes)
        return PatchEncoderOutput(last_hidden_state=self.layernorm(hidden_states))


class SsambaForAudioClassification(PatchEncoderForAudioClassification, SsambaPreTrainedModel):
    """
    SSAMBA with the classification head of `config.classifier_type`, by default linear on the pooled output.

    Args:
        config (`SsambaConfig`): The configuration; `num_labels`, `problem_type` and the fields of [`HeadConfig`] shape
            the head.
    """

    encoder_class = SsambaModel


class SsambaForAudioFrameClassification(PatchEncoderForAudioFrameClassification, SsambaPreTrainedModel):
    """
    SSAMBA with a classification head on each time step, by default linear on the mean patch token.

    Args:
        config (`SsambaConfig`): The configuration; `num_labels`, `problem_type`, `frames_per_label` and the other
            fields of [`HeadConfig`] shape the head.
    """

    encoder_class = SsambaModel


class SsambaForPreTraining(PatchEncoderForPreTraining, SsambaPreTrainedModel):
    """
    SSAMBA with the heads of masked spectrogram patch modelling.

    Args:
        config (`SsambaConfig`): The configuration; `num_masked_patches`, `mask_cluster_sizes` and
            `generative_loss_weight` shape the objective.
    """

    encoder_class = SsambaModel


__all__ = [
    "SsambaForAudioClassification",
    "SsambaForAudioFrameClassification",
    "SsambaForPreTraining",
    "SsambaModel",
    "SsambaPreTrainedModel",
]
