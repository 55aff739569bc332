"""What comes of cells whose weights are there while they are still scored.

Cells that start from those weights need not wait for the rows. And where nothing is left to start,
workers that would be idle score some of the splits (`workers.helping`): the last cells of a grid
may take hours on ImageNet-C alone.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from orchestrator.executor import Executor, Job
from orchestrator.looks import Looks
from orchestrator.plan import Plan
from workers.storage import StorageError
from workers.store import Store

LOOK_S = 10.0
"""How far apart two looks at the store are, in seconds, or more."""

CELLS_A_LOOK = 16

AFTER_S = 20.0
"""A cell is helped once it has been scored for so long, in seconds: to begin takes a while."""


@dataclass
class _Running:
    """A cell that runs."""

    job: Job
    since: float | None = None
    """When its weights were seen to be there, which is when it began to be scored, or later."""
    looked_at: float = float("-inf")
    most: int | None = None
    """So many helpers found nothing more to do."""


class Helping:
    """Watches the cells of a plan that run, and says who can be helped."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        look_s: float = LOOK_S,
        after_s: float = AFTER_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare to watch.

        Args:
            plan: whose cells run.
            store: where their weights come to lie.
            look_s: how far apart two looks at it are, in seconds, or more.
            after_s: how long a cell has to have been scored before it is helped, in seconds.
            clock: says what time it is, in seconds.
        """
        self._plan, self._store = plan, store
        self._looks, self._after_s, self._clock = Looks(look_s), after_s, clock
        self._running: dict[str, _Running] = {}
        self._helpers: Counter[str] = Counter()

    def begun(self, job: Job) -> None:
        """Take note that a cell runs."""
        self._running[job.cell.cell_id] = _Running(job)

    def ended(self, job: Job) -> None:
        """Take note that a cell runs no more."""
        self._running.pop(job.cell.cell_id, None)

    @property
    def is_due(self) -> bool:
        """Whether it is time to look again."""
        return bool(self._running) and self._looks.is_due(self._clock())

    def look(self) -> list[str]:
        """Return the running cells whose weights are there, and were not when it last looked."""
        begun = self._clock()
        waited_for = sorted(
            (one for one in self._running.values() if one.since is None),
            key=lambda one: (not self._plan.waiting[one.job.cell.cell_id], one.looked_at),
        )
        found = []
        with suppress(StorageError):  # the driver sees to that
            for one in waited_for[:CELLS_A_LOOK]:
                one.looked_at = begun
                cell_id = one.job.cell.cell_id
                if one.job.cell.is_baseline or self._store.has_checkpoint(cell_id):
                    one.since = begun
                    found.append(cell_id)
        self._looks.took(begun, self._clock())
        return found

    def helpers(self, executor: Executor) -> Iterator[Job]:
        """Yield jobs for workers that would be idle.

        A cell's helpers double from look to look until one finds nothing to do.
        """
        now = self._clock()
        able = [one for one in self._running.values() if self._can_be_helped(one, now)]
        able.sort(key=lambda one: -self._plan.nodes[one.job.cell.cell_id].evaluation_images)
        left: dict[str, int] = {}
        for one in able:
            cell_id, waits_for = one.job.cell.cell_id, executor.lane(one.job.cell)
            if waits_for not in left:
                left[waits_for] = executor.idle(waits_for)
            has = self._helpers[cell_id]
            most = 2 * has + 1 if one.most is None else one.most
            n = max(0, min(most - has, left[waits_for]))
            left[waits_for] -= n
            self._helpers[cell_id] += n
            yield from [replace(one.job, helps=True, along=())] * n

    def _can_be_helped(self, one: _Running, now: float) -> bool:
        is_scored = one.since is not None and now - one.since >= self._after_s
        return is_scored and bool(one.job.evaluate)

    def helped(self, job: Job, rows: int) -> None:
        """Take note that a helper has come back, and how many rows it has scored."""
        cell_id = job.cell.cell_id
        self._helpers[cell_id] = max(0, self._helpers[cell_id] - 1)
        one = self._running.get(cell_id)
        if one is not None and rows == 0:
            one.most = self._helpers[cell_id]
