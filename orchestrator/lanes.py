"""Cells that are ready to run, by the machines that they wait for. Pure.

Cells of one lane wait for one another; those of another lane do not: a queue of cells for GPUs that
are all taken keeps nothing from the CPUs beside them.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator


class Lanes:
    """What is ready, in order of its priority in each lane, and how much of each is in flight."""

    def __init__(self, capacity: Callable[[str], int]) -> None:
        """Prepare empty lanes.

        Args:
            capacity: how many cells of a lane are worth having in flight at once.
        """
        self._capacity = capacity
        self._ready: dict[str, list[tuple[float, str]]] = {}
        self._in_flight: Counter[str] = Counter()

    def __bool__(self) -> bool:
        """Whether anything is ready."""
        return any(self._ready.values())

    def add(self, lane: str, cell_id: str, priority: float) -> None:
        """Take a cell that is ready; of a lane the one with the highest priority goes first."""
        heapq.heappush(self._ready.setdefault(lane, []), (-priority, cell_id))

    def take(self, may_start: Callable[[], bool]) -> Iterator[str]:
        """Take out and yield, lane by lane, the cells that there is room for.

        Args:
            may_start: is asked before each whether any cell may start.
        """
        for lane, ready in self._ready.items():
            while ready and self._in_flight[lane] < self._capacity(lane) and may_start():
                self._in_flight[lane] += 1
                yield heapq.heappop(ready)[1]

    def ended(self, lane: str) -> None:
        """Take note that a cell of a lane is in flight no more."""
        self._in_flight[lane] -= 1
