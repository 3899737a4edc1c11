# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The table of classification heads. To add a head: its file, and one import and one entry here."""

from .attentive_head import AttentiveHead
from .cgp_head import CgpHead
from .head import ClassificationHead
from .layer_weighted_head import LayerWeightedHead
from .linear_head import LinearHead
from .protobin_head import ProtobinHead
from .prototypical_head import PrototypicalHead
from .statistics_head import StatisticsHead


# By `config.classifier_type`.
CLASSIFICATION_HEADS: dict[str, type[ClassificationHead]] = {
    "linear": LinearHead,
    "layer_weighted": LayerWeightedHead,
    "attentive": AttentiveHead,
    "prototypical": PrototypicalHead,
    "statistics": StatisticsHead,
    "protobin": ProtobinHead,
    "cgp": CgpHead,
}
CLASSIFIER_TYPES = CLASSIFICATION_HEADS.keys()
