# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""`python -m hf_audio_ssm`: the command line."""

import sys

from .cli import main


if __name__ == "__main__":
    sys.exit(main())
