# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The base of encoders of patches: weight initialisation, input checks, tokens, pooling."""

import math
import operator
from collections import OrderedDict
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_patch_encoder import PatchEncoderConfig
from .initialized_module import InitializedModule
from .packing import Packing, PatchEncoderOutput, pack_tokens
from .patch_tokens import PatchEmbeddings, PatchTokenEmbeddings, check_spectrograms, check_tensors, pool_tokens
from .saved_code import CodeIsSaved


# The names of a classifier's weights.
CLASSIFIER_KEYS = r"^classifier\."


def without_capturing_hooks(module: nn.Module) -> nn.Module:
    """The module without the hooks of transformers that capture outputs: itself if it has none, else a copy that shares its parts."""
    hooks = [
        (key, hook)
        for key, hook in module._forward_hooks.items()
        if getattr(hook, "__module__", None) != capture_outputs.__module__
    ]
    children = {
        name: child if child is None else without_capturing_hooks(child) for name, child in module._modules.items()
    }
    if len(hooks) == len(module._forward_hooks) and all(
        map(operator.is_, children.values(), module._modules.values())
    ):
        return module
    # `copy.copy` would ask for the state again.
    bare = module.__class__.__new__(module.__class__)
    bare.__dict__.update(module.__dict__, _forward_hooks=OrderedDict(hooks), _modules=children)
    return bare


class PatchEncoderPreTrainedModel(CodeIsSaved):
    """The base of an encoder's [`PreTrainedModel`], to be mixed in before transformers' own."""

    main_input_name = "input_values"
    input_modalities = ("audio",)
    _input_embed_layer = "patch_embeddings"

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """Initialises as the originals do: by PyTorch's defaults, except for parameters that a module initialises itself."""
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            bound = 1 / math.sqrt(module.weight[0].numel())
            init.uniform_(module.weight, -bound, bound)
            if isinstance(module, nn.Linear) and module.bias is not None:
                init.zeros_(module.bias)
            elif module.bias is not None:
                init.uniform_(module.bias, -bound, bound)
        else:
            super()._init_weights(module)
        if isinstance(module, InitializedModule):
            module.initialize()


class PatchEncoderModel:
    """
    The bare encoder, to be mixed in before the encoder's [`PreTrainedModel`]. Subclasses make their layers and define
    [`encode`].

    Args:
        config (`PatchEncoderConfig`): The configuration.
        use_mask_token (`bool`, *optional*, defaults to `False`): Whether to have the mask embedding of pretraining.
    """

    embeddings_class = PatchTokenEmbeddings
    # What models with heads save beside the encoder.
    _keys_to_ignore_on_load_unexpected = [
        r"^classifier\.",
        r"^(discriminative_head|generative_head)\.",
        r"(^|\.)embeddings\.mask_token$",
    ]

    def __init__(self, config: PatchEncoderConfig, use_mask_token: bool = False):
        super().__init__(config)
        self.embeddings = self.embeddings_class(config, use_mask_token=use_mask_token)

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled and copied. The hooks that capture hidden states cannot be, and come back when they are needed."""
        state = self.__dict__.copy()
        if state.pop("_output_capturing_hooks_installed", False):
            state["_modules"] = without_capturing_hooks(self)._modules  # type: ignore[arg-type]
        return state

    def get_input_embeddings(self) -> PatchEmbeddings:
        """The module that embeds patches."""
        return self.embeddings.patch_embeddings

    def encode(
        self, hidden_states: torch.Tensor, clip_shapes: tuple[tuple[int, int], ...] | None = None, **kwargs
    ) -> PatchEncoderOutput:
        """
        From embedded tokens to final ones. Implementations are decorated with `capture_outputs`.

        Args:
            hidden_states (`torch.Tensor` of shape `(batch_size, tokens, hidden_size)`): The tokens.
            clip_shapes (`tuple[tuple[int, int], ...]`, *optional*): The groups of packed clips, see [`Packing`].
        """
        raise NotImplementedError

    def encode_packed(self, hidden_states: torch.Tensor, packing: Packing, **kwargs) -> PatchEncoderOutput:
        """From packed embedded tokens to final ones in their batch."""
        return packing.unpack_outputs(self.encode(hidden_states, clip_shapes=packing.clip_shapes, **kwargs))

    @merge_with_config_defaults
    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        bool_masked_pos: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> PatchEncoderOutput:
        r"""
        Args:
            input_values (`torch.Tensor` of shape `(batch_size, frames, num_mel_bins)`):
                Normalised log-mel spectrogram from the feature extractor, of any length from one patch up.
            attention_mask (`torch.Tensor` of shape `(batch_size, frames)`, *optional*):
                Ones, then zeros at the padded frames of shorter clips, as the feature extractor returns it. Each clip is
                then encoded as if it came alone, without its padding (except where it is shorter than one patch). By
                default, as in the original, the encoder reads every frame.
            bool_masked_pos (`torch.BoolTensor` of shape `(batch_size, patches)`, *optional*):
                Patches to replace by the mask embedding, frequency-major.

        Returns:
            [`PatchEncoderOutput`]: `last_hidden_state` of shape `(batch_size, prefix tokens + patches, hidden_size)`,
            prefix tokens ([CLS] and what the encoder adds) first and then the patches of the batch's grid,
            frequency-major, zeros where a clip has none; `pooler_output` of shape `(batch_size, hidden_size)`, the mean
            of the patch tokens or of the prefix tokens, by `config.pooling`; `hidden_states`, if asked for, before the
            first layer and after each layer; `patch_attention_mask` where clips differ in length, or patchout leaves
            patches out.

        Raises:
            `ValueError`, `TypeError`: for an `attention_mask` that is not ones and then zeros, or leaves a clip nothing, and for
            `input_values` that are shorter than one patch.
        """
        if input_values is None:
            raise ValueError(
                "`input_values` must be given: a spectrogram (batch_size, frames, num_mel_bins), got None."
            )
        check_tensors(input_values=input_values, attention_mask=attention_mask, bool_masked_pos=bool_masked_pos)
        check_spectrograms(input_values, self.config)
        hidden_states, packing = pack_tokens(self.embeddings, input_values, attention_mask, bool_masked_pos)
        kwargs["return_dict"] = True
        if packing is None:
            outputs = self.encode(hidden_states, **kwargs)
        else:
            outputs = self.encode_packed(hidden_states, packing, **kwargs)
        outputs.pooler_output = pool_tokens(outputs.last_hidden_state, self.config, outputs.patch_attention_mask)
        return outputs
