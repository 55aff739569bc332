"""A driver's time at a store: from its lease to the last word on what it leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from orchestrator.disk import Room
from orchestrator.estimate import make_estimates
from orchestrator.executor import Executor
from orchestrator.grid import Grid
from orchestrator.interrupts import Interrupts
from orchestrator.keep import Keeper, Needs
from orchestrator.lease import Lease, Times
from orchestrator.outage import Outage, Pauses
from orchestrator.plan import make_plan
from orchestrator.steering import DRAIN_S, StoreSteering, stop_softly
from orchestrator.tries import Tries, read_cleared, tries_of
from workers.errors import UserError
from workers.logs import FATAL, fatal_error, rescue
from workers.outcome import ErrorKind
from workers.storage import StorageError
from workers.store import DRIVER, Committed, Store

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Terms:
    """How a driver is to behave at a store."""

    take_over: bool = False
    """Whether to take the place of a driver that lives."""
    drain_s: float = DRAIN_S
    """How long running cells may take, after Ctrl-C, to get to where they can be left."""
    debug: bool = False
    """Whether a debugger opens where a cell fails; every cell is then tried, and once."""
    times: Times = field(default_factory=Times)
    pauses: Pauses = field(default_factory=Pauses)


@contextmanager
def driving(
    store: Store, grid: Grid, lease: Lease, workers: Executor, terms: Terms, tell: Tell
) -> Iterator[StoreSteering]:
    """Hold a store's lease, and close the executor at the end.

    A run that is cut short leaves nothing that looks as if it still ran.

    Raises:
        UserError: when somebody else drives the store.
    """
    is_whole = False
    interrupts = Interrupts(lambda: stop_softly(lease, terms.drain_s, tell))
    try:
        store.create(grid.suite.name, grid.suite.version)
        lease.acquire(terms.take_over)
        lease.wait_until_safe()
        probe = f"{DRIVER}/{lease.driver}.probe"
        outage = Outage(store.storage, probe, tell, terms.pauses)
        room = room_of(store, grid, tell)
        with interrupts:
            yield StoreSteering(lease, interrupts, room, outage, terms.drain_s)
            is_whole = not interrupts.is_asked
    finally:
        with interrupts.ignored():
            workers.close()
            if lease.is_held:
                clear_up(store, is_whole, tell)
            lease.release()


def room_of(store: Store, grid: Grid, tell: Tell) -> Room:
    """Return what looks after the disk of a store."""
    sizes = make_estimates(grid, {}).checkpoints if store.storage.is_local else {}
    return Room(store.storage, grid.min_free, sizes, tell)


def clear_up(store: Store, is_whole: bool, tell: Tell) -> None:
    """Bring in the logs of tries that were killed; end those that ran when their driver stopped."""
    try:
        rescue(store.storage)
        if not is_whole:
            close_stale_attempts(store)
    except StorageError as error:
        tell(f"some cells may be shown as running until the next run: {error}")


def close_stale_attempts(store: Store) -> dict[str, Tries]:
    """End the tries that an earlier driver left running; return all there are, by cell.

    Their workers ended with that driver, since Ray stops the tasks of a driver that dies. A cell
    that ran in the driver's own process may have been what it died of.
    """
    rescue(store.storage)
    attempts = store.scan("attempts").table.to_pylist()
    for row in attempts:
        if row["state"] == "running":
            why = fatal_error(store.storage, row["cell_id"], row["attempt"])
            row |= {
                "state": "failed",
                "error_kind": _kind_of_end(why),
                "message": why or "the driver stopped before this try ended",
                "finished_at": datetime.now(UTC),
            }
            store.commit_attempt(row)
    return tries_of(attempts, read_cleared(store))


def _kind_of_end(why: str) -> ErrorKind:
    """Say what the end of a process was. Ray's own processes abort when what they need is gone."""
    is_its_own = why.startswith(FATAL) and not why.startswith(f"{FATAL}Aborted")
    return ErrorKind.WORKER_CRASH if is_its_own else ErrorKind.PREEMPTED


def needs_of(grid: Grid, committed: Committed) -> Needs:
    """Return which checkpoints are needed: by the whole grid, whatever part of it is run."""
    return Needs(make_plan(grid, committed), grid.keep)


def tidy(store: Store, grid: Grid, committed: Committed, terms: Terms, tell: Tell) -> None:
    """Clear what died at a grid that is done, and the checkpoints that it does not keep.

    Raises:
        UserError: when there are such checkpoints, and somebody else drives the store.
    """
    needs = None if grid.keep == "all" else needs_of(grid, committed)
    has_superfluous = needs is not None and bool(needs.superfluous)
    if not (has_superfluous or _has_leftovers(store)):
        return
    lease = Lease(store.storage, terms.times, tell)
    try:
        lease.acquire(terms.take_over)
    except UserError:
        if has_superfluous:
            raise
        return  # who drives the store has seen to what was left
    try:
        lease.wait_until_safe()
        close_stale_attempts(store)
        store.sweep()
        if needs is not None:
            Keeper(needs, store).clear()
    finally:
        lease.release()


def _has_leftovers(store: Store) -> bool:
    """Whether drivers and workers that died have left anything."""
    if not store.exists:
        return False
    states = store.scan("attempts", ["state"]).table.column("state").unique().to_pylist()
    return "running" in states or store.needs_sweeping
