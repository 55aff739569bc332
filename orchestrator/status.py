"""How a grid stands, cell by cell: its plan, and the tries at each cell. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from typing import Any

import pandas as pd

from orchestrator.expansion import collection_paused
from orchestrator.plan import Node, Plan
from orchestrator.remarks import Remarks
from orchestrator.tries import NONE, Tries, tries_of
from workers.logs import LOGS

STATES = ("done", "running", "waiting", "failed", "diverged", "blocked")

FAILED = ("failed", "diverged")
"""Those of them in which something is wrong with the cell itself."""

COLUMNS = [
    "cell_id",
    "model",
    "method",
    "downstream",
    "seed",
    "state",
    "missing",
    "attempts",
    "error_kind",
    "message",
    "host",
    "blocked_by",
    "is_lasting",
    "curve",
]

ATTEMPT_COLUMNS = ["cell_id", "attempt", "state", "error_kind", "message", "host"]
"""Of a store's tries, what is looked at here."""


@collection_paused()
def cell_states(
    plan: Plan,
    attempts: pd.DataFrame,
    may_run: bool = True,
    cleared: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return one row per cell of a plan: COLUMNS.

    A cell is `done` when nothing of it is missing in the store, whatever was said of its tries;
    else as its last try ended, unless that failure was cleared; `blocked` when a cell that it is
    made from has failed; `waiting` when none of these. `missing` lists the evaluation sets whose
    rows, or predictions that are asked for, are not there, and `is_lasting` says of a failure that
    the next run does not try again. `curve` is `whole`, `waiting` for training, or `lost` to a cell
    that was trained without it; nothing where none is asked for.

    Args:
        plan: the cells.
        attempts: the store's table of that name; ATTEMPT_COLUMNS of it are looked at.
        may_run: whether the store may be driven now; no cell runs where it is not.
        cleared: the store's table of that name; None where there is none.
    """
    tries = tries_of(_records(attempts), [] if cleared is None else _records(cleared))
    lost = set(plan.without_curve)
    rows: dict[str, dict[str, Any]] = {}
    for cell_id, node in plan.nodes.items():
        rows[cell_id] = _row(node, cell_id in plan.todo, tries.get(cell_id, NONE), may_run)
        rows[cell_id]["curve"] = _curve(node, cell_id in lost)
    for cell_id, row in rows.items():
        if row["state"] in FAILED:
            for descendant in plan.descendants(cell_id):
                if rows[descendant]["state"] == "waiting":
                    rows[descendant] |= {"state": "blocked", "blocked_by": cell_id}
    return pd.DataFrame(list(rows.values()), columns=COLUMNS)


def with_ways_to_look(states: pd.DataFrame, store: str, names: Collection[str]) -> pd.DataFrame:
    """Put beside each failed cell where its log is, and how to see it fail.

    Args:
        states: as from `cell_states`.
        store: as it was named.
        names: of the logs that are in the store, without their folder.

    Returns:
        Its rows with the columns log (where the last that there is lies) and repeat (a command).
    """
    last = {name.partition(".")[0]: f"{LOGS}/{name}" for name in sorted(names)}
    logs, repeats = [], []
    for cell_id, state in zip(states["cell_id"], states["state"], strict=True):
        has_failed = state in FAILED
        is_there = has_failed and cell_id in last
        logs.append(place_in(store, last[cell_id]) if is_there else None)
        repeats.append(repeat_command(store, cell_id) if has_failed else None)
    columns = {"log": logs, "repeat": repeats}
    return states.assign(**{k: pd.Series(v, states.index, object) for k, v in columns.items()})


def place_in(store: str, name: str) -> str:
    """Say where something of a store is, the store named as a path or URI."""
    base, mark, query = store.partition("?")
    return f"{base.rstrip('/')}/{name}{mark}{query}"


def repeat_command(store: str, cell_id: str) -> str:
    """Return the command that runs one cell again in a terminal, under a debugger."""
    return f"rib resume {shlex.quote(store)} --only cell={cell_id} --executor inline --debug"


def with_remarks(states: pd.DataFrame, remarks: Remarks) -> pd.DataFrame:
    """Put the remarks beside each cell, for programs.

    Returns:
        The rows of `cell_states` with the columns canary (the verdict on the cell's model) and
        contaminated (the evaluation sets whose accuracy is, in this cell).
    """
    contaminated = [list(remarks.contamination.sets(name)) for name in states["downstream"]]
    return states.assign(
        canary=states["model"].map(remarks.verdict),
        contaminated=pd.Series(contaminated, states.index, dtype=object),
    )


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return what is looked at of each try."""
    names = [name for name in ATTEMPT_COLUMNS if name in table]
    rows = zip(*(table[name].tolist() for name in names), strict=True)
    return [dict(zip(names, row, strict=True)) for row in rows]


def _curve(node: Node, is_lost: bool) -> str | None:
    if node.curve is None:
        return None
    return "whole" if node.has_curve else "lost" if is_lost else "waiting"


def _row(node: Node, is_to_do: bool, tries: Tries, may_run: bool) -> dict[str, Any]:
    cell = node.cell
    state = _state(tries, may_run) if is_to_do else "done"
    has_failed = state in FAILED
    of_last = tries.last_failure if has_failed else tries.last
    return {
        "cell_id": cell.cell_id,
        "model": cell.model.name,
        "method": cell.label,
        "downstream": cell.downstream,
        "seed": cell.seed,
        "state": state,
        "missing": list(node.missing) if is_to_do else [],
        "attempts": int(of_last.get("attempt", 0)),
        "error_kind": of_last.get("error_kind") if has_failed else None,
        "message": of_last.get("message") if has_failed else None,
        "host": of_last.get("host"),
        "blocked_by": None,
        "is_lasting": has_failed and tries.lasting is not None,
    }


def _state(tries: Tries, may_run: bool) -> str:
    """Return the state of a cell that is to do, from its tries alone."""
    if tries.last.get("state") == "running" and may_run:
        return "running"
    return str(tries.last_failure["state"]) if tries.is_failed else "waiting"
