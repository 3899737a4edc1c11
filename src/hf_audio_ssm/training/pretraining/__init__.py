# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Pretraining runs: arguments, batches from any position on, schedule, evaluation, and what a run writes."""
