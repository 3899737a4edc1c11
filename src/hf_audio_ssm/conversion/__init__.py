# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Conversion of original checkpoints to folders that transformers loads: one module for each model, and what they share."""
