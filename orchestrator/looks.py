"""How often to look at what costs something to look at. Pure."""

from __future__ import annotations

WORK_PER_LOOK = 20
"""Looks are at least so many times as far apart as the last one took: asking an object store may
take a second."""


class Looks:
    """Says when it is time to look again. Times are in seconds, of a clock that never goes back."""

    def __init__(self, every_s: float) -> None:
        """Prepare; the first look is due at once.

        Args:
            every_s: how far apart two looks are, or more.
        """
        self._every_s = every_s
        self._next = 0.0

    def is_due(self, now: float) -> bool:
        return now >= self._next

    def took(self, begun: float, ended: float) -> None:
        """Take note of a look."""
        self._next = begun + max(self._every_s, WORK_PER_LOOK * (ended - begun))
