# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What the package exchanges with the Hub: names, loading, adapters, cards, pushing."""
