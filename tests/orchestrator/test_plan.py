"""From a grid and what the store holds to what is left to do."""

import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.grid import Grid, MethodEntry
from orchestrator.grid_file import Resources
from orchestrator.plan import Node, Only, Plan, expand, make_plan
from tests.cells import make_cell
from workers.cell import Cell, Model
from workers.curve import Curve, EpochKey
from workers.labels import LabelSpace
from workers.methods import methods
from workers.recipe import Recipe
from workers.store import Committed
from workers.suites import DatasetSpec, Suite

SUITE = Suite(
    name="s",
    version="1",
    space=LabelSpace(("x", "y")),
    id=DatasetSpec("val", "val", n_images=10),
    ood=(
        DatasetSpec("a", "a", n_images=20),
        DatasetSpec("c", "c", n_images=30, splits=(("fog", 1), ("fog", 2))),
    ),
)


def entry(label: str, method: str | None = None, **hyperparameters: object) -> MethodEntry:
    kind = methods()[method or label]
    return MethodEntry(label, kind, kind.Config.model_validate(hyperparameters))


SOUP = entry("soup", members=("pretrained", "ft", "lwf"))


def make_grid(*entries: MethodEntry, seeds: tuple[int, ...] = (0,)) -> Grid:
    return Grid(
        name="g",
        suite=SUITE,
        data_root=Path(),
        store="",
        models=(Model("m1", "arch1", "timm:1"), Model("m2", "arch2", "timm:2")),
        downstream=("a", "c"),
        methods=entries,
        seeds=seeds,
        recipe=Recipe(epochs=2),
        evaluate=("val", "a", "c"),
        resources=Resources(),
    )


def hold(cells: Iterable[Cell], sets: Iterable[str], weights: bool = True) -> Committed:
    """Return a store in which these cells have all splits of these sets."""
    committed = Committed()
    for cell in cells:
        committed.splits[cell.cell_id] = {
            name: set(SUITE.evaluation_sets[name].splits) for name in sets
        }
        if weights and not cell.is_baseline:
            committed.checkpoints.add(cell.cell_id)
    return committed


def cells_of(plan: Plan, label: str) -> list[Cell]:
    return [node.cell for node in plan.nodes.values() if node.cell.label == label]


ALL = ("val", "a", "c")


def test_a_grid_s_cells_are_models_x_downstream_x_methods_x_seeds_and_baselines() -> None:
    plan = make_plan(make_grid(entry("ft"), entry("lwf"), seeds=(0, 1)), Committed())
    assert len(plan.nodes) == 2 + 2 * 2 * 2 * 2
    assert plan.todo == set(plan.nodes)
    assert all(node.missing == node.wanted == ALL for node in plan.nodes.values())
    assert plan.n_edges == 0
    baselines = cells_of(plan, "pretrained")
    assert [(c.model.name, c.downstream, c.seed) for c in baselines] == [
        ("m1", None, 0),
        ("m2", None, 0),
    ]


def test_parents_come_before_children_and_bring_themselves_along() -> None:
    plan = make_plan(make_grid(SOUP), Committed())
    order = list(plan.nodes)
    soups = cells_of(plan, "soup")
    assert len(soups) == 4
    for soup in soups:
        assert [parent.label for parent in soup.parents] == ["pretrained", "ft", "lwf"]
        assert all(order.index(p.cell_id) < order.index(soup.cell_id) for p in soup.parents)
        # A baseline is its own file: nothing waits for it.
        assert plan.parents(soup.cell_id) == [p.cell_id for p in soup.parents[1:]]
        assert plan.waits_for(soup.cell_id) == plan.parents(soup.cell_id)
    for label in ("ft", "lwf"):
        for cell in cells_of(plan, label):
            node = plan.nodes[cell.cell_id]
            assert node.is_prerequisite
            assert (node.wanted, node.missing) == ((), ())
            assert cell.cell_id in plan.todo
    assert plan.n_edges == 4 * 2
    assert {n.cell.label for n in plan.nodes.values() if n.wanted} == {"pretrained", "soup"}


def test_a_prerequisite_is_the_cell_that_the_grid_would_name() -> None:
    alone = make_plan(make_grid(SOUP), Committed())
    named = make_plan(make_grid(entry("ft"), entry("lwf"), SOUP), Committed())
    assert set(alone.nodes) == set(named.nodes)


