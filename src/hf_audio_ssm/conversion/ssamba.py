# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Converts a SSAMBA checkpoint of the original code (SiavashShams/ssamba), pretrained or fine-tuned, to a folder that
transformers loads.

Task, sizes, grid and number of labels are read off the tensors. Where an argument contradicts them, where a tensor is
missing, unknown, of another shape or not finite, or where the file is damaged or needs code, nothing is written.

Examples:

    python conversion/convert_ssamba_original_to_hf.py ssamba_tiny_400.pth ssamba-tiny
    python conversion/convert_ssamba_original_to_hf.py org/name/ssamba_base_400.pth ssamba-base --push_to_hub me/ssamba-base
    python conversion/convert_ssamba_original_to_hf.py best_audio_model.pth ssamba-esc50 --dataset esc50 --id2label labels.json
"""

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from ..models import ENCODERS
from ..models.records import OriginalWork
from ..models.ssamba.configuration_ssamba import SsambaConfig
from ..models.ssamba.modeling_ssamba import SsambaForAudioClassification, SsambaForPreTraining
from . import command_line
from .checkpoint_conversion import ConversionError, count_layers, shape_of
from .command_line import add_ssamba_arguments as add_arguments  # noqa: F401 (its name since version 0.1)
from .options import ConversionOptions
from .patch_encoder_conversion import Original, convert_patch_encoder


def describe(config: SsambaConfig) -> dict[str, str]:
    """Rows of the card's table on the encoder."""
    return {
        "Width, layers": f"{config.hidden_size}, {config.num_hidden_layers} "
        + ("(in pairs, the second of each in reversed time)" if config.paired_layers else "(one after the other)"),
        "State size, convolution, expansion": f"{config.state_size}, {config.conv_kernel}, {config.expand}",
    }


ORIGINAL = Original(
    work=cast(OriginalWork, ENCODERS["ssamba"].original_work),
    config_class=SsambaConfig,
    pretraining_class=SsambaForPreTraining,
    classification_class=SsambaForAudioClassification,
    renames=(
        (r"^layernorm\.", "v.norm_f."),
        (r"^layers\.", "v.layers."),
        (r"\.forward_ssm\.", "."),
        (r"\.backward_ssm\.A_log$", ".A_b_log"),
        (r"\.backward_ssm\.(D|conv1d|x_proj|dt_proj)", r".\1_b"),
    ),
    # Vision Mamba's head for ImageNet.
    unused=("v.head.weight", "v.head.bias"),
    describe=describe,
    num_published_layers=24,
    published_file=r"ssamba_(?:tiny|small|base)_(250|300|400)\.pth",
    tags=("ssamba", "audio", "mamba", "state-space-model"),
)


def infer_sizes(state_dict: Mapping[str, torch.Tensor], unpaired: bool = False) -> dict[str, Any]:
    """
    The fields of the configuration that the encoder's tensors tell, the grid of patches apart.

    Args:
        state_dict (`Mapping[str, torch.Tensor]`): The checkpoint, by original names.
        unpaired (`bool`, *optional*, defaults to `False`): Whether the layers follow each other.

    Raises:
        [`ConversionError`]: If a tensor that is needed is missing, or has a shape that no SSAMBA gives it, or the number
            of layers is odd without `unpaired`.
    """
    hidden_size = shape_of(state_dict, "v.cls_token", 3)[2]
    num_hidden_layers = count_layers(state_dict, "v.layers")
    if not unpaired and num_hidden_layers % 2:
        raise ConversionError(
            f"the checkpoint has {num_hidden_layers} layers, which do not make pairs; --unpaired converts a model whose "
            "layers follow each other."
        )
    mixer = "v.layers.0.mixer"
    intermediate_size, state_size = shape_of(state_dict, f"{mixer}.A_log", 2)
    if intermediate_size % hidden_size:
        raise ConversionError(
            f"{mixer}.A_log has {intermediate_size} channels, which is not a multiple of the width of v.cls_token, {hidden_size}."
        )
    return {
        "hidden_size": hidden_size,
        "num_hidden_layers": num_hidden_layers,
        "state_size": state_size,
        "conv_kernel": shape_of(state_dict, f"{mixer}.conv1d.weight", 3)[2],
        "expand": intermediate_size // hidden_size,
        "time_step_rank": shape_of(state_dict, f"{mixer}.dt_proj.weight", 2)[1],
        "use_conv_bias": f"{mixer}.conv1d.bias" in state_dict,
        "use_bias": f"{mixer}.in_proj.bias" in state_dict,
        "paired_layers": not unpaired,
    }


def convert(checkpoint: str | Path, output_dir: str | Path, unpaired: bool = False, **arguments: Any) -> Path:
    """Converts an original SSAMBA checkpoint: see [`convert_patch_encoder`]; `arguments` are [`ConversionOptions`]."""
    sizes = partial(infer_sizes, unpaired=unpaired)
    return convert_patch_encoder(ORIGINAL, sizes, checkpoint, output_dir, ConversionOptions(**arguments))


def make_parser() -> argparse.ArgumentParser:
    """The command line; its destinations are the arguments of [`convert`]."""
    return command_line.make_parser("ssamba")
