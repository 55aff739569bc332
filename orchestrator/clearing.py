"""`rib retry`: failures that count no longer, so that the next run tries their cells afresh."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from orchestrator.grid import Grid
from orchestrator.holder import Holder
from orchestrator.lease import Lease, Times, refuse_if_held
from orchestrator.only import parse_only
from orchestrator.plan import Only, every_cell, is_chosen, make_plan
from orchestrator.tries import NONE, Tries, read_tries
from workers.cell import Cell
from workers.errors import Problem, UserError, nearest
from workers.outcome import ErrorKind
from workers.store import Store

KINDS = [kind for kind in ErrorKind if kind is not ErrorKind.PREEMPTED]
"""What failures can be of."""


@dataclass(frozen=True)
class Failure:
    """A cell that has failed."""

    cell: Cell
    tries: Tries

    @property
    def kind(self) -> ErrorKind:
        return self.tries.lasting or self.tries.failures[-1]


def parse_choice(
    kinds: Sequence[str], only: str | None, grid: Grid
) -> tuple[list[ErrorKind], Only | None]:
    """Return the kinds of these names, and what `--only` means (`orchestrator.only`).

    Raises:
        UserError: with all that is wrong with either.
    """
    problems = [
        Problem("--kind", f"no failure is of kind {name!r}", nearest(name, map(str, KINDS)))
        for name in kinds
        if name not in KINDS
    ]
    chosen = None
    try:
        chosen = parse_only(only, grid)
    except UserError as error:
        problems += error.problems
    if problems:
        raise UserError(problems)
    return [ErrorKind(name) for name in kinds], chosen


def clear_failures(
    store: Store,
    grid: Grid,
    kinds: Sequence[ErrorKind] = (),
    only: Only | None = None,
    times: Times | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Failure]:
    """Clear the failures of a grid's cells; return what was cleared.

    What is said of the tries stays in the store; it is added, all at once, that they count no
    longer.

    Args:
        store: that holds them.
        grid: whose cells are meant.
        kinds: of the failures that are meant; none for all.
        only: which cells are meant.
        times: how long it takes to see whether somebody drives the store.
        tell: is told of trouble with the store.

    Raises:
        UserError: when somebody drives the store.
        StorageError: when it cannot be read or written; nothing is then cleared.
    """
    refuse_if_held(store.storage)
    lease = Lease(store.storage, times or Times(), tell)
    lease.acquire()
    try:
        found = failures(store, grid, kinds, only)
        if found:
            lease.wait_until_safe()
            clearing = uuid.uuid4().hex
            store.commit_cleared(clearing, _rows(clearing, found))
    finally:
        lease.release()
    return found


def failures(
    store: Store, grid: Grid, kinds: Sequence[ErrorKind] = (), only: Only | None = None
) -> list[Failure]:
    """Return the cells of a grid that have failed and are not done; see `clear_failures`."""
    tries, todo = read_tries(store), make_plan(grid, store.committed()).todo
    found = [
        Failure(cell, tries.get(cell_id, NONE))
        for cell_id, cell in every_cell(grid).items()
        if cell_id in todo and is_chosen(cell, only or {}) and tries.get(cell_id, NONE).is_failed
    ]
    return [failure for failure in found if not kinds or failure.kind in kinds]


def _rows(clearing: str, found: Sequence[Failure]) -> list[dict[str, object]]:
    me, now = Holder.here(), datetime.now(UTC)
    return [
        {
            "clearing": clearing,
            "cell_id": failure.cell.cell_id,
            "attempt": failure.tries.number,
            "error_kind": failure.kind,
            "cleared_by": f"{me.user} on {me.host}",
            "cleared_at": now,
        }
        for failure in found
    ]
