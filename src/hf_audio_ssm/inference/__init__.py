# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What trained models are used for: embeddings, labels of clips and along time, pictures."""
