"""Where cells run: the Executor protocol, and the executor that needs no Ray."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from orchestrator.demands import Demands, fitted
from workers.cell import Cell
from workers.job import Job, Site
from workers.outcome import ErrorKind, Outcome
from workers.run import execute

__all__ = ["ErrorKind", "Executor", "InlineExecutor", "Job", "Outcome", "Work"]

Work = Callable[[Job, Site], Outcome]
"""What runs a job on a worker: `workers.run.execute`, unless a benchmark or test puts another."""


class Executor(Protocol):
    """Runs jobs. Failures come back as Outcomes; no method raises because a job failed.

    Used by one thread. At most one job of a cell is in flight at a time, besides those that help.
    """

    @property
    def has_queue(self) -> bool:
        """Whether a job may wait after it was submitted."""

    @property
    def instruments(self) -> Any:
        """What makes metrics, as `ray.util.metrics` does; None where nothing takes them."""

    def lane(self, cell: Cell) -> str:
        """Return what a cell waits for: cells of one lane wait for the same machines."""

    def capacity(self, lane: str) -> int:
        """Return how many jobs of a lane are worth having in flight at once."""

    def idle(self, lane: str) -> int:
        """Return how many more jobs of a lane could start at once, now; may take a moment."""

    def submit(self, job: Job) -> None:
        """Take a job; returns at once."""

    def wait_any(self, timeout_s: float | None = None) -> tuple[Job, Outcome] | None:
        """Return a job that has ended, as it was submitted, and how; None when none did in time.

        Raises:
            LookupError: when nothing is in flight.
        """

    def cancel(self, job: Job) -> None:
        """Stop a job that is in flight if it can be; it still comes out of `wait_any`."""

    def why_waiting(self, lane: str) -> str:
        """Say why jobs of a lane that were submitted do not run."""

    def close(self) -> None:
        """End what is in flight and free everything."""


class InlineExecutor:
    """Runs each job in this process when its outcome is asked for: for debuggers and tests."""

    has_queue = False
    instruments: Any = None

    def __init__(self, site: Site, work: Work = execute, demands: Demands | None = None) -> None:
        """Prepare to run.

        Args:
            site: where things are.
            work: what is done with each job.
            demands: what cells ask for; None: what the site says.
        """
        self._site, self._work, self._demands = site, work, demands
        self._waiting: deque[Job] = deque()

    def lane(self, cell: Cell) -> str:  # noqa: ARG002  # there is one process for all
        return ""

    def capacity(self, lane: str) -> int:  # noqa: ARG002
        return 1

    def idle(self, lane: str) -> int:  # noqa: ARG002
        return 0

    def submit(self, job: Job) -> None:
        self._waiting.append(job)

    def wait_any(self, timeout_s: float | None = None) -> tuple[Job, Outcome] | None:  # noqa: ARG002
        if not self._waiting:
            raise LookupError("nothing is in flight")
        job = self._waiting.popleft()
        return job, self._work(job, self._site_of(job))

    def _site_of(self, job: Job) -> Site:
        if self._demands is None:
            return self._site
        return fitted(self._site, self._demands.of(job.cell).resources)

    def cancel(self, job: Job) -> None:
        """Nothing runs between two calls of `wait_any`, so there is nothing to stop."""

    def why_waiting(self, lane: str) -> str:  # noqa: ARG002
        return "another runs in this process"

    def close(self) -> None:
        self._waiting.clear()
