"""Ctrl-C or SIGTERM: the first time it asks the run to come to a stop, the second time it stops it.

Ray blocks SIGINT in its own processes, so that a terminal's Ctrl-C, which goes to every process of
the group, reaches the driver alone. SIGTERM is what Slurm, Kubernetes and clouds send before they
take a machine away.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Counts SIGNALS while it is entered; outside the main thread, where none come, it is idle."""

    def __init__(self, on_first: Callable[[], None]) -> None:
        """Prepare to listen.

        Args:
            on_first: called at the first signal, in a thread of its own: what the main thread was
                doing then may hold any lock.
        """
        self._on_first = on_first
        self._asked_at: float | None = None
        self._is_urgent = False
        self._previous: dict[signal.Signals, Any] = {}

    @property
    def is_asked(self) -> bool:
        """Whether the run is to come to a stop."""
        return self._asked_at is not None

    @property
    def seconds(self) -> float:
        """How long ago that was asked for; 0 if it was not."""
        return 0.0 if self._asked_at is None else time.monotonic() - self._asked_at

    def check(self) -> None:
        """Stop what the second signal should have stopped already.

        Python drops what is raised while it collects garbage or calls back for C code.

        Raises:
            KeyboardInterrupt: when there have been two signals.
        """
        if self._is_urgent:
            raise KeyboardInterrupt

    def __enter__(self) -> Interrupts:
        self._previous = _set_all(self._handle)
        return self

    @contextmanager
    def ignored(self) -> Iterator[None]:
        """Let no signal in once one was heeded: what is left, clearing up, takes a moment."""
        previous = _set_all(signal.SIG_IGN) if self.is_asked else {}
        try:
            yield
        finally:
            _restore(previous)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _restore(self._previous)

    def _handle(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            threading.Thread(target=self._on_first, daemon=True).start()
            return
        self._is_urgent = True
        _set_all(signal.SIG_IGN)  # what is left is clearing up
        raise KeyboardInterrupt


def _set_all(handler: Any) -> dict[signal.Signals, Any]:
    """Have all SIGNALS handled so, where they come; return how they were before."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {one: signal.signal(one, handler) for one in SIGNALS}


def _restore(previous: dict[signal.Signals, Any]) -> None:
    for one, handler in previous.items():
        signal.signal(one, handler)