def test_only_keeps_the_chosen_their_prerequisites_and_the_baselines() -> None:
    grid = make_grid(entry("ft"), entry("lwf"), SOUP, seeds=(0, 1))
    only = {
        "method": frozenset({"soup"}),
        "downstream": frozenset({"a"}),
        "model": frozenset({"m2"}),
        "seed": frozenset({"1"}),
    }
    plan = make_plan(grid, Committed(), only)
    found = [(n.cell.model.name, n.cell.label, n.cell.seed) for n in plan.nodes.values()]
    assert sorted(found) == [
        ("m1", "pretrained", 0),
        ("m2", "ft", 1),
        ("m2", "lwf", 1),
        ("m2", "pretrained", 0),
        ("m2", "soup", 1),
    ]
    requested = [n.cell.label for n in plan.nodes.values() if n.wanted]
    assert requested == ["pretrained", "pretrained", "soup"]


def test_a_cell_that_is_named_runs_alone_with_what_it_is_made_from() -> None:
    """Also one that the grid has only since others need it, and a baseline only if it is named."""
    grid = make_grid(entry("ft"), entry("lwf"), entry("soup"))
    grid_cells = {cell.cell_id: cell for cell in expand(grid)}
    soup = next(cell for cell in grid_cells.values() if cell.label == "soup")
    plan = make_plan(grid, Committed(), {"cell": frozenset({soup.cell_id})})
    assert set(plan.todo) == {soup.cell_id, *(p.cell_id for p in soup.parents if not p.is_baseline)}
    prerequisite = next(cell for cell in soup.parents if cell.cell_id not in grid_cells)
    named: Only = {"cell": frozenset({prerequisite.cell_id})}
    plan = make_plan(grid, Committed(), named)
    assert plan.todo == {prerequisite.cell_id}
    assert plan.nodes[prerequisite.cell_id].is_prerequisite
    assert make_plan(grid, hold([prerequisite], []), named).todo == set(), "it is made"
    contradiction = {**named, "method": frozenset({"ft"})}
    assert make_plan(grid, Committed(), contradiction).nodes == {}
    baseline = next(cell for cell in grid_cells.values() if cell.is_baseline)
    assert make_plan(grid, Committed(), {"cell": frozenset({baseline.cell_id})}).todo == {
        baseline.cell_id
    }


def test_what_is_done_is_subtracted() -> None:
    grid = make_grid(entry("ft"))
    cells = list(expand(grid))
    assert make_plan(grid, hold(cells, ALL)).todo == frozenset()
    assert make_plan(grid, hold(cells[1:], ALL)).todo == {cells[0].cell_id}
    # A set that misses one of its splits is missing.
    committed = hold(cells, ALL)
    committed.splits[cells[1].cell_id]["c"].remove(("fog", 2))
    plan = make_plan(grid, committed)
    assert plan.todo == {cells[1].cell_id}
    assert plan.nodes[cells[1].cell_id].missing == ("c",)
    assert plan.nodes[cells[1].cell_id].cost == 1 + 30


def test_a_set_that_is_added_later_needs_neither_training_nor_parents() -> None:
    grid = make_grid(entry("ft"), SOUP)
    soups = [cell for cell in expand(grid) if cell.label == "soup"]
    others = [parent for soup in soups for parent in soup.parents]
    committed = hold({*expand(grid), *others}, ["val", "a"])
    plan = make_plan(grid, committed)
    assert plan.todo == {cell.cell_id for cell in expand(grid)}  # no lwf: not asked for
    for cell_id in plan.todo:
        node = plan.nodes[cell_id]
        assert node.missing == ("c",)
        assert node.training_images == 0
        assert plan.waits_for(cell_id) == []
        assert node.cost == 1 + 30


def test_a_prerequisite_whose_dependents_are_done_is_not_run() -> None:
    grid = make_grid(SOUP)
    plan = make_plan(grid, hold(expand(grid), ALL))
    assert plan.todo == frozenset()
    assert len(plan.nodes) == 2 + 4 * 3
    # Nor when the dependent only lacks rows; but without its weights it takes both members.
    soup = cells_of(plan, "soup")[0]
    committed = hold(expand(grid), ALL)
    del committed.splits[soup.cell_id]["val"]
    assert make_plan(grid, committed).todo == {soup.cell_id}
    committed.checkpoints.remove(soup.cell_id)
    parents = {parent.cell_id for parent in soup.parents if not parent.is_baseline}
    assert make_plan(grid, committed).todo == {soup.cell_id} | parents


