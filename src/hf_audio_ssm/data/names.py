# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Names of data sets on the Hub, and how they differ from paths."""

import os
import re

from ..common.hub_access import is_hub_name


def data_on_hub(source: str) -> tuple[str, str | None, str | None] | None:
    """
    Splits the name of a data set on the Hub into its parts.

    Args:
        source (`str`): `name`, `name:configuration`, `name@split` or `name:configuration@split`.

    Returns:
        Name, configuration and split, or None for a local folder or file.
    """
    parts = re.fullmatch(r"([^:@]+)(?::([^@/\\:]+))?(?:@([^/\\]+))?", source)
    if parts is None or os.path.exists(source) or source.endswith(".parquet"):
        return None
    name, configuration, split = parts.groups()
    return (name, configuration, split) if is_hub_name(name, needs_owner=False) else None
