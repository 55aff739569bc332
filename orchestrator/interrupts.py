"""Ctrl-C: the first time it asks the run to come to a stop, the second time it stops it.

Ray blocks SIGINT in its own processes, so that a terminal's Ctrl-C, which goes to every process of
the group, reaches the driver alone.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any


class Interrupts:
    """Counts SIGINTs while it is entered; outside the main thread, where none come, it is idle."""

    def __init__(self, on_first: Callable[[], None]) -> None:
        """Prepare to listen.

        Args:
            on_first: called at the first SIGINT, in a thread of its own: what the main thread was
                doing then may hold any lock.
        """
        self._on_first = on_first
        self._asked_at: float | None = None
        self._previous: Any = None

    @property
    def is_asked(self) -> bool:
        """Whether the run is to come to a stop."""
        return self._asked_at is not None

    @property
    def seconds(self) -> float:
        """How long ago that was asked for; 0 if it was not."""
        return 0.0 if self._asked_at is None else time.monotonic() - self._asked_at

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._handle)
        return self

    @contextmanager
    def ignored(self) -> Iterator[None]:
        """Let no SIGINT in once one was heeded: what is left, clearing up, takes a moment."""
        if not self.is_asked or threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _handle(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            threading.Thread(target=self._on_first, daemon=True).start()
            return
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is left is clearing up
        raise KeyboardInterrupt
