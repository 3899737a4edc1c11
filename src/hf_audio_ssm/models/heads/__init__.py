# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Classification heads, one file each, and the classifiers that carry them."""
