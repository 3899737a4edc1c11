# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Lets tests in any folder import what lies beside this file (by being here), and the scripts that they test."""

import sys
from pathlib import Path


for folder in ("conversion", "examples"):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / folder))
