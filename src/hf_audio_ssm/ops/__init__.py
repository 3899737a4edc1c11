# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Fast selective scans: one rule chooses the backend by device and dtype, `available_backends` tells which ones work,
`explain_backends` which one is used and why not another."""

from .backends import available_backends, explain_backends
from .memory import map_rows
from .mixer import bidirectional_mixer, shared_buffers
from .mixing import bidirectional_mixing
from .scan import selective_scan


__all__ = [
    "available_backends",
    "bidirectional_mixer",
    "bidirectional_mixing",
    "explain_backends",
    "map_rows",
    "selective_scan",
    "shared_buffers",
]
