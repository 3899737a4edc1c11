# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What names a data set on the Hub, and what a folder or a file."""

import re
from pathlib import Path


def data_on_hub(source: str) -> tuple[str, str | None, str | None] | None:
    """
    The parts of the name of a data set on the Hub.

    Args:
        source (`str`): `name`, `name:configuration`, `name@split` or `name:configuration@split`.

    Returns:
        Name, configuration and split, or None for a folder or a file here.
    """
    parts = re.fullmatch(r"([\w.-]+(?:/[\w.-]+)?)(?::([^@]+))?(?:@(.+))?", source)
    if parts is None or Path(source).exists() or source.startswith((".", "/")) or source.endswith(".parquet"):
        return None
    name, configuration, split = parts.groups()
    return name, configuration, split
