"""What a store's tables of tries say: which failures count, and what is not tried again."""

from typing import Any

from orchestrator.plan import Node, Plan
from orchestrator.tries import NONE, Standing, Tries, set_apart, tries_of
from tests.cells import make_cell
from workers.cell import Cell
from workers.outcome import ErrorKind as E

A = make_cell("a")
B = make_cell("b", (A,))
C = make_cell("c", (B,))
OTHER = make_cell("other")


def rows(*ends: str | None, cell: Cell = A) -> list[dict[str, Any]]:
    """The tries at a cell: each ended as a kind of failure, or well, or still runs."""
    states = {"done": "done", None: "running", "diverged": "diverged"}
    return [
        {
            "cell_id": cell.cell_id,
            "attempt": number,
            "state": states.get(end, "failed"),
            "error_kind": None if end in ("done", None) else end,
        }
        for number, end in enumerate(ends, start=1)
    ]


def cleared(attempt: int, cell: Cell = A) -> dict[str, Any]:
    return {"cell_id": cell.cell_id, "attempt": attempt}


def of_a(*ends: str | None, clear: int = 0) -> Tries:
    return tries_of(rows(*ends), [cleared(clear)] if clear else [])[A.cell_id]


def test_failures_count_in_their_order_and_preemptions_do_not() -> None:
    found = of_a("worker_crash", "preempted", "bug", None)
    assert found.failures == (E.WORKER_CRASH, E.BUG)
    assert found.number == 4
    assert found.last_failure["attempt"] == 3
    assert not found.is_failed, "it runs"


def test_the_order_of_rows_is_that_of_the_tries() -> None:
    table = rows("worker_crash", "done", "cuda_oom")
    assert tries_of(reversed(table), []) == tries_of(table, [])


def test_what_was_done_since_wipes_out_what_failed_before() -> None:
    assert of_a("worker_crash", "worker_crash", "done", "worker_crash").failures == (
        E.WORKER_CRASH,
    )
    assert not of_a("worker_crash", "done").is_failed


def test_what_was_cleared_counts_no_more_and_what_came_since_does() -> None:
    assert of_a("diverged").lasting is E.DIVERGED
    found = of_a("diverged", clear=1)
    assert (found.failures, found.lasting, found.is_failed) == ((), None, False)
    assert found.number == 1, "numbers go on"
    assert of_a("diverged", "diverged", clear=1).lasting is E.DIVERGED
    both = tries_of(rows("worker_crash", "worker_crash"), [cleared(2), cleared(1)])
    assert both[A.cell_id].failures == (), "the later clearing counts, whatever the order"


def test_a_cell_that_stands_failed_is_failed_although_it_was_preempted_since() -> None:
    found = of_a("worker_crash", "worker_crash", "worker_crash", "preempted")
    assert found.is_failed
    assert found.lasting is E.WORKER_CRASH
    assert not of_a("worker_crash", "preempted").is_failed


def test_a_kind_that_only_a_later_version_knows_is_no_reason_to_stop() -> None:
    assert of_a("cosmic_ray").failures == (E.BUG,)


def test_a_cell_without_tries() -> None:
    assert (NONE.number, NONE.failures, NONE.lasting, NONE.is_failed) == (0, (), None, False)


def plan_of(todo: list[Cell], weights: tuple[Cell, ...] = ()) -> Plan:
    nodes = {
        cell.cell_id: Node(cell, ("val",), ("val",), cell in weights, 0, 0)
        for cell in (A, B, C, OTHER)
    }
    return Plan(nodes, frozenset(cell.cell_id for cell in todo))


def test_what_stands_failed_is_set_apart_with_what_it_blocks() -> None:
    tries = tries_of([*rows("diverged", cell=B), *rows("bug", cell=OTHER)], [])
    plan, standing = set_apart(plan_of([A, B, C, OTHER]), tries)
    assert plan.todo == {A.cell_id, OTHER.cell_id}
    assert standing == Standing({B.cell_id: E.DIVERGED}, frozenset({C.cell_id}))
    assert standing


def test_what_is_done_stands_no_more_and_weights_unblock() -> None:
    tries = tries_of(rows("diverged", cell=B), [])
    assert not set_apart(plan_of([A, C, OTHER]), tries)[1]
    _, standing = set_apart(plan_of([A, B, C], weights=(B,)), tries)
    assert standing.blocked == frozenset()
