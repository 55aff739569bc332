"""The ready-set loop: submit what is ready, take what finishes first, go on past failures.

The driver keeps nothing that matters: what is done is read from the store, so killing it loses at
most the work in flight. A failed cell never stops the others; its descendants are blocked.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from graphlib import TopologicalSorter
from typing import Protocol

from orchestrator import lost_tries
from orchestrator.executor import Executor, Job, Outcome
from orchestrator.helping import Helping
from orchestrator.lanes import Lanes
from orchestrator.packing import packs
from orchestrator.plan import Node, Plan
from orchestrator.retry import LASTING, GiveUp, Retry, cure, decide
from orchestrator.tries import NONE, Tries
from workers.outcome import ErrorKind
from workers.storage import StorageError
from workers.store import Store


@dataclass(frozen=True)
class Event:
    """Something happened to a cell; for progress displays."""

    kind: str
    """`submitted`, `done`, `retry`, `stopped`, `failed` or `blocked`."""
    node: Node
    outcome: Outcome | None = None
    detail: str = ""
    attempt: int = 0
    """Number of the try that was submitted."""


Observer = Callable[[Event], None]


class Steering(Protocol):
    """What steers a driver from outside."""

    @property
    def poll_s(self) -> float | None:
        """How often to look here while cells run, in seconds; None: only when one has ended."""

    def check(self) -> None:
        """Raise what ends the driver at once, before it writes to the store."""

    def look_again(self) -> None:
        """Find out now, at some cost, what `check` is to say."""

    def may_start(self, in_flight: Iterable[Job]) -> bool:
        """Whether there is room for another cell beside these, in a store that takes it."""

    def blames_storage(self, in_flight: Iterable[Job]) -> bool:
        """Whether the storage is to blame for a cell that could not use it, and not the cell."""

    def cell_done(self) -> None:
        """Take note that a cell could use the store: it is done."""

    @property
    def is_draining(self) -> bool:
        """Whether to start no more cells, and end when those that run have ended."""

    @property
    def is_out_of_time(self) -> bool:
        """Whether to end although cells still run."""


class Unsteered:
    """Lets a driver run to its end."""

    poll_s: float | None = None
    is_draining = False
    is_out_of_time = False

    def check(self) -> None: ...

    def look_again(self) -> None: ...

    def may_start(self, in_flight: Iterable[Job]) -> bool:  # noqa: ARG002
        return True

    def blames_storage(self, in_flight: Iterable[Job]) -> bool:  # noqa: ARG002
        return False

    def cell_done(self) -> None: ...


Finish = Callable[[str], str]
"""Is told of each cell that is done; returns what went wrong with what is to follow."""

Decide = Callable[[ErrorKind, Sequence[ErrorKind]], Retry | GiveUp]
"""Says what to do after a failure, from its kind and those before it (`orchestrator.retry`)."""


DIES_WITH_A_NODE = (ErrorKind.WORKER_CRASH, ErrorKind.NODE_LOST)


@dataclass
class Summary:
    """How a run of the driver ended."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, Outcome] = field(default_factory=dict)
    blocked: dict[str, str] = field(default_factory=dict)
    """Cells that could not run, each with the failed ancestor."""

    @property
    def ok(self) -> bool:
        return not self.failed and not self.blocked


