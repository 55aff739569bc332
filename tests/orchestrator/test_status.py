"""How a grid stands, from its plan and the last try at each cell."""

from typing import Any

import pandas as pd

from orchestrator.plan import Node, Plan
from orchestrator.status import COLUMNS, STATES, cell_states
from tests.cells import make_cell
from workers.cell import Cell
from workers.schemas import ATTEMPTS

A = make_cell("a")
B = make_cell("b", (A,))
C = make_cell("c", (B,))
OTHER = make_cell("other")


def plan_of(todo: list[Cell], weights: tuple[Cell, ...] = ()) -> Plan:
    nodes = {}
    for cell in (A, B, C, OTHER):
        is_done = cell not in todo
        missing = () if is_done else ("v2",)
        has_weights = is_done or cell in weights
        nodes[cell.cell_id] = Node(cell, ("val", "v2"), missing, has_weights, 0, 0)
    return Plan(nodes, frozenset(cell.cell_id for cell in todo))


def states(plan: Plan, *attempts: dict[str, Any]) -> dict[str, dict[str, Any]]:
    frame = pd.DataFrame(
        [dict.fromkeys(ATTEMPTS.names) | {"attempt": 1} | a for a in attempts],
        columns=ATTEMPTS.names,
    )
    found = cell_states(plan, frame)
    assert list(found.columns) == COLUMNS
    assert set(found["state"]) <= set(STATES)
    plain = found.astype(object).where(found.notna(), None)
    return {
        str(record["method"]): {str(key): value for key, value in record.items()}
        for record in plain.to_dict("records")
    }


def tried(cell: Cell, state: str, **other: Any) -> dict[str, Any]:
    return {"cell_id": cell.cell_id, "state": state, **other}


def test_before_anything_has_run() -> None:
    found = states(plan_of([A, B, C, OTHER]))
    assert {label: r["state"] for label, r in found.items()} == dict.fromkeys(found, "waiting")
    assert [found["a"][key] for key in ("missing", "attempts", "host")] == [["v2"], 0, None]


def test_each_state() -> None:
    found = states(
        plan_of([B, C]),
        tried(A, "done", host="n1"),
        tried(B, "failed", error_kind="bug", message="KeyError: x", host="n2"),
    )
    assert {k: r["state"] for k, r in found.items()} == {
        "a": "done",
        "b": "failed",
        "c": "blocked",
        "other": "done",
    }
    assert found["c"]["blocked_by"] == B.cell_id
    assert (found["b"]["error_kind"], found["b"]["message"]) == ("bug", "KeyError: x")
    assert (found["a"]["host"], found["a"]["missing"], found["a"]["message"]) == ("n1", [], None)


def test_the_last_try_counts_whatever_the_order() -> None:
    found = states(
        plan_of([A]),
        tried(A, "running", attempt=3),
        tried(A, "failed", attempt=1, error_kind="worker_crash"),
        tried(A, "failed", attempt=2, error_kind="worker_crash"),
    )
    assert (found["a"]["state"], found["a"]["attempts"]) == ("running", 3)
    assert found["a"]["error_kind"] is None


def test_what_the_store_holds_outweighs_what_was_said_of_tries() -> None:
    found = states(plan_of([B]), tried(A, "failed", error_kind="storage"), tried(B, "done"))
    assert found["a"]["state"] == "done"
    assert found["a"]["error_kind"] is None
    assert found["b"]["state"] == "waiting"
    assert found["b"]["missing"] == ["v2"]


def test_a_preempted_cell_waits_and_a_diverged_one_blocks() -> None:
    found = states(
        plan_of([A, B, C, OTHER]),
        tried(OTHER, "failed", error_kind="preempted"),
        tried(A, "diverged", error_kind="diverged"),
    )
    assert {k: r["state"] for k, r in found.items()} == {
        "a": "diverged",
        "b": "blocked",
        "c": "blocked",
        "other": "waiting",
    }
    assert {found[k]["blocked_by"] for k in ("b", "c")} == {A.cell_id}


def test_a_cell_that_has_its_weights_is_not_blocked() -> None:
    found = states(plan_of([A, B, C], weights=(B,)), tried(A, "failed", error_kind="data"))
    assert {k: r["state"] for k, r in found.items()} == {
        "a": "failed",
        "b": "waiting",
        "c": "waiting",
        "other": "done",
    }


def test_nothing_runs_where_nobody_drives() -> None:
    attempts = pd.DataFrame(
        [dict.fromkeys(ATTEMPTS.names) | {"attempt": 1} | tried(A, "running")],
        columns=ATTEMPTS.names,
    )
    plan = plan_of([A])
    for may_run, state in ((True, "running"), (False, "waiting")):
        found = cell_states(plan, attempts, may_run)
        assert found.set_index("method").loc["a", "state"] == state
