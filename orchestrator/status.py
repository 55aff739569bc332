"""How a grid stands, cell by cell: its plan, and the last try at each cell. Pure."""

from __future__ import annotations

from typing import Any

import pandas as pd

from orchestrator.plan import Node, Plan
from orchestrator.remarks import Remarks

STATES = ("done", "running", "waiting", "failed", "diverged", "blocked")

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
]


def cell_states(plan: Plan, attempts: pd.DataFrame, may_run: bool = True) -> pd.DataFrame:
    """Return one row per cell of a plan: COLUMNS.

    A cell is `done` when nothing of it is missing in the store, whatever was said of its tries;
    else as its last try ended; `blocked` when a cell that it is made from has failed; `waiting`
    when none of these. `missing` lists the evaluation sets whose rows are not there.

    Args:
        plan: the cells.
        attempts: the store's table of that name.
        may_run: whether the store may be driven now; no cell runs where it is not.
    """
    last = attempts.sort_values("attempt").drop_duplicates("cell_id", keep="last")
    tries: dict[str, dict[str, Any]] = {
        str(row["cell_id"]): {str(key): value for key, value in row.items()}
        for row in last.to_dict("records")
    }
    rows: dict[str, dict[str, Any]] = {}
    for cell_id, node in plan.nodes.items():
        rows[cell_id] = _row(node, cell_id in plan.todo, tries.get(cell_id, {}), may_run)
    for cell_id, row in rows.items():
        if row["state"] in ("failed", "diverged"):
            for descendant in plan.descendants(cell_id):
                if rows[descendant]["state"] == "waiting":
                    rows[descendant] |= {"state": "blocked", "blocked_by": cell_id}
    return pd.DataFrame(list(rows.values()), columns=COLUMNS)


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


def _row(node: Node, is_to_do: bool, last: dict[str, Any], may_run: bool) -> dict[str, Any]:
    cell = node.cell
    state = "done"
    if is_to_do:
        ended = last.get("state")
        is_cut_short = last.get("error_kind") == "preempted" or (ended == "running" and not may_run)
        state = "waiting" if ended in (None, "done") or is_cut_short else str(ended)
    failed = state in ("failed", "diverged")
    return {
        "cell_id": cell.cell_id,
        "model": cell.model.name,
        "method": cell.label,
        "downstream": cell.downstream,
        "seed": cell.seed,
        "state": state,
        "missing": list(node.missing) if is_to_do else [],
        "attempts": int(last.get("attempt", 0)),
        "error_kind": last.get("error_kind") if failed else None,
        "message": last.get("message") if failed else None,
        "host": last.get("host") if last else None,
        "blocked_by": None,
    }