class Driver:
    """Drives one plan to its end on one executor."""

    def __init__(
        self,
        plan: Plan,
        executor: Executor,
        store: Store,
        observe: Observer = lambda _: None,
        tries: Mapping[str, Tries] | None = None,
        *,
        steering: Steering | None = None,
        decide: Decide = decide,
    ) -> None:
        """Prepare a run.

        Args:
            plan: what to do.
            executor: where to do it.
            store: where the workers commit.
            observe: is told of everything that happens.
            tries: what came of the cells in earlier runs.
            steering: what may hold the driver or end it.
            decide: says what to do after a failure.
        """
        self.steering = steering or Unsteered()
        self.on_done: Finish = lambda _: ""
        """Is told of each cell that is done, once its rows are sealed."""
        self.look_round: Callable[[], object] = lambda: None
        """Is called after each wait for a cell to end; should cost next to nothing."""
        self.priority: Mapping[str, float] = plan.priority
        """Which of the ready cells goes first: the highest."""
        self.score_together = 1
        """How many models that have to be scored and not trained go through a set in one pass."""
        self.helping = Helping(plan, store)
        """Says which of the running cells have weights by now, and which can be helped."""
        self.plan, self.executor, self.store, self.observe = plan, executor, store, observe
        self.summary = Summary()
        self._decide = decide
        self._tries = dict(tries or {})
        self._history: dict[str, list[ErrorKind]] = {}
        self._ready = Lanes(executor.capacity)
        self._delayed: list[tuple[float, str]] = []
        self._again: dict[str, Job] = {}
        self._in_flight: dict[str, Job] = {}
        self._along: dict[str, list[str]] = {}
        """Cells that are scored along with a cell, and have their own tries when that has ended."""
        self._released: set[str] = set()
        """Cells that nothing waits for although they run: their weights are there."""
        self._sorter: TopologicalSorter[str] = TopologicalSorter(
            {cell_id: plan.waits_for(cell_id) for cell_id in plan.todo}
        )

    def run(self) -> Summary:
        """Run everything that is to do, and return how each cell ended."""
        self._sorter.prepare()
        self._take_ready()
        while self._goes_on:
            self.steering.check()
            if not self.steering.is_draining:
                self._release_and_help()
                self._submit_ready()
            self._take_finished()
            self.look_round()
        return self.summary

    def is_running(self, cell_id: str) -> bool:
        """Whether a cell has been submitted and has not ended."""
        return cell_id in self._in_flight

    @property
    def _goes_on(self) -> bool:
        if self.steering.is_draining:
            return bool(self._in_flight) and not self.steering.is_out_of_time
        return bool(self._ready or self._delayed or self._in_flight)

    def _take_ready(self) -> None:
        ready = self._sorter.get_ready()
        for cell_id, *others in packs(self.plan, ready, self.score_together, self._lane):
            if others:
                self._along[cell_id] = others
            self._add_ready(cell_id)

    def _add_ready(self, cell_id: str) -> None:
        self._ready.add(self._lane(cell_id), cell_id, self.priority[cell_id])

    def _release_and_help(self) -> None:
        """Go on from weights that are there by now, and let idle workers help to score."""
        if not self.helping.is_due:
            return
        for cell_id in self.helping.look():
            if cell_id not in self._released:
                self._released.add(cell_id)
                self._sorter.done(cell_id)
                self._take_ready()
        if not self._ready:
            for job in self.helping.helpers(self.executor):
                self.executor.submit(job)

    def _lane(self, cell_id: str) -> str:
        return self.executor.lane(self.plan.nodes[cell_id].cell)

    def _submit_ready(self) -> None:
        now = time.monotonic()
        while self._delayed and self._delayed[0][0] <= now:
            cell_id = heapq.heappop(self._delayed)[1]
            self._ready.add(self._lane(cell_id), cell_id, math.inf)
        for cell_id in self._ready.take(self._may_start):
            is_again = cell_id in self._again
            self._submit(self._again.pop(cell_id) if is_again else self._first_job(cell_id))

    def _may_start(self) -> bool:
        return self.steering.may_start(self._in_flight.values())

    def _first_job(self, cell_id: str) -> Job:
        """Return a cell's first try of this run."""
        node, tries = self.plan.nodes[cell_id], self._tries.get(cell_id, NONE)
        history = [kind for kind in tries.failures if kind in LASTING]
        if history:
            self._history[cell_id] = history
        job = Job(
            node.cell,
            node.missing,
            tries.number + 1,
            scored=node.scored,
            curve=node.curve,
            recorded=node.recorded,
            along=tuple(self.plan.nodes[other].cell for other in self._along.get(cell_id, ())),
        )
        return cured(job, history)

    def _submit(self, job: Job) -> None:
        self.executor.submit(job)
        self._in_flight[job.cell.cell_id] = job
        self.helping.begun(job)
        self._tell("submitted", job.cell.cell_id, attempt=job.attempt)

    def _take_finished(self) -> None:
        timeout = self._patience()
        if not self._in_flight:
            time.sleep(timeout or 0.0)
            return
        finished = self.executor.wait_any(timeout)
        if finished is not None:
            self.steering.check()
            job, outcome = finished
            if job.helps:
                self.helping.helped(job, outcome.rows)
                return
            del self._in_flight[job.cell.cell_id]
            self.helping.ended(job)
            self._ready.ended(self._lane(job.cell.cell_id))
            for other in self._along.pop(job.cell.cell_id, ()):
                self._add_ready(other)
            self._settle(replace(job, along=()), outcome)

    def _patience(self) -> float | None:
        """Return how long to wait for a cell to end before looking round; None: until one does."""
        waits = [] if self.steering.poll_s is None else [self.steering.poll_s]
        if self._delayed and not self.steering.is_draining:
            waits.append(max(0.0, self._delayed[0][0] - time.monotonic()))
        return min(waits, default=None)

    def _settle(self, job: Job, outcome: Outcome) -> None:
        """File how a try ended, and decide what comes of it."""
        cell_id = job.cell.cell_id
        if outcome.error is not None:
            outcome = replace(outcome, error=self._kind_of(outcome.error))
        trouble = ""
        if not outcome.recorded:
            outcome, trouble = lost_tries.record_end(self.store, job, outcome)
        if outcome.error is None:
            trouble = trouble or self._seal(job) or self.on_done(cell_id)
            self.steering.cell_done()
            self.summary.done.append(cell_id)
            if cell_id not in self._released:
                self._sorter.done(cell_id)
                self._take_ready()
            self._tell("done", cell_id, outcome, trouble)
            return
        if outcome.error is ErrorKind.PREEMPTED and self.steering.is_draining:
            if outcome.seconds:  # else it never started
                self._tell("stopped", cell_id, outcome)
            return
        history = self._history.setdefault(cell_id, [])
        decision = self._decide(outcome.error, history)
        history.append(outcome.error)
        if isinstance(decision, GiveUp):
            self._fail(cell_id, outcome, "; ".join(filter(None, (decision.reason, trouble))))
            return
        self._again[cell_id] = cured(replace(job, attempt=job.attempt + 1), history)
        heapq.heappush(self._delayed, (time.monotonic() + decision.delay_s, cell_id))
        self._tell("retry", cell_id, outcome, f"in {decision.delay_s:.0f} s")

    def _kind_of(self, error: ErrorKind) -> ErrorKind:
        """Return what a failure counts as: a cell is not to blame for all that befalls it."""
        if error is ErrorKind.STORAGE and self.steering.blames_storage(self._in_flight.values()):
            return ErrorKind.PREEMPTED
        if error in DIES_WITH_A_NODE and self.steering.is_draining:
            return ErrorKind.PREEMPTED  # who stops a driver may well stop its nodes beside it
        if error is ErrorKind.PREEMPTED:
            self.steering.look_again()  # cells are stopped, too, when a driver's place is taken
        return error

    def _seal(self, job: Job) -> str:
        """Make one file of a cell's rows; return what went wrong with that.

        The rows are in the store either way, and the next run seals what this leaves.
        """
        try:
            if job.parts:
                self.store.seal(job.cell.cell_id, job.parts)
        except StorageError as error:
            return str(error)
        return ""

    def _fail(self, cell_id: str, outcome: Outcome, reason: str) -> None:
        self.summary.failed[cell_id] = outcome
        self._tell("failed", cell_id, outcome, reason)
        if cell_id in self._released:
            return  # its weights are there
        for descendant in self.plan.descendants(cell_id):
            if descendant not in self.summary.blocked:
                self.summary.blocked[descendant] = cell_id
                self._tell("blocked", descendant, detail=f"by {self.plan.nodes[cell_id].cell}")

    def _tell(
        self,
        kind: str,
        cell_id: str,
        outcome: Outcome | None = None,
        detail: str = "",
        attempt: int = 0,
    ) -> None:
        self.observe(Event(kind, self.plan.nodes[cell_id], outcome, detail, attempt))


def cured(job: Job, history: Sequence[ErrorKind]) -> Job:
    """Give a job what may help a cell that has failed so before."""
    return replace(job, **vars(cure(history)))
