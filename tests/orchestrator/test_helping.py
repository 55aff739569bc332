"""Cells that need not wait for rows, workers that help, and cells that are scored together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.driver import Driver, Event, Summary
from orchestrator.executor import Job, Outcome
from orchestrator.helping import Helping
from orchestrator.packing import packs
from orchestrator.plan import Node, Plan
from tests.cells import make_cell
from workers.cell import Cell
from workers.outcome import ErrorKind
from workers.store import CHECKPOINT, Store

Step = Callable[["ByHand"], tuple[Job, Outcome] | None]

LOOK_S, AFTER_S = 10.0, 20.0


class ByHand:
    """An Executor on which a test ends the jobs, one step after another; waits take LOOK_S."""

    has_queue = True
    instruments: Any = None

    def __init__(self, steps: Sequence[Step], n_workers: int = 10) -> None:
        self.steps, self.n_workers = list(steps), n_workers
        self.in_flight: list[Job] = []
        self.now = 0.0

    def lane(self, cell: Cell) -> str:
        return ""

    def capacity(self, lane: str) -> int:
        return self.n_workers

    def idle(self, lane: str) -> int:
        return self.n_workers - len(self.in_flight)

    def submit(self, job: Job) -> None:
        self.in_flight.append(job)

    def wait_any(self, timeout_s: float | None = None) -> tuple[Job, Outcome] | None:
        self.now += LOOK_S
        ended = self.steps.pop(0)(self)
        if ended is not None:
            self.in_flight.remove(ended[0])
        return ended

    def cancel(self, job: Job) -> None: ...

    def why_waiting(self, lane: str) -> str:
        return ""

    def close(self) -> None: ...

    def running(self, cell: Cell) -> Job:
        """The cell's own job, which is in flight."""
        (job,) = [job for job in self.in_flight if job.cell == cell and not job.helps]
        return job

    def helpers(self, cell: Cell) -> list[Job]:
        return [job for job in self.in_flight if job.cell == cell and job.helps]


def ends(cell: Cell, error: ErrorKind | None = None) -> Step:
    return lambda executor: (executor.running(cell), Outcome(error=error, recorded=True))


def helper_ends(cell: Cell, rows: int) -> Step:
    return lambda executor: (executor.helpers(cell)[0], Outcome(rows=rows, recorded=True))


def plan_of(*cells: Cell, **of_all: Any) -> Plan:
    nodes = {c.cell_id: Node(c, ("val",), ("val",), False, 10, 100, **of_all) for c in cells}
    return Plan(nodes, frozenset(nodes))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def drive(
    plan: Plan, executor: ByHand, store: Store, together: int = 1
) -> tuple[Summary, list[Event]]:
    events: list[Event] = []
    driver = Driver(plan, executor, store, events.append)
    driver.helping = Helping(plan, store, LOOK_S, AFTER_S, lambda: executor.now)
    driver.score_together = together
    summary = driver.run()
    assert executor.steps == []
    return summary, events


A = make_cell("a")
B = make_cell("b", (A,))
C = make_cell("c", (B,))


def test_a_cell_starts_as_soon_as_the_weights_are_there_that_it_starts_from(store: Store) -> None:
    def saved(executor: ByHand) -> None:
        assert [job.cell for job in executor.in_flight] == [A]
        store.save_artifact(A.cell_id, CHECKPOINT, b"weights")

    def both_run(executor: ByHand) -> None:
        assert [job.cell for job in executor.in_flight] == [A, B]

    steps = [saved, both_run, ends(B), ends(A), ends(C)]
    summary, _ = drive(plan_of(A, B, C), ByHand(steps), store)
    assert summary.done == [B.cell_id, A.cell_id, C.cell_id]


def test_a_cell_that_fails_later_blocks_nothing_that_has_its_weights(store: Store) -> None:
    def saved(executor: ByHand) -> None:
        store.save_artifact(A.cell_id, CHECKPOINT, b"weights")

    steps = [saved, ends(A, ErrorKind.DATA), ends(B), ends(C)]
    summary, _ = drive(plan_of(A, B, C), ByHand(steps), store)
    assert summary.failed.keys() == {A.cell_id}
    assert summary.blocked == {}
    assert summary.done == [B.cell_id, C.cell_id]


def test_a_cell_that_fails_before_blocks_them(store: Store) -> None:
    steps = [ends(A, ErrorKind.DATA)]
    summary, _ = drive(plan_of(A, B, C), ByHand(steps), store)
    assert summary.blocked == {B.cell_id: A.cell_id, C.cell_id: A.cell_id}


def counted(n: int) -> Step:
    def check(executor: ByHand) -> None:
        assert len(executor.helpers(A)) == n
        assert all(job.evaluate == ("val",) for job in executor.helpers(A))

    return check


def test_idle_workers_help_more_and_more_until_one_finds_nothing_to_do(store: Store) -> None:
    store.save_artifact(A.cell_id, CHECKPOINT, b"weights")  # from an earlier run
    steps = [
        *(counted(0), counted(0), counted(0), counted(1), counted(3), counted(7), counted(9)),
        helper_ends(A, 3),
        counted(9),  # another takes its place
        helper_ends(A, 0),
        *(counted(8), counted(8)),
        helper_ends(A, 2),
        *(counted(8), ends(A)),
    ]
    summary, events = drive(plan_of(A), ByHand(steps), store)
    assert summary.ok
    assert [event.kind for event in events] == ["submitted", "done"], "helpers are no tries"


