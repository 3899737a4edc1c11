# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Converts an original SSAST checkpoint: the command of `hf_audio_ssm.conversion.ssast`, from a clone."""

import sys

from hf_audio_ssm.conversion.command_line import main


if __name__ == "__main__":
    sys.exit(main("ssast"))
