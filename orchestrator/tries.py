"""What a store tells of the tries at its cells: which failures count, and which cells stand failed.

A failure counts until a try is done, or until `rib retry` clears it. A try that was preempted is no
failure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.plan import Plan
from orchestrator.retry import lasting_failure
from workers.outcome import ErrorKind
from workers.store import Store

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Tries:
    """The tries at one cell."""

    last: Row = field(default_factory=dict)
    """The row of the last one; nothing before there is one."""
    failures: tuple[ErrorKind, ...] = ()
    """How those failed that count, in their order."""
    last_failure: Row = field(default_factory=dict)
    """The row of the last of those."""

    @property
    def number(self) -> int:
        """How many there have been: they are numbered from 1."""
        return int(self.last.get("attempt", 0))

    @property
    def lasting(self) -> ErrorKind | None:
        """Why the cell is not tried again until somebody says so; None when it is."""
        return lasting_failure(self.failures)

    @property
    def is_failed(self) -> bool:
        """Whether the cell counts as failed: its last try has, or it is not tried again."""
        is_last = bool(self.failures) and self.last is self.last_failure
        return is_last or self.lasting is not None


NONE = Tries()

COLUMNS = ["cell_id", "attempt", "state", "error_kind", "message"]
"""The columns of a try's row that are looked at."""


def read_tries(store: Store) -> dict[str, Tries]:
    """Return the tries at each cell that a store knows of.

    Raises:
        StorageError: when the store does not give them out.
    """
    if not store.exists:
        return {}
    attempts = store.scan("attempts", COLUMNS).table.to_pylist()
    return tries_of(attempts, read_cleared(store))


def read_cleared(store: Store) -> list[Row]:
    """Return which failures count no longer.

    Raises:
        StorageError: when the store does not give it out.
    """
    rows: list[Row] = store.scan("cleared", ["cell_id", "attempt"]).table.to_pylist()
    return rows


def tries_of(attempts: Iterable[Row], cleared: Iterable[Row]) -> dict[str, Tries]:
    """Return the tries at each cell, by its id; rows are of the tables of these names."""
    until: dict[str, int] = {}
    for row in cleared:
        until[row["cell_id"]] = max(row["attempt"], until.get(row["cell_id"], 0))
    found: dict[str, Tries] = {}
    for row in sorted(attempts, key=lambda row: int(row["attempt"])):
        cell_id = row["cell_id"]
        before = found.get(cell_id, NONE)
        kind = _failure(row)
        if row["state"] == "done":
            found[cell_id] = Tries(row)
        elif kind is not None and row["attempt"] > until.get(cell_id, 0):
            found[cell_id] = Tries(row, (*before.failures, kind), row)
        else:
            found[cell_id] = replace(before, last=row)
    return found


def _failure(row: Row) -> ErrorKind | None:
    """Return how a try failed; None when it did not, or was preempted."""
    if row["state"] not in ("failed", "diverged") or row["error_kind"] == ErrorKind.PREEMPTED:
        return None
    try:
        return ErrorKind(row["error_kind"])
    except ValueError:  # a kind that only a later version knows
        return ErrorKind.BUG


@dataclass(frozen=True)
class Standing:
    """Cells that are not tried again until `rib retry` clears their failures."""

    failed: Mapping[str, ErrorKind] = field(default_factory=dict)
    blocked: frozenset[str] = frozenset()
    """Cells that cannot run without one of those."""

    def __bool__(self) -> bool:
        return bool(self.failed)


def set_apart(plan: Plan, tries: Mapping[str, Tries]) -> tuple[Plan, Standing]:
    """Take out of a plan what stands failed, and what that blocks."""
    failed = {
        cell_id: kind
        for cell_id in plan.nodes
        if cell_id in plan.todo and (kind := tries.get(cell_id, NONE).lasting) is not None
    }
    blocked = {below for cell_id in failed for below in plan.descendants(cell_id)} - set(failed)
    standing = Standing(failed, frozenset(blocked))
    return replace(plan, todo=plan.todo - set(failed) - blocked), standing
