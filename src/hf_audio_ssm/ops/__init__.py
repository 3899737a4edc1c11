# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Fast selective scans: one rule chooses the backend by device and dtype, `available_backends` tells which ones work,
`explain_backends` which one is used and why not another."""

from .backends import available_backends, explain_backends
from .layers import bidirectional_layer, bidirectional_layers
from .memory import map_rows, shared_buffers
from .mixer import bidirectional_mixer, bidirectional_mixer_pair
from .mixing import bidirectional_mixing, bidirectional_mixing_pair
from .pairs import pairs_pay
from .scan import selective_scan


__all__ = [
    "available_backends",
    "bidirectional_layer",
    "bidirectional_layers",
    "bidirectional_mixer",
    "bidirectional_mixer_pair",
    "bidirectional_mixing",
    "bidirectional_mixing_pair",
    "explain_backends",
    "map_rows",
    "pairs_pay",
    "selective_scan",
    "shared_buffers",
]
