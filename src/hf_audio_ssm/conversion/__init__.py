# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""From original checkpoints to folders that transformers loads: one module per model, and what they share."""
