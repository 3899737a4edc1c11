# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Errors, messages, whole files and the version: what every room uses. Imports nothing of the package."""