def test_nobody_helps_before_there_are_weights_or_while_cells_wait(store: Store) -> None:
    steps = [*[counted(0)] * 5, ends(A)]
    drive(plan_of(A), ByHand(steps), store)

    store.save_artifact(A.cell_id, CHECKPOINT, b"weights")
    other = make_cell("other")
    steps = [*[counted(0)] * 5, ends(A), ends(other)]
    plan = plan_of(A, other)
    drive(plan, ByHand(steps, n_workers=1), store)


def test_a_helper_that_comes_back_late_is_no_cell(store: Store) -> None:
    store.save_artifact(A.cell_id, CHECKPOINT, b"weights")
    other = make_cell("other")
    steps = [*[counted(0)] * 3, counted(1), ends(A), helper_ends(A, 0), ends(other)]
    summary, _ = drive(plan_of(A, other), ByHand(steps), store)
    assert summary.ok


def test_cells_that_only_have_to_be_scored_are_scored_together_each_with_its_own_try(
    store: Store,
) -> None:
    cells = sorted((make_cell(name) for name in "abc"), key=lambda cell: cell.cell_id)
    a, b, c = cells

    def alone(executor: ByHand) -> None:
        assert [job.cell for job in executor.in_flight] == [a]
        assert executor.running(a).along == (b, c)

    def others(executor: ByHand) -> None:
        assert [(job.cell, job.along) for job in executor.in_flight] == [(b, ()), (c, ())]

    steps = [alone, ends(a), others, ends(c), ends(b)]
    summary, _ = drive(plan_of(*cells), ByHand(steps), store, together=3)
    assert summary.done == [a.cell_id, c.cell_id, b.cell_id]


def test_the_others_run_by_themselves_when_the_first_fails_and_so_does_the_first(
    store: Store,
) -> None:
    a, b = sorted((make_cell("a"), make_cell("b")), key=lambda cell: cell.cell_id)

    def unpacked(executor: ByHand) -> None:
        assert {job.cell: job.along for job in executor.in_flight} == {a: (), b: ()}

    def ends_once_it_runs(executor: ByHand) -> tuple[Job, Outcome]:
        unpacked(executor)
        return executor.running(b), Outcome(recorded=True)

    steps = [ends(a, ErrorKind.CUDA_OOM), ends_once_it_runs, ends(a)]
    executor = ByHand(steps)
    summary, events = drive(plan_of(a, b), executor, store, together=2)
    assert summary.ok
    submitted = [e.node.cell for e in events if e.kind == "submitted"]
    assert submitted == [a, a, b]


def one_lane(cell_id: str) -> str:
    return ""


def test_cells_that_are_given_other_resources_are_not_put_together() -> None:
    """On a CPU the number of threads decides the last bits of a loss."""
    cells = [make_cell(name) for name in "abcd"]
    lanes = dict(zip([cell.cell_id for cell in cells], ["", "", "more", "more"], strict=True))
    found = list(packs(plan_of(*cells), lanes, 4, lanes.__getitem__))
    assert sorted(map(len, found)) == [2, 2]
    assert all(len({lanes[cell_id] for cell_id in group}) == 1 for group in found)


def test_only_cells_of_one_model_that_lack_the_same_sets_are_put_together() -> None:
    alike = [make_cell(f"alike{i}") for i in range(5)]
    trains = replace(make_cell("trains"), recipe={"epochs": 1})
    elsewhere = replace(make_cell("elsewhere"), model=replace(alike[0].model, name="other"))
    fewer, predicted, parent = (make_cell(name) for name in ("fewer", "predicted", "parent"))
    cells = [*alike, trains, elsewhere, fewer, predicted, parent]
    plan = plan_of(*cells)
    changes: dict[Cell, dict[str, Any]] = {
        fewer: {"missing": ()},
        predicted: {"scored": ("val",)},
        parent: {"wanted": (), "missing": ()},
    }
    for cell, change in changes.items():
        plan.nodes[cell.cell_id] = replace(plan.nodes[cell.cell_id], **change)
    found = list(packs(plan, [cell.cell_id for cell in cells], 3, one_lane))
    ids = sorted(cell.cell_id for cell in alike)
    apart = [[cell.cell_id] for cell in cells[5:]]
    assert sorted(found) == sorted([ids[:3], ids[3:], *apart])
    trained = replace(plan.nodes[trains.cell_id], has_weights=True)
    plan.nodes[trains.cell_id] = trained
    assert sorted([*ids, trains.cell_id]) in list(
        packs(plan, [c.cell_id for c in cells], 6, one_lane)
    )


@given(st.lists(st.integers(0, 3), max_size=12), st.integers(1, 5))
def test_no_cell_is_lost_or_doubled_by_packing(models: list[int], most: int) -> None:
    cells = [
        replace(make_cell(f"c{number}"), model=replace(A.model, name=f"m{model}"))
        for number, model in enumerate(models)
    ]
    groups = list(packs(plan_of(*cells), [cell.cell_id for cell in cells], most, one_lane))
    assert sorted(c for group in groups for c in group) == sorted(c.cell_id for c in cells)
    assert all(1 <= len(group) <= most for group in groups)
