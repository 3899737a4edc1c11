# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Names of data sets on the Hub, and how they differ from paths."""

import re
from pathlib import Path


def data_on_hub(source: str) -> tuple[str, str | None, str | None] | None:
    """
    Splits the name of a data set on the Hub into its parts.

    Args:
        source (`str`): `name`, `name:configuration`, `name@split` or `name:configuration@split`.

    Returns:
        Name, configuration and split, or None for a local folder or file.
    """
    parts = re.fullmatch(r"([\w.-]+(?:/[\w.-]+)?)(?::([^@]+))?(?:@(.+))?", source)
    if parts is None or Path(source).exists() or source.startswith((".", "/")) or source.endswith(".parquet"):
        return None
    name, configuration, split = parts.groups()
    return name, configuration, split
