"""How a grid stands, from its plan and the last try at each cell."""

from typing import Any

import pandas as pd

from orchestrator.plan import Node, Plan
from orchestrator.status import COLUMNS, STATES, cell_states, place_in, with_ways_to_look
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


def table_of(*attempts: dict[str, Any]) -> pd.DataFrame:
    rows = [dict.fromkeys(ATTEMPTS.names) | {"attempt": 1} | a for a in attempts]
    return pd.DataFrame(rows, columns=ATTEMPTS.names)


def states(plan: Plan, *attempts: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = cell_states(plan, table_of(*attempts))
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
    attempts, plan = table_of(tried(A, "running")), plan_of([A])
    for may_run, state in ((True, "running"), (False, "waiting")):
        found = cell_states(plan, attempts, may_run)
        assert found.set_index("method").loc["a", "state"] == state


def crashes(cell: Cell, n: int) -> list[dict[str, Any]]:
    return [
        tried(cell, "failed", attempt=i + 1, error_kind="worker_crash", message=f"{i}", host="n")
        for i in range(n)
    ]


def test_a_failure_lasts_once_its_budget_is_used_up() -> None:
    plan = plan_of([A, OTHER])
    found = states(plan, *crashes(A, 2), tried(OTHER, "failed", error_kind="bug"))
    assert (found["a"]["state"], found["a"]["is_lasting"]) == ("failed", False)
    assert (found["other"]["state"], found["other"]["is_lasting"]) == ("failed", False)
    cut_short = tried(A, "failed", attempt=4, error_kind="preempted")
    found = states(plan, *crashes(A, 3), cut_short)
    assert (found["a"]["state"], found["a"]["is_lasting"]) == ("failed", True)
    assert (found["a"]["message"], found["a"]["attempts"], found["a"]["host"]) == ("2", 3, "n")


def test_a_failure_that_was_cleared_waits() -> None:
    plan = plan_of([A, B])
    cleared = pd.DataFrame([{"clearing": "x", "cell_id": A.cell_id, "attempt": 3}])
    found = cell_states(plan, table_of(*crashes(A, 3)), cleared=cleared)
    assert list(found["state"])[:2] == ["waiting", "waiting"]
    found = cell_states(plan, table_of(*crashes(A, 4)), cleared=cleared)
    assert list(found["state"])[:2] == ["failed", "blocked"], "it has failed since"
    assert not found["is_lasting"].any(), "once, of three times that it may"


def test_where_to_look_at_what_failed() -> None:
    found = cell_states(plan_of([A, OTHER]), table_of(*crashes(A, 2), tried(OTHER, "failed")))
    logs = [f"{A.cell_id}.0001.log", f"{B.cell_id}.0001.log"]
    seen = with_ways_to_look(found, "my runs/x", logs).set_index("method")
    assert seen.at["a", "log"] == f"my runs/x/logs/{A.cell_id}.0001.log"
    command = f"--only cell={A.cell_id} --executor inline --debug"
    assert seen.at["a", "repeat"] == f"rib resume 'my runs/x' {command}"
    assert seen.at["other", "log"] is None, "it left none"
    assert seen.at["b", "repeat"] is None, "it has not failed"


def test_a_place_in_a_store_comes_before_what_is_asked_of_its_server() -> None:
    assert place_in("runs/x/", "logs/a.log") == "runs/x/logs/a.log"
    uri = "s3://bucket/x?endpoint_override=host:1&scheme=http"
    assert place_in(uri, "a") == "s3://bucket/x/a?endpoint_override=host:1&scheme=http"
