# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The command line, `hf-audio-ssm`: one module per command, with `run`; their arguments are in `arguments`."""

import importlib
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Any

from ..common.boundary import one_line_errors
from ..common.console import without_retries
from .arguments import COMMANDS as COMMANDS
from .arguments import make_parser


def main(argv: Sequence[str] | None = None) -> int:
    """
    Runs a command.

    Args:
        argv (`Sequence[str]`, *optional*): The arguments; defaults to those of the process.

    Returns:
        `int`: The exit code, see `arguments.EPILOG`.
    """
    arguments = vars(make_parser().parse_args(argv))
    try:
        with one_line_errors():
            return _run(**arguments)
    except SystemExit as stopped:
        if isinstance(stopped.code, str):
            print(stopped.code, file=sys.stderr)
            return 1
        return int(stopped.code or 0)


def _run(command: str, **arguments: Any) -> int:
    """Runs a command with its own arguments."""
    # Commands import torch and more.
    module = importlib.import_module(f".{command}", __name__)
    # Commands show their own progress and errors; the progress of downloads stays.
    logging = importlib.import_module("transformers").utils.logging
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    if isinstance(sys.stdout, TextIOWrapper):
        # File names may hold characters that the terminal's encoding lacks, or bytes that are not text.
        sys.stdout.reconfigure(errors="backslashreplace")
    with without_retries():
        return module.run(**arguments)
