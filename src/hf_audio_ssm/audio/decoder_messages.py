# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Silence for decoders written in C, which print to the standard error what they think of a file."""

import ctypes
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _CStandardError:
    """
    The variable `stderr` of the C library, pointed to the null device while decoders run. The file descriptor stays, so that
    what Python and other threads print there is printed. Elsewhere than in glibc, the variable may be read-only: it stays.
    """

    def __init__(self) -> None:
        self.begin_anew()
        self.variable: Any = None
        self.own = self.null = None
        if platform.libc_ver()[0] == "glibc":
            library = ctypes.CDLL(None)
            library.fopen.restype = ctypes.c_void_p
            self.null = library.fopen(os.devnull.encode(), b"w")
            self.variable = ctypes.c_void_p.in_dll(library, "stderr") if self.null else None

    def begin_anew(self) -> None:
        """Forgets the threads of the process that this one was forked from."""
        self.lock, self.users = threading.Lock(), 0
        if getattr(self, "own", None) is not None:
            self.variable.value = self.own

    def hide(self) -> None:
        """Hides messages until `show` is called as often."""
        with self.lock:
            self.users += 1
            if self.users == 1 and self.variable is not None:
                self.own, self.variable.value = self.variable.value, self.null

    def show(self) -> None:
        """Undoes one `hide`."""
        with self.lock:
            self.users -= 1
            if self.users == 0 and self.variable is not None:
                self.variable.value, self.own = self.own, None


_STANDARD_ERROR = _CStandardError()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_STANDARD_ERROR.begin_anew)


@contextmanager
def without_decoder_messages() -> Iterator[None]:
    """Hides what libraries in C print to the standard error."""
    _STANDARD_ERROR.hide()
    try:
        yield
    finally:
        _STANDARD_ERROR.show()
