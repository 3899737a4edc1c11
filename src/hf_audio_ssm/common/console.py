# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Messages of the commands on the standard error."""

import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from .printable import one_line


def print_error(error: BaseException) -> None:
    """Prints an error in one line."""
    print("error:", one_line(error), file=sys.stderr)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"warning: {one_line(message)}", file=sys.stderr)


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Prints warnings in one printable line, without their place in the code."""
    show = warnings.showwarning
    warnings.showwarning = _show_warning
    try:
        yield
    finally:
        warnings.showwarning = show


def _is_no_retry(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return "thrown while requesting" not in message and not message.startswith("Retrying in ")


@contextmanager
def filtered_log(name: str, is_shown: Callable[[logging.LogRecord], bool]) -> Iterator[None]:
    """Hides the messages of the logger `name` that are not to be shown."""
    logger = logging.getLogger(name)
    logger.addFilter(is_shown)
    try:
        yield
    finally:
        logger.removeFilter(is_shown)


def without_retries() -> AbstractContextManager[None]:
    """
    Hides the lines that huggingface_hub logs for each attempt at a request. If all attempts fail, its error tells why. Its
    other messages are shown: that it waits because the Hub asked for it, and warnings of the Hub.
    """
    return filtered_log("huggingface_hub.utils._http", _is_no_retry)
