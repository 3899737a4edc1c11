# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Converts a SSAST checkpoint of the original code (YuanGongND/ssast), pretrained or fine-tuned, patches or frames, to a
folder that transformers loads.

Task, sizes, grid and number of labels are read off the tensors. Where an argument contradicts them, where a tensor is
missing, unknown, of another shape or not finite, or where the file is damaged or needs code, nothing is written.

Examples:

    python conversion/convert_ssast_original_to_hf.py SSAST-Base-Patch-400.pth ssast-base
    python conversion/convert_ssast_original_to_hf.py org/name/SSAST-Tiny-Frame-400.pth ssast-frame --push_to_hub me/ssast-frame
    python conversion/convert_ssast_original_to_hf.py best_audio_model.pth ssast-esc50 --dataset esc50 --id2label labels.json
"""

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from ..models import ENCODERS
from ..models.records import OriginalWork
from ..models.ssast.configuration_ssast import SsastConfig
from ..models.ssast.modeling_ssast import SsastForAudioClassification, SsastForPreTraining
from . import command_line
from .checkpoint_conversion import ConversionError, count_layers, shape_of
from .command_line import add_ssast_arguments as add_arguments  # noqa: F401 (its name since version 0.1)
from .options import ConversionOptions
from .patch_encoder_conversion import PUBLISHED_SIZES, Original, convert_patch_encoder


def describe(config: SsastConfig) -> dict[str, str]:
    """Rows of the card's table on the encoder."""
    return {
        "Width, layers": f"{config.hidden_size}, {config.num_hidden_layers}",
        "Attention heads, perceptron": f"{config.num_attention_heads}, {config.intermediate_size}",
    }


ORIGINAL = Original(
    work=cast(OriginalWork, ENCODERS["ssast"].original_work),
    config_class=SsastConfig,
    pretraining_class=SsastForPreTraining,
    classification_class=SsastForAudioClassification,
    renames=(
        (r"^embeddings\.distillation_token$", "v.dist_token"),
        (r"^layernorm\.", "v.norm."),
        (r"^layers\.", "v.blocks."),
        # In this order along the first dimension.
        (r"\.attention\.[qkv]_proj\.", ".attn.qkv."),
        (r"\.attention\.o_proj\.", ".attn.proj."),
        (r"\.layernorm_before\.", ".norm1."),
        (r"\.layernorm_after\.", ".norm2."),
    ),
    # timm's heads for ImageNet.
    unused=("v.head.weight", "v.head.bias", "v.head_dist.weight", "v.head_dist.bias"),
    describe=describe,
    num_published_layers=12,
    published_file=r"SSAST-(?:Tiny|Small|Base)-(?:Patch|Frame)-(250|400)\.pth",
    tags=("ssast", "audio", "transformer"),
)


def infer_sizes(state_dict: Mapping[str, torch.Tensor], num_attention_heads: int | None = None) -> dict[str, Any]:
    """
    The fields of the configuration that the encoder's tensors tell, the grid of patches apart.

    Args:
        state_dict (`Mapping[str, torch.Tensor]`): The checkpoint, by original names.
        num_attention_heads (`int`, *optional*):
            The number of heads, which the tensors do not tell. By default, that of the published models of this width.

    Raises:
        [`ConversionError`]: If a tensor that is needed is missing, or has a shape that no SSAST gives it, or the number of
            heads is missing or does not divide the width.
    """
    hidden_size = shape_of(state_dict, "v.cls_token", 3)[2]
    num_hidden_layers = count_layers(state_dict, "v.blocks")
    if num_attention_heads is None and hidden_size not in PUBLISHED_SIZES:
        raise ConversionError(
            f"--num_attention_heads must be given: the checkpoint is {hidden_size} wide, none of the published widths "
            f"({', '.join(map(str, PUBLISHED_SIZES))}), and its tensors do not tell the heads."
        )
    if num_attention_heads is not None and (num_attention_heads < 1 or hidden_size % num_attention_heads):
        raise ConversionError(
            f"--num_attention_heads must be a divisor of the checkpoint's width, {hidden_size}, got "
            f"{num_attention_heads}."
        )
    return {
        "hidden_size": hidden_size,
        "num_hidden_layers": num_hidden_layers,
        "num_attention_heads": num_attention_heads,
        "intermediate_size": shape_of(state_dict, "v.blocks.0.mlp.fc1.weight", 2)[0],
        "qkv_bias": "v.blocks.0.attn.qkv.bias" in state_dict,
    }


def convert(
    checkpoint: str | Path, output_dir: str | Path, num_attention_heads: int | None = None, **arguments: Any
) -> Path:
    """Converts an original SSAST checkpoint: see [`convert_patch_encoder`]; `arguments` are [`ConversionOptions`]."""
    sizes = partial(infer_sizes, num_attention_heads=num_attention_heads)
    return convert_patch_encoder(ORIGINAL, sizes, checkpoint, output_dir, ConversionOptions(**arguments))


def make_parser() -> argparse.ArgumentParser:
    """The command line; its destinations are the arguments of [`convert`]."""
    return command_line.make_parser("ssast")
