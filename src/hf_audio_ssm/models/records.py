# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What the package knows of an encoder beside its code: one record an encoder, see `ENCODERS`."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class OriginalWork:
    """
    A model's publication.

    Args:
        name (`str`): The model's name.
        meaning (`str`): What it stands for.
        paper (`str`): The paper's address.
        repository (`str`): Where its code is on GitHub.
        license (`str`): The licence of code and weights there, by the Hub's name.
        citation (`str`): BibTeX entry.
    """

    name: str
    meaning: str
    paper: str
    repository: str
    license: str
    citation: str


@dataclass(frozen=True)
class EncoderRecord:
    """
    An encoder of the package.

    Args:
        auto_classes (mapping): For each Auto class of transformers the class that it gives, as `folder.module.Class`.
        lora_target_modules (`tuple[str, ...]`, *optional*):
            The linear modules that adapters such as LoRA change. A name stands for all modules of that name.
        ia3_feedforward_modules (`tuple[str, ...]`, *optional*):
            Those of `lora_target_modules` whose input, not output, IA3 scales.
        no_weight_decay (`tuple[str, ...]`, *optional*):
            Names of parameters excluded from weight decay, beside vectors, which never decay.
        original_work ([`OriginalWork`], *optional*): Whose work the encoder is.
    """

    auto_classes: Mapping[str, str]
    lora_target_modules: tuple[str, ...] = ()
    ia3_feedforward_modules: tuple[str, ...] = ()
    no_weight_decay: tuple[str, ...] = ("cls_token", "position_embeddings")
    original_work: OriginalWork | None = None
