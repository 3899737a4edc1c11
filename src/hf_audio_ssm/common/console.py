# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What commands write to the standard error."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def print_error(error: BaseException) -> None:
    """Prints what went wrong in one line; libraries' messages often have several."""
    lines = (line.strip() for line in str(error).splitlines())
    print("error:", " ".join(line for line in lines if line), file=sys.stderr)


def _is_no_retry(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return "thrown while requesting" not in message and not message.startswith("Retrying in ")


@contextmanager
def without_retries() -> Iterator[None]:
    """
    Keeps back the lines that huggingface_hub logs of each attempt at a request: if all fail, its error tells why. That it
    waits because it was told to, and what the Hub warns of, is still shown.
    """
    logger = logging.getLogger("huggingface_hub.utils._http")
    logger.addFilter(_is_no_retry)
    try:
        yield
    finally:
        logger.removeFilter(_is_no_retry)
