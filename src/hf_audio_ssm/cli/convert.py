# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Turns a checkpoint of the original SSAMBA or SSAST, pretrained or fine-tuned, into a folder that transformers loads; which of
the two it is, its task, sizes, grid and labels are read off the tensors.

examples:
  hf-audio-ssm convert ssamba_tiny_400.pth ssamba-tiny
  hf-audio-ssm convert org/name/SSAST-Base-Patch-400.pth ssast-base --push_to_hub me/ssast-base
  hf-audio-ssm convert best_audio_model.pth ssamba-esc50 --dataset esc50 --id2label labels.json
"""

from pathlib import Path
from typing import Any

from ..conversion import ssamba, ssast
from ..conversion.checkpoint_conversion import (
    ConversionError,
    find_checkpoint,
    listed,
    read_state_dict,
    report_conversion,
)


# How the names of the encoder's layers begin, and who converts them with which arguments of their own.
ORIGINALS = {"v.layers.": (ssamba, "unpaired"), "v.blocks.": (ssast, "num_attention_heads")}


def convert_any(
    checkpoint: str, output_dir: str, filename: str | None, revision: str | None, **arguments: Any
) -> Path:
    """
    Converts with the converter that the tensors' names belong to; see those for the arguments.

    Raises:
        [`ConversionError`]: If they belong to none, or an argument to another one.
    """
    names = read_state_dict(find_checkpoint(checkpoint, filename, revision).path)
    known = [entry for prefix, entry in ORIGINALS.items() if any(name.startswith(prefix) for name in names)]
    if len(known) != 1:
        raise ConversionError(
            f"{checkpoint} is neither SSAMBA's nor SSAST's: it has no layers {' or '.join(ORIGINALS)}; it holds {listed(names)}."
        )
    ((converter, own),) = known
    for _, argument in ORIGINALS.values():
        if argument != own and arguments.pop(argument):
            raise ConversionError(
                f"--{argument} does not apply to {checkpoint}, which is a checkpoint of another model."
            )
    return converter.convert(checkpoint, output_dir, filename=filename, revision=revision, **arguments)


def run(**arguments: Any) -> int:
    """Runs the command; returns its exit code."""
    return report_conversion(convert_any, arguments)
