"""How fast cells go, and how long what is left will take, from cells that have ended. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from orchestrator.plan import Node

WINDOW_S = 300.0
"""Images per second are those of the cells that ended in this time, in seconds."""


class Pace:
    """Measures the cells of a plan as they end."""

    def __init__(self, nodes: Iterable[Node], now: float) -> None:
        """Start the clock.

        Args:
            nodes: the cells that are to run.
            now: in seconds, as of a clock that never goes back.
        """
        self._started = now
        self._left: dict[str, float] = {}
        """Cost of what has not ended, by model."""
        for node in nodes:
            self._left[_model(node)] = self._left.get(_model(node), 0.0) + node.cost
        self._measured: dict[str, tuple[float, float]] = {}
        """Seconds and cost of what was done, by model."""
        self._recent: deque[tuple[float, int]] = deque()

    def done(self, node: Node, seconds: float, now: float) -> None:
        """Take note of a cell that is done, and how many seconds it took."""
        self.ended(node)
        before_s, before = self._measured.get(_model(node), (0.0, 0.0))
        self._measured[_model(node)] = (before_s + seconds, before + node.cost)
        self._recent.append((now, node.training_images + node.evaluation_images))

    def ended(self, node: Node) -> None:
        """Take note of a cell that will not run any more."""
        self._left[_model(node)] -= node.cost

    def images_per_second(self, now: float) -> float | None:
        """Return the images that cells have gone through lately, all together; None before any."""
        since = max(self._started, now - WINDOW_S)
        while self._recent and self._recent[0][0] < since:
            self._recent.popleft()
        if not self._recent or now <= since:
            return None
        return sum(images for _, images in self._recent) / (now - since)

    def seconds_left(self, now: float) -> float | None:
        """Return how long what is left will take; None before any cell is done.

        Cells of a model are taken to cost as many seconds for their work as those of it that are
        done, or as all that are done where none of it is, and to run as many at a time as so far.
        """
        seconds = sum(one for one, _ in self._measured.values())
        cost = sum(one for _, one in self._measured.values())
        at_a_time = seconds / (now - self._started) if now > self._started else 0.0
        if not at_a_time:
            return None
        to_come = 0.0
        for model, left in self._left.items():
            of_model, at_cost = self._measured.get(model, (seconds, cost))
            to_come += left * of_model / at_cost
        return max(0.0, to_come / at_a_time)


def clock(seconds: float | None) -> str:
    """Write seconds as hours, minutes and seconds."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def _model(node: Node) -> str:
    return node.cell.model.name
