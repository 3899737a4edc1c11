# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""From files and streams of audio to samples, and the one clock of seconds, frames and samples."""
