"""How a sweep goes: its cells by state, what runs where, what waits too long, and how fast it is.

A cell is queued from when it is submitted until its try has a row in the store: what a worker
writes as it begins says where that is. So many of these rows are read at a time, and so often, that
a driver does not get slower by it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from orchestrator.driver import Event
from orchestrator.executor import Executor
from orchestrator.looks import Looks
from orchestrator.pace import Pace
from orchestrator.plan import Node, Plan
from workers.attempts import final_state
from workers.provenance import Host
from workers.storage import StorageError
from workers.store import Store

STATES = ("done", "running", "queued", "waiting", "failed", "diverged", "blocked")

LOOK_S = 2.0
"""How far apart two looks at the store are, in seconds, or more."""

ROWS_A_LOOK = 16

PENDING_S = 60.0
"""After how long it is said of submitted cells, none of which runs, that they wait, in seconds."""

AGAIN_S = 600.0
"""After how long it is said again, in seconds."""


@dataclass(frozen=True)
class Place:
    """Where a cell runs."""

    host: str
    pid: int
    gpu: str = ""
    """Its UUID and name; empty on a CPU."""


@dataclass
class Flight:
    """A cell that has been submitted and has not ended."""

    node: Node
    attempt: int
    lane: str
    since: float
    """When it was submitted, or, once it runs, when that was seen."""
    place: Place | None = None
    looked_at: float = field(default=0.0)


@dataclass(frozen=True)
class Pending:
    """Cells of a lane that wait too long: none of them runs."""

    lane: str
    n_cells: int
    seconds: float

    def __str__(self) -> str:
        cells = "1 cell waits" if self.n_cells == 1 else f"{self.n_cells} cells wait"
        of_whom = f" ({self.lane})" if self.lane else ""
        return f"{cells}{of_whom} for {self.seconds:.0f} s now, and none of them runs"


class SweepState:
    """Watches one drive of a plan."""

    def __init__(self, plan: Plan, executor: Executor, store: Store) -> None:
        self.plan, self._executor, self._store = plan, executor, store
        self.pace = Pace((plan.nodes[cell_id] for cell_id in plan.todo), time.monotonic())
        self.in_flight: dict[str, Flight] = {}
        self._ended: dict[str, str] = {}
        self._in_lane: Counter[str] = Counter()
        self._moved: dict[str, float] = {}
        """When something of a lane last began, ended or joined an empty lane."""
        self._told: dict[str, float] = {}
        self._looks = Looks(LOOK_S)

    @property
    def total(self) -> int:
        """How many cells were to run."""
        return len(self.plan.todo)

    @property
    def n_ended(self) -> int:
        """How many of them will not run any more."""
        return len(self._ended)

    @property
    def counts(self) -> dict[str, int]:
        """How many cells are in each of STATES."""
        found = Counter(self._ended.values())
        flights = list(self.in_flight.values())  # at once: displays look from another thread
        found["running"] = sum(flight.place is not None for flight in flights)
        found["queued"] = len(flights) - found["running"]
        found["waiting"] = max(0, self.total - len(flights) - self.n_ended)
        return {state: found[state] for state in STATES}

    def running(self) -> list[Flight]:
        """Return the cells that run, by where they do."""
        flights = [flight for flight in list(self.in_flight.values()) if flight.place is not None]
        return sorted(flights, key=lambda one: (one.place.host, one.place.gpu, one.place.pid))  # type: ignore[union-attr]

    def see(self, event: Event) -> None:
        """Take note of what happened to a cell."""
        now, node = time.monotonic(), event.node
        cell_id = node.cell.cell_id
        if event.kind == "submitted":
            self._depart(event, now)
            return
        flight = self.in_flight.pop(cell_id, None)
        if flight is not None:
            self._moved[flight.lane] = now
            self._in_lane[flight.lane] -= 1
        if event.kind == "done" and event.outcome is not None:
            self.pace.done(node, event.outcome.seconds, now)
            self._ended[cell_id] = "done"
        elif event.kind in ("failed", "blocked"):
            self.pace.ended(node)
            self._ended[cell_id] = final_state(event.outcome) if event.outcome else "blocked"

    def _depart(self, event: Event, now: float) -> None:
        lane = self._executor.lane(event.node.cell)
        if not self._in_lane[lane]:
            self._moved[lane] = now
        self._in_lane[lane] += 1
        flight = Flight(event.node, event.attempt, lane, now)
        if not self._executor.has_queue:
            here = Host.here()
            flight.place = Place(here.name, here.pid)
        self.in_flight[event.node.cell.cell_id] = flight

    def look_round(self) -> bool:
        """Find out what runs by now, unless that was done not long ago; return whether it was."""
        now = time.monotonic()
        if not self._looks.is_due(now):
            return False
        queued = [flight for flight in self.in_flight.values() if flight.place is None]
        with suppress(StorageError):  # the driver sees to that
            for flight in sorted(queued, key=lambda one: one.looked_at)[:ROWS_A_LOOK]:
                flight.looked_at = now
                row = self._store.read_attempt(flight.node.cell.cell_id, flight.attempt)
                if row is not None:
                    flight.place = Place(row["host"], row["pid"], row["gpu"] or "")
                    flight.since = self._moved[flight.lane] = now
        self._looks.took(now, time.monotonic())
        return True

    def pending(self) -> Iterator[Pending]:
        """Yield the lanes of which nothing runs for too long, each once in a while."""
        now = time.monotonic()
        running = {flight.lane for flight in self.in_flight.values() if flight.place is not None}
        for lane, n_cells in self._in_lane.items():
            seconds = now - self._moved[lane]
            is_news = now - self._told.get(lane, -AGAIN_S) >= AGAIN_S
            if n_cells and lane not in running and seconds > PENDING_S and is_news:
                self._told[lane] = now
                yield Pending(lane, n_cells, seconds)

    def why_waiting(self, pending: Pending) -> str:
        """Say why cells wait."""
        return self._executor.why_waiting(pending.lane)
