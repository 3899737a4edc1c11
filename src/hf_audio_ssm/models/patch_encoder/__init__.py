# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What all encoders of spectrogram patches share: configuration, tokens, objective and heads."""
