"""Which checkpoints go and when, and what they take at most."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.driver import Driver
from orchestrator.executor import Job, Outcome
from orchestrator.grid_file import Keep
from orchestrator.keep import Keeper, Needs, order_of, peak_bytes
from orchestrator.plan import Node, Plan
from tests.cells import MODEL, make_cell
from tests.orchestrator.test_driver import Scripted
from workers.cell import BASELINE, Cell
from workers.store import CHECKPOINT, Store

A, B = make_cell("a"), make_cell("b")
SOUP = make_cell("soup", (A, B))
LEAF = make_cell("leaf", (A,))
BASE = make_cell(BASELINE)
SIZES = {MODEL.name: 10}


def plan_of(*nodes: tuple[Cell, str]) -> Plan:
    """A plan of cells, each `new`, `done`, `deleted` (done, without weights) or `scoring`."""
    made = {}
    for cell, state in nodes:
        missing = ("v2",) if state in ("new", "scoring") else ()
        has_weights = cell.is_baseline or state in ("done", "scoring")
        made[cell.cell_id] = Node(cell, ("v2",), missing, has_weights, 0, 0)
    todo = {c for c, node in made.items() if node.missing}
    return Plan(made, frozenset(todo))


def labels(cells: list[str]) -> set[str]:
    names = {cell.cell_id: cell.label for cell in (A, B, SOUP, LEAF)}
    return {names[cell_id] for cell_id in cells}


FRESH = plan_of((BASE, "new"), (A, "new"), (B, "new"), (SOUP, "new"), (LEAF, "new"))


def followed(keep: Keep, *order: Cell) -> list[set[str]]:
    needs = Needs(FRESH, keep)
    assert needs.superfluous == []
    return [labels(needs.done(cell.cell_id)) for cell in order]


def test_a_checkpoint_goes_when_the_last_that_needs_it_is_done() -> None:
    assert followed("needed", BASE, A, B, SOUP, LEAF) == [set(), set(), set(), {"b"}, {"a"}]
    assert followed("none", A, B, LEAF, SOUP) == [set(), set(), {"leaf"}, {"soup", "a", "b"}]
    assert followed("all", A, B, LEAF, SOUP) == [set()] * 4


def test_a_child_that_failed_still_needs_its_parents() -> None:
    assert followed("none", A, B, LEAF) == [set(), set(), {"leaf"}]


@pytest.mark.parametrize(
    ("keep", "expected"), [("all", set()), ("needed", {"b"}), ("none", {"b", "soup"})]
)
def test_what_an_earlier_run_left(keep: Keep, expected: set[str]) -> None:
    plan = plan_of((A, "done"), (B, "done"), (SOUP, "done"), (LEAF, "new"))
    assert labels(Needs(plan, keep).superfluous) == expected


def test_a_missing_evaluation_needs_the_cell_s_own_weights() -> None:
    plan = plan_of((A, "scoring"), (B, "done"), (SOUP, "scoring"))
    assert labels(Needs(plan, "none").superfluous) == {"b"}, "the soup has its own weights"
    assert labels(Needs(plan, "needed").done(A.cell_id)) == {"a"}


def test_what_was_deleted_is_not_deleted_or_trained_again() -> None:
    plan = plan_of((A, "deleted"), (B, "deleted"), (SOUP, "done"))
    assert Needs(plan, "needed").superfluous == []
    assert not any(node.trains_again for node in plan.nodes.values() if not node.missing)
    assert peak_bytes(plan, "needed", SIZES) == 10


@pytest.mark.parametrize(
    ("keep", "peak"),
    # a, b and the soup lie there together; then b goes, and the leaf comes.
    [("all", 40), ("needed", 30), ("none", 30)],
)
def test_the_peak_by_hand(keep: Keep, peak: int) -> None:
    assert peak_bytes(FRESH, keep, SIZES) == peak
    assert peak_bytes(FRESH, keep, {}) == 0


class Weighing(Scripted):
    """Leaves a checkpoint of each cell, and weighs what lies in the store."""

    most = 0

    def wait_any(self, timeout_s: float | None = None) -> tuple[Job, Outcome] | None:
        finished = super().wait_any(timeout_s)
        assert finished is not None
        cell = finished[0].cell
        for parent in cell.parents:
            assert parent.is_baseline or self.store.has_checkpoint(parent.cell_id), "deleted early"
        if not cell.is_baseline:
            self.store.save_artifact(cell.cell_id, CHECKPOINT, b"x" * 10)
        self.most = max(self.most, 10 * len(self.store.committed().checkpoints))
        return finished


@settings(max_examples=40, deadline=None)
@given(
    parents=st.lists(st.sets(st.integers(0, 6), max_size=2), min_size=1, max_size=7),
    keep=st.sampled_from(["all", "needed", "none"]),
)
def test_a_driver_deletes_nothing_too_early_and_takes_what_was_said(
    tmp_path_factory: pytest.TempPathFactory, parents: list[set[int]], keep: Keep
) -> None:
    cells: list[Cell] = []
    for i, above in enumerate(parents):
        cells.append(make_cell(f"c{i}", tuple(cells[p] for p in sorted(above) if p < i)))
    plan = plan_of(*((cell, "new") for cell in cells))
    store = Store(str(tmp_path_factory.mktemp("store")))
    executor = Weighing(store, capacity=1)
    driver = Driver(plan, executor, store)
    driver.priority = order_of(plan)
    driver.on_done = Keeper(Needs(plan, keep), store).done
    assert driver.run().ok
    assert executor.most == peak_bytes(plan, keep, SIZES)
    has_children = {parent.cell_id for cell in cells for parent in cell.parents}
    left = {
        "all": {cell.cell_id for cell in cells},
        "needed": {cell.cell_id for cell in cells} - has_children,
        "none": set[str](),
    }
    assert store.committed().checkpoints == left[keep]


def test_few_checkpoints_are_needed_at_a_time_in_the_order_of_sets() -> None:
    cells: list[Cell] = []
    for seed in range(9):
        members = (make_cell("a", seed=seed), make_cell("b", seed=seed))
        cells += [*members, make_cell("soup", members, seed=seed)]
    plan = plan_of(*((cell, "new") for cell in cells))
    assert peak_bytes(plan, "all", SIZES) == 270
    assert peak_bytes(plan, "needed", SIZES) == 90 + 20, "nine soups, and two that the last needs"


def test_what_is_superfluous_is_deleted_once(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.save_artifact(B.cell_id, CHECKPOINT, b"x")
    keeper = Keeper(Needs(plan_of((B, "done"), (SOUP, "done")), "needed"), store)
    keeper.clear()
    assert not store.has_checkpoint(B.cell_id)
    keeper.clear()
