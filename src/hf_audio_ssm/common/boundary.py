# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
What commands and scripts do about errors: of known kinds, those of libraries included, users read one line; anything else is a bug
and keeps its traceback.
"""

import os
import re
import select
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from .console import one_line_warnings
from .errors import InputError
from .printable import one_line, printable


INTERRUPTED = 130
# Kinds of errors, by package and class, with what their messages leave out. Subclasses are of the same kind. They are known by
# name, as their packages may never have been imported.
KINDS = {
    "builtins.OSError": "",
    "builtins.EOFError": "a file ends too early",
    "builtins.UnicodeError": "text cannot be read or written",
    "json.JSONDecodeError": "not valid JSON",
    "yaml.YAMLError": "not valid YAML",
    "csv.Error": "not a valid CSV table",
    "pyarrow.ArrowException": "data cannot be read or written by pyarrow",
    "datasets.DatasetsError": "the data set cannot be read",
    "safetensors.SafetensorError": "not a valid safetensors file",
    "pickle.PickleError": "the file cannot be unpickled safely",
    "zipfile.BadZipFile": "not a valid zip file",
    "zlib.error": "damaged compressed data",
    "lzma.LZMAError": "damaged compressed data",
    "tarfile.TarError": "not a valid tar file",
    "soundfile.SoundFileError": "not readable as audio",
    "subprocess.SubprocessError": "",
    "huggingface_hub.HFValidationError": "",
    "huggingface_hub.StrictDataclassError": "a configuration cannot be used",
    "huggingface_hub.EntryNotFoundError": "",
    "httpx.HTTPError": "the network request failed",
    "httpx2.HTTPError": "the network request failed",
    "httpx.InvalidURL": "not a valid URL",
    "httpx2.InvalidURL": "not a valid URL",
    "urllib3.HTTPError": "the network request failed",
    "aiohttp.ClientError": "the network request failed",
    "builtins.MemoryError": "not enough memory; try fewer or shorter clips at a time",
    "torch.OutOfMemoryError": "not enough memory; try fewer or shorter clips at a time",
}
# Errors that say only that another one, their cause, happened.
WRAPPERS = ("datasets.DatasetGenerationError",)
# Messages of RuntimeErrors of torch that are of the kind of a MemoryError.
_NO_MEMORY = re.compile("can't allocate memory|not enough memory|out of memory|ALLOC_FAILED")
# A data loader raises the errors of its workers again, with their traceback as the message.
_IN_WORKER = re.compile(r"Caught \w+ in (DataLoader worker process|pin memory thread)")
# Values that are nested too deeply, where these modules read them.
_PARSERS = {"ast", "copy", "csv", "json", "pickle", "re", "tomllib", "xml", "yaml"}


def _names(error: BaseException) -> Iterator[str]:
    for kind in type(error).__mro__:
        yield f"{kind.__module__.partition('.')[0].lstrip('_')}.{kind.__qualname__.rpartition('.')[2]}"


def _message(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        names = [
            printable(os.fsdecode(name))
            for name in (error.filename, error.filename2)
            if isinstance(name, (str, bytes))
        ]
        return f"{' -> '.join(names)}: {error.strerror}" if names else error.strerror
    text = str(error.args[0]) if error.args and _IN_WORKER.match(str(error.args[0])) else str(error)
    if _IN_WORKER.match(text):
        # Behind the class, on the last line of the traceback.
        text = text.rstrip().splitlines()[-1].partition(": ")[2]
    return text


def explain_error(error: BaseException) -> str | None:
    """
    Explains an error that users can do something about.

    Args:
        error (`BaseException`): The error.

    Returns:
        `str`: One printable line; None for an error of no known kind, a bug.
    """
    names = list(_names(error))
    if isinstance(error, InputError):
        return one_line(_message(error))
    if any(name in WRAPPERS for name in names) and error.__cause__ is not None:
        return explain_error(error.__cause__)
    if isinstance(error, ImportError):
        is_ours = (error.name or "").partition(".")[0] == __name__.partition(".")[0]
        return None if is_ours else one_line(f"a library is missing: {error}")
    if isinstance(error, RecursionError):
        frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
        is_parser = bool(frames) and frames[-1].partition(".")[0].lstrip("_") in _PARSERS
        return "values in a file are nested too deeply" if is_parser else None
    if isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)):
        names.append("builtins.MemoryError")
    for name in names:
        if name in KINDS:
            parts = [part for part in (KINDS[name], _message(error)) if part]
            return one_line(": ".join(parts or [type(error).__name__]))
    return None


def _output_is_closed() -> bool:
    """Whether the reader of the standard output has gone. If so, nothing more is written to it."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLOUT)
        is_closed = any(event & select.POLLERR for _, event in poll.poll(0))
    # Windows has no poll, and tests replace the standard output.
    except (AttributeError, OSError, ValueError):
        return False
    if is_closed:
        # When the process ends, Python writes what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return is_closed


@contextmanager
def one_line_errors() -> Iterator[None]:
    """
    Ends the process where an error of a known kind arises: with one line on the standard error and exit code 1, or with 130
    for an interruption. Warnings are shown in one line, too. If the reader of the standard output has gone, as `head` does, it ends with 0, as it did what was asked.

    Raises:
        `SystemExit`: For errors of known kinds.
    """
    try:
        with one_line_warnings():
            yield
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _output_is_closed():
            sys.exit(0)
        explanation = explain_error(error)
        if explanation is None:
            raise
        sys.exit(f"error: {explanation}")
