# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The base of the configurations of encoders that carry classifiers."""

from huggingface_hub.dataclasses import strict

from ..patch_encoder.configuration_checks import one_line_errors
from .classification_heads import CLASSIFICATION_HEADS, CLASSIFIER_TYPES
from .configuration_heads import HeadConfig


@one_line_errors
@strict
class ClassifierConfig(HeadConfig):
    """A configuration whose head exists, with values that the heads take; for the fields, see [`HeadConfig`]."""

    def validate_architecture(self) -> None:
        """Cross-field checks, run when the configuration is made or loaded."""
        super().validate_architecture()
        self.check_choice("classifier_type", CLASSIFIER_TYPES)
        for head in CLASSIFICATION_HEADS.values():
            head.check_config(self)
        head_class = CLASSIFICATION_HEADS[self.classifier_type]
        self.check_product(
            f'`num_labels` and `hidden_size`: the head "{self.classifier_type}"', *head_class.largest_parameter(self)
        )


__all__ = ["ClassifierConfig"]
