# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""One folder per model; each folder's modules also work alone, as remote code."""
