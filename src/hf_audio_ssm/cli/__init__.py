# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The command line, `hf-audio-ssm`: one module per command, each with `add_arguments` and `run`."""

import argparse
import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Any

from ..common.console import print_error, without_retries
from ..common.errors import InputError
from ..common.version import __version__


COMMANDS = {
    "classify": "label audio files with a fine-tuned checkpoint",
    "embed": "write the embeddings of audio files",
    "convert": "convert an original SSAMBA or SSAST checkpoint to transformers",
    "info": "describe a checkpoint, and measure its speed here",
}
EPILOG = """\
examples:
  hf-audio-ssm classify -m outputs/quickstart recording.wav
  hf-audio-ssm embed -m outputs/quickstart recordings/ -o recordings.npz
  hf-audio-ssm convert ssamba_tiny_400.pth ssamba-tiny
  hf-audio-ssm info outputs/quickstart
  hf-audio-ssm classify --help

exit codes:
  0    all went well
  1    nothing was done; the message says why
  2    the command line was not understood
  3    some audio files could not be used, and were skipped
  130  interrupted
"""


def _show_warning(message: Warning | str, *_, **__) -> None:
    """Prints a warning in one line, without its place in the code."""
    print(f"warning: {message}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """
    Runs a command.

    Args:
        argv (`Sequence[str]`, *optional*): The arguments; defaults to those of the process.

    Returns:
        `int`: The exit code, see `EPILOG`.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    formatting: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = argparse.ArgumentParser(
        "hf-audio-ssm", description="Audio state-space models for transformers.", epilog=EPILOG, **formatting
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    modules = {}
    for name, summary in COMMANDS.items():
        # A command's own modules, torch among them, are loaded where it is the one that is asked for.
        if name in argv[:1]:
            modules[name] = importlib.import_module(f".{name}", __name__)
        module = modules.get(name)
        subparser = subparsers.add_parser(
            name, help=summary, description=module.__doc__ if module else None, **formatting
        )
        if module is not None:
            module.add_arguments(subparser)
            # Commands show their own progress and errors; the progress of downloads stays.
            logging = importlib.import_module("transformers").utils.logging
            logging.disable_progress_bar()
            logging.set_verbosity_error()
    arguments = vars(parser.parse_args(argv))
    if isinstance(sys.stdout, TextIOWrapper):
        # File names may hold characters that the terminal's encoding lacks, or bytes that are not text.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with warnings.catch_warnings(), without_retries():
            warnings.showwarning = _show_warning
            return modules[arguments.pop("command")].run(**arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of the output has closed it: nothing may be written to it when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (InputError, OSError) as error:
        print_error(error)
        return 1