def test_a_done_member_without_weights_is_made_again_but_not_scored() -> None:
    grid = make_grid(entry("ft"), entry("lwf"), SOUP)
    cells = list(expand(grid))
    committed = hold([c for c in cells if c.label != "soup"], ALL)
    ft = next(cell for cell in cells if cell.label == "ft")
    committed.checkpoints.remove(ft.cell_id)
    plan = make_plan(grid, committed)
    assert ft.cell_id in plan.todo
    assert plan.nodes[ft.cell_id].missing == ()
    assert plan.nodes[ft.cell_id].training_images > 0
    assert not any(cell.cell_id in plan.todo for cell in cells if cell.label == "lwf")


def test_costs_are_forward_passes() -> None:
    plan = make_plan(make_grid(entry("ft")), Committed())
    for cell in cells_of(plan, "ft"):
        node = plan.nodes[cell.cell_id]
        n = {"a": 20, "c": 30}[str(cell.downstream)]
        assert node.training_images == 2 * n
        assert node.evaluation_images == 10 + 20 + 30
        assert node.cost == 1 + 3 * 2 * n + 60


# ---------------------------------------------------------------------- the graph by itself


def make_node(cell: Cell, cost: int = 0, weights: bool = False) -> Node:
    return Node(cell, ("val",), ("val",), weights, 0, evaluation_images=cost)


def test_priority_is_the_longest_chain_of_work() -> None:
    #  a -> b -> d;  a -> c;  e alone. Weights cost 1 each; only these are waited for.
    a = make_cell("a")
    b, c, e = make_cell("b", (a,)), make_cell("c", (a,)), make_cell("e")
    d = make_cell("d", (b,))
    costs = {a: 0, b: 1, c: 9, d: 2, e: 3}  # of its rows
    plan = Plan(
        {cell.cell_id: make_node(cell, cost) for cell, cost in costs.items()},
        frozenset(cell.cell_id for cell in costs),
    )
    priority = {plan.nodes[cell_id].cell.label: p for cell_id, p in plan.priority.items()}
    assert priority == {"a": 11, "b": 4, "c": 10, "d": 3, "e": 4}
    assert set(plan.descendants(a.cell_id)) == {x.cell_id for x in (b, c, d)}
    assert len(list(plan.descendants(a.cell_id))) == 3


def test_a_cell_that_has_its_weights_waits_for_nothing_and_blocks_nothing() -> None:
    a = make_cell("a")
    b = make_cell("b", (a,))
    c = make_cell("c", (b,))
    nodes = {cell.cell_id: make_node(cell, weights=cell == b) for cell in (a, b, c)}
    plan = Plan(nodes, frozenset(nodes))
    assert plan.parents(b.cell_id) == [a.cell_id]
    assert plan.waits_for(b.cell_id) == []
    assert plan.waits_for(c.cell_id) == []
    assert list(plan.descendants(a.cell_id)) == []
    assert plan.n_edges == 2


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.2, 0.5, 0.9]))
def test_what_is_to_do_is_closed_and_no_more_than_needed(seed: int, share: float) -> None:
    rng = random.Random(seed)
    nested = entry("nested", "soup", members=("soup", "ft"))
    entries = [entry("ft"), entry("lwf"), SOUP, nested]
    chosen = [e for e in entries if rng.random() < 0.6] or entries
    if nested in chosen and SOUP not in chosen:
        chosen.append(SOUP)
    grid = make_grid(*chosen)
    everything = {cell_id: n.cell for cell_id, n in make_plan(grid, Committed()).nodes.items()}
    committed = Committed()
    for cell_id, cell in everything.items():
        if not cell.is_baseline and rng.random() < share:
            committed.checkpoints.add(cell_id)
        committed.splits[cell_id] = {
            name: set(SUITE.evaluation_sets[name].splits) for name in ALL if rng.random() < share
        }
    plan = make_plan(grid, committed)
    for cell_id, node in plan.nodes.items():
        has_rows = all(name in committed.splits[cell_id] for name in node.wanted)
        assert has_rows == (not node.missing)
        if node.missing:
            assert cell_id in plan.todo
        if cell_id in plan.todo:
            if not node.has_weights:
                for parent in plan.parents(cell_id):
                    assert parent in committed.checkpoints or parent in plan.todo
            # It has rows to make, or a cell that runs needs its weights.
            assert node.missing or (
                not node.has_weights
                and any(cell_id in plan.waits_for(child) for child in plan.todo)
            )


