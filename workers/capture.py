"""Keeping what is printed: descriptors 1 and 2 go to a file, and from there on to where they went.

At the level of file descriptors the words of C libraries count, and those of `faulthandler` when a
process dies. The file comes first and is copied from, rather than a pipe that somebody reads: what
was printed is then on the disk when a process is killed.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

HEAD, TAIL = 1 << 18, 3 << 18
"""Bytes that are kept of what is printed, from its beginning and from its end."""

COPY_S = 0.1
"""How soon what was printed shows where it went before, in seconds."""

_STEP = 1 << 20
"""Bytes of the middle that are given back to the disk at a time."""

_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # of fallocate(2)
_LIBC = ctypes.CDLL(None)


@contextmanager
def captured(file: int) -> Iterator[Copier]:
    """Send what is printed to a file, and a copy of it to where standard error went.

    Args:
        file: descriptor, opened for reading and appending.

    Raises:
        OSError: when this process has no standard output or error.
    """
    if not faulthandler.is_enabled():
        with suppress(AttributeError, ValueError, OSError):  # a standard error that is no file
            faulthandler.enable()
    _flush()
    before = os.dup(1), os.dup(2)
    copier = Copier(file, before[1])
    try:
        os.dup2(file, 1)
        os.dup2(file, 2)
        with _copying(copier):
            yield copier
    finally:
        _flush()
        for descriptor, place in zip(before, (1, 2), strict=True):
            os.dup2(descriptor, place)
        copier.finish()
        for descriptor in before:
            os.close(descriptor)


def _flush() -> None:
    """Write out what Python and C hold back, so that it goes where it was meant to."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):
            stream.flush()
    _LIBC.fflush(None)


class Copier:
    """Copies what is appended to a file, and keeps the file from growing without end."""

    def __init__(self, file: int, to: int) -> None:
        self._file, self._to = file, to
        self._position = self._free_from = 0
        self._lock = threading.Lock()
        self._is_finished = False

    def copy(self) -> None:
        """Copy what was appended since the last time."""
        with self._lock, suppress(OSError):
            if not self._is_finished:
                self._catch_up()

    def finish(self) -> None:
        """Copy what is left, and touch the descriptors no more."""
        self.copy()
        with self._lock:
            self._is_finished = True

    def note(self, text: str) -> None:
        """Append to the file what is not to be copied."""
        with self._lock:
            self._catch_up()
            os.write(self._file, text.encode(errors="backslashreplace"))
            self._position = os.fstat(self._file).st_size

    def _catch_up(self) -> None:
        while data := os.pread(self._file, 1 << 16, self._position):
            self._position += len(data)
            with suppress(OSError):  # a terminal that is gone
                while data:
                    data = data[os.write(self._to, data) :]
            self._forget_middle()

    def _forget_middle(self) -> None:
        """Give the disk back what nobody will read: a hole takes none of it."""
        start, end = max(HEAD, self._free_from), self._position - TAIL
        if end - start > _STEP:
            punch_hole(self._file, start, end - start)
            self._free_from = end


@contextmanager
def _copying(copier: Copier) -> Iterator[None]:
    """Have a copier copy every COPY_S seconds, in a thread that all of a process's share."""
    _copiers.append(copier)
    if not any(thread.name == _THREAD for thread in threading.enumerate()):
        threading.Thread(target=_copy_for_ever, name=_THREAD, daemon=True).start()
    try:
        yield
    finally:
        _copiers.remove(copier)


def _copy_for_ever() -> None:
    while True:
        time.sleep(COPY_S)
        for copier in list(_copiers):
            copier.copy()


_copiers: list[Copier] = []
_THREAD = "copier of what is printed"


def punch_hole(file: int, start: int, length: int) -> None:
    """Give a part of a file back to the disk, where system and file system can; it reads as zeros.

    See fallocate(2).
    """
    fallocate = getattr(_LIBC, "fallocate", None)
    if fallocate is not None:
        offsets = ctypes.c_int64(start), ctypes.c_int64(length)
        fallocate(file, _KEEP_SIZE | _PUNCH_HOLE, *offsets)


def ends_of(file: int) -> bytes:
    """Return a file whole, or its first HEAD and last TAIL bytes if it is longer."""
    size = os.fstat(file).st_size
    if size <= HEAD + TAIL:
        return os.pread(file, size, 0)
    left_out = f"\n[... {size - HEAD - TAIL:,} bytes are left out here ...]\n".encode()
    return os.pread(file, HEAD, 0) + left_out + os.pread(file, TAIL, size - TAIL)
