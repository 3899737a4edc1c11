# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Silence for decoders written in C, which print what they think of a file: mpg123 to the standard error, libsndfile to both."""

import ctypes
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _COutput:
    """
    The variables `stdout` and `stderr` of the C library, pointed to the null device while decoders run. The file descriptors
    stay, so that what Python and other threads print there is printed. Elsewhere than in glibc, the variables may be read-only:
    they stay.
    """

    def __init__(self) -> None:
        self.lock, self.users = threading.Lock(), 0
        self.streams: list[ctypes.c_void_p] = []
        self.own: list[int | None] = []
        self.null = None
        if platform.libc_ver()[0] == "glibc":
            library = ctypes.CDLL(None)
            library.fopen.restype = ctypes.c_void_p
            self.null = library.fopen(os.devnull.encode(), b"w")
            if self.null:
                self.streams = [ctypes.c_void_p.in_dll(library, name) for name in ("stdout", "stderr")]

    def begin_anew(self) -> None:
        """Forgets the threads of the process that this one was forked from."""
        self.lock, self.users = threading.Lock(), 0
        self._restore()

    def hide(self) -> None:
        """Hides what is printed until `show` is called as often."""
        with self.lock:
            self.users += 1
            if self.users == 1:
                self.own = [stream.value for stream in self.streams]
                for stream in self.streams:
                    stream.value = self.null

    def show(self) -> None:
        """Undoes one `hide`."""
        with self.lock:
            self.users -= 1
            if self.users == 0:
                self._restore()

    def _restore(self) -> None:
        for stream, own in zip(self.streams, self.own, strict=False):
            stream.value = own
        self.own = []


_OUTPUT = _COutput()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_OUTPUT.begin_anew)


@contextmanager
def without_decoder_messages() -> Iterator[None]:
    """Hides what libraries in C print."""
    _OUTPUT.hide()
    try:
        yield
    finally:
        _OUTPUT.show()