def test_an_unknown_parent_is_an_error() -> None:
    with pytest.raises(KeyError):
        make_plan(make_grid(entry("s", "soup", members=("ft", "nothing"))), Committed())


# ---------------------------------------------------------------------- along the way


CURVE = Curve(("val", "c"), every=2, fraction=0.5)


def along(cell: Cell, *moments: tuple[str, int], fraction: float = 0.5) -> dict[EpochKey, int]:
    return {
        (name, epoch, fraction, 0): len(SUITE.evaluation_sets[name].splits)
        for name, epoch in moments
    }


WHOLE = tuple((name, epoch) for epoch in (0, 2) for name in ("val", "c"))


def test_a_curve_costs_its_part_of_the_images_at_each_epoch() -> None:
    grid = replace(make_grid(entry("ft")), curve=CURVE)
    plain, curved = make_plan(make_grid(entry("ft")), Committed()), make_plan(grid, Committed())
    for cell_id, node in curved.nodes.items():
        extra = 0 if node.cell.is_baseline else 2 * round(0.5 * (10 + 30))
        assert node.evaluation_images == plain.nodes[cell_id].evaluation_images + extra


def test_a_curve_makes_no_trained_cell_run_and_is_said_to_be_lost() -> None:
    grid = replace(make_grid(entry("ft")), curve=CURVE)
    cells = list(expand(grid))
    plan = make_plan(grid, hold(cells, ALL))
    assert plan.todo == set()
    assert plan.without_curve == [cell.cell_id for cell in cells if not cell.is_baseline]


@pytest.mark.parametrize(
    ("moments", "fraction", "is_whole"),
    [
        (WHOLE, 0.5, True),
        (WHOLE[:-1], 0.5, False),
        (WHOLE, 0.25, False),
        ((), 0.5, False),
    ],
)
def test_a_curve_is_whole_with_all_of_its_epochs_on_its_own_part(
    moments: tuple[tuple[str, int], ...], fraction: float, is_whole: bool
) -> None:
    grid = replace(make_grid(entry("ft")), curve=CURVE)
    cells = list(expand(grid))
    committed = hold(cells, ALL)
    for cell in cells:
        if not cell.is_baseline:
            committed.epochs[cell.cell_id] = along(cell, *moments, fraction=fraction)
    plan = make_plan(grid, committed)
    assert (plan.without_curve == []) == is_whole
    for node in plan.nodes.values():
        if not node.cell.is_baseline:
            assert node.recorded == (frozenset(moments) if fraction == 0.5 else frozenset())


def test_a_split_that_is_missing_is_scored_again() -> None:
    grid = replace(make_grid(entry("ft")), curve=CURVE)
    cell = next(cell for cell in expand(grid) if not cell.is_baseline)
    committed = Committed(epochs={cell.cell_id: {("c", 0, 0.5, 0): 1, ("val", 0, 0.5, 0): 1}})
    assert make_plan(grid, committed).nodes[cell.cell_id].recorded == {("val", 0)}


def test_predictions_that_are_asked_for_later_are_evaluations_alone() -> None:
    plain = make_grid(entry("ft"))
    grid = replace(plain, predictions=("a", "val"))
    cells = list(expand(grid))
    committed = hold(cells, ALL)
    committed.predictions = {cell.cell_id: {"val"} for cell in cells}
    assert [c.cell_id for c in cells] == [c.cell_id for c in expand(plain)]
    plan = make_plan(grid, committed)
    assert plan.todo == set(plan.nodes)
    for node in plan.nodes.values():
        assert (node.missing, node.scored, node.has_to_train) == (("a",), ("a",), False)
    committed.predictions = {cell.cell_id: {"val", "a"} for cell in cells}
    assert make_plan(grid, committed).todo == set()


def test_predictions_train_nothing_again() -> None:
    """Without its checkpoint a cell would have to be trained again: that is said instead."""
    grid = replace(make_grid(entry("ft")), predictions=("a",))
    cells = list(expand(grid))
    plan = make_plan(grid, hold(cells, ALL, weights=False))
    baselines = {cell.cell_id for cell in cells if cell.is_baseline}
    assert plan.todo == baselines
    assert set(plan.without_predictions) == {cell.cell_id for cell in cells} - baselines
    # A cell that runs anyway makes them, too.
    plan = make_plan(grid, hold(cells, ("val", "a"), weights=False))
    assert plan.without_predictions == []
    for node in plan.nodes.values():
        assert (node.missing, node.scored) == (("a", "c"), ("a",))
