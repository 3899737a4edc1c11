# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The command line, `hf-audio-ssm`: one module per command, with `run`; their arguments are in `arguments`."""

import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from io import TextIOWrapper

from ..common.console import print_error, without_retries
from ..common.errors import InputError
from .arguments import COMMANDS as COMMANDS
from .arguments import make_parser


def _show_warning(message: Warning | str, *_, **__) -> None:
    """Prints a warning in one line, without its place in the code."""
    print(f"warning: {message}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """
    Runs a command.

    Args:
        argv (`Sequence[str]`, *optional*): The arguments; defaults to those of the process.

    Returns:
        `int`: The exit code, see `arguments.EPILOG`.
    """
    arguments = vars(make_parser().parse_args(argv))
    # Commands import torch and more.
    command = importlib.import_module(f".{arguments.pop('command')}", __name__)
    # Commands show their own progress and errors; the progress of downloads stays.
    logging = importlib.import_module("transformers").utils.logging
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    if isinstance(sys.stdout, TextIOWrapper):
        # File names may hold characters that the terminal's encoding lacks, or bytes that are not text.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with warnings.catch_warnings(), without_retries():
            warnings.showwarning = _show_warning
            return command.run(**arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of the output has closed it: nothing may be written to it when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (InputError, OSError) as error:
        print_error(error)
        return 1
