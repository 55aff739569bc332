"""Grid + what the store holds -> Plan: the cells, the edges between them, and what is left to do.

Pure: nothing is read or written here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from orchestrator.expansion import cells_by_id, collection_paused, expand
from orchestrator.grid import Grid
from workers.cell import Cell
from workers.curve import Curve
from workers.store import Committed
from workers.suites import Suite

__all__ = ["Node", "Only", "Plan", "expand", "make_plan"]

TRAINING_COST = 3.0
"""Cost of training on an image, with a forward pass as 1: a backward pass is about two."""

Only = Mapping[str, frozenset[str]]
"""Values that model, downstream, method, seed and cell (its id) may take; a key that is absent may
take any."""

_CHOSEN_BY: Mapping[str, Callable[[Cell], str | None]] = {
    "model": lambda cell: cell.model.name,
    "downstream": lambda cell: cell.downstream,
    "method": lambda cell: cell.label,
    "seed": lambda cell: str(cell.seed),
    "cell": lambda cell: cell.cell_id,
}


@dataclass(frozen=True, slots=True)
class Node:
    """One cell of a plan, and how far it is."""

    cell: Cell
    wanted: tuple[str, ...]
    """The evaluation sets that the grid asks for; none for a mere prerequisite."""
    missing: tuple[str, ...]
    """Those of them whose rows, or predictions that are asked for, are not all in the store."""
    has_weights: bool
    training_images: int
    """Images that training passes over, epochs counted; 0 when nothing has to be trained."""
    evaluation_images: int
    """Images of the missing evaluation sets, and of the curve if it is made."""
    training_weight: float = 1.0
    """Cost of training on an image by this method, with plain fine-tuning as 1."""
    shared_pass: str | None = None
    """What training takes from one pass of the pre-trained model that other cells use, too."""
    shared_images: int = 0
    """Images of that pass, if there is one."""
    curve: Curve | None = None
    """What is asked for along its training; None where nothing is, or nothing is trained."""
    recorded: frozenset[tuple[str, int]] = frozenset()
    """The sets and epochs of which that is in the store."""
    has_curve: bool = True
    """Whether all of it is."""
    scored: tuple[str, ...] = ()
    """The missing sets whose rows are there, and only predictions are not."""
    unpredicted: tuple[str, ...] = ()
    """The sets whose predictions are asked for and cannot be had: its checkpoint is not kept."""

    @property
    def is_prerequisite(self) -> bool:
        return not self.wanted

    @property
    def has_to_train(self) -> bool:
        """Whether running this cell tunes weights, as opposed to scoring or combining them."""
        return self.cell.recipe is not None and not self.has_weights

    @property
    def trains_again(self) -> bool:
        """Whether it would tune weights that were there once: only cells with weights get rows."""
        return self.has_to_train and len(self.missing) < len(self.wanted)

    @property
    def making_cost(self) -> float:
        """Cost of its weights, in forward passes of one image."""
        return 1.0 + TRAINING_COST * self.training_weight * self.training_images

    @property
    def cost(self) -> float:
        """Cost of its weights and rows, in forward passes of one image."""
        return self.making_cost + self.evaluation_images


@dataclass(frozen=True)
class Plan:
    """Every cell of a grid by id, parents before children."""

    nodes: dict[str, Node]
    todo: frozenset[str] = field(default=frozenset())
    """The cells that have to run, prerequisites included."""

    def parents(self, cell_id: str) -> list[str]:
        """Return the cells whose checkpoints a cell is made from. A baseline is its own file."""
        return [p.cell_id for p in self.nodes[cell_id].cell.parents if not p.is_baseline]

    def waits_for(self, cell_id: str) -> list[str]:
        """Return the cells that have to run before a cell can: they make weights that it needs."""
        if cell_id not in self.todo or self.nodes[cell_id].has_weights:
            return []
        return [
            parent
            for parent in self.parents(cell_id)
            if parent in self.todo and not self.nodes[parent].has_weights
        ]

    @cached_property
    def waiting(self) -> Mapping[str, Sequence[str]]:
        """Return, for every cell, the cells that wait for it."""
        waiting: dict[str, Sequence[str]] = dict.fromkeys(self.nodes, ())
        for cell_id in self.nodes:
            for parent in self.waits_for(cell_id):
                waiting[parent] = [*waiting[parent], cell_id]
        return waiting

    @property
    def spared_passes(self) -> int:
        """Count the forward passes of an image that are spared by making one for all cells.

        Without sharing, each cell asks the pre-trained model about each image in each epoch.
        """
        asked, shared = 0, {}
        for cell_id in self.todo:
            node = self.nodes[cell_id]
            if node.shared_images:
                asked += node.training_images
                key = (node.cell.model.name, node.cell.downstream, node.shared_pass)
                shared[key] = node.shared_images
        return asked - sum(shared.values())

    @property
    def without_curve(self) -> list[str]:
        """The trained cells that lack a part of the curve that is asked for: it is lost."""
        return [
            cell_id
            for cell_id, node in self.nodes.items()
            if not node.has_curve and not (node.has_to_train and cell_id in self.todo)
        ]

    @property
    def without_predictions(self) -> list[str]:
        """The cells that lack predictions that are asked for, and are not made again for them."""
        return [cell_id for cell_id, node in self.nodes.items() if node.unpredicted]

    @property
    def lacks_what_cannot_be_made(self) -> bool:
        """Whether anything that is asked for is missing and will stay so."""
        return bool(self.without_curve or self.without_predictions)

    @property
    def n_edges(self) -> int:
        return sum(len(self.parents(cell_id)) for cell_id in self.nodes)

    @cached_property
    def priority(self) -> dict[str, float]:
        """The order by cost in images: see `priority_by`."""
        return self.priority_by(lambda _: 1.0)

    def priority_by(self, slowness: Callable[[Node], float]) -> dict[str, float]:
        """Return for each cell the cost of the longest chain of work that starts with it.

        Taking ready cells by it runs the critical path first and the longest cells early. What is
        made from a cell waits for its weights, not for its rows.

        Args:
            slowness: of a cell: what its cost in images is multiplied by.
        """
        priority: dict[str, float] = {}
        for cell_id in reversed(self.nodes):
            node = self.nodes[cell_id]
            scoring, pace = node.cost - node.making_cost, slowness(node)
            below = (priority[child] for child in self.waiting[cell_id])
            priority[cell_id] = pace * node.making_cost + max(pace * scoring, *below, 0.0)
        return priority

    def descendants(self, cell_id: str) -> Iterator[str]:
        """Yield every cell that cannot run without a cell, directly or not, once."""
        seen: set[str] = set()
        stack = list(self.waiting[cell_id])
        while stack:
            child = stack.pop()
            if child not in seen:
                seen.add(child)
                yield child
                stack.extend(self.waiting[child])


@collection_paused()
def make_plan(grid: Grid, committed: Committed, only: Only | None = None) -> Plan:
    """Expand a grid into cells and subtract what the store holds.

    Args:
        grid: whose weights files should be there, or the cells' ids are provisional.
        committed: what the store holds.
        only: which cells to ask for; what they are made from comes along, and so do baselines,
            unless cells are named by their ids.
    """
    asked = only or {}
    are_named = "cell" in asked
    wanted = {
        cell.cell_id: cell
        for cell in expand(grid)
        if is_chosen(cell, asked) or (cell.is_baseline and not are_named)
    }
    named = _prerequisites(grid, asked) if are_named else {}
    cells = _with_ancestors([*wanted.values(), *named.values()])
    progress = _Progress(grid, committed)
    nodes = {
        cell_id: progress.node(cell, grid.evaluate if cell_id in wanted else ())
        for cell_id, cell in cells.items()
    }
    return Plan(nodes, frozenset(_to_run(nodes, named)))


def every_cell(grid: Grid) -> dict[str, Cell]:
    """Return the cells of a grid by their ids, prerequisites included, parents first."""
    return _with_ancestors(expand(grid))


def _prerequisites(grid: Grid, only: Only) -> dict[str, Cell]:
    """Return the cells that are asked for, and that the grid has only since others need them."""
    own = cells_by_id(grid)
    return {
        cell_id: cell
        for cell_id, cell in every_cell(grid).items()
        if cell_id not in own and is_chosen(cell, only)
    }


def is_chosen(cell: Cell, only: Only) -> bool:
    """Whether a cell is one of those that are asked for."""
    return all(_CHOSEN_BY[key](cell) in allowed for key, allowed in only.items())


def _with_ancestors(cells: Iterable[Cell]) -> dict[str, Cell]:
    ordered: dict[str, Cell] = {}

    def add(cell: Cell) -> None:
        if cell.cell_id not in ordered:
            for parent in cell.parents:
                add(parent)
            ordered[cell.cell_id] = cell

    for cell in cells:
        add(cell)
    return ordered


@dataclass(frozen=True)
class _Work:
    """What the seeds of a method on a downstream set have in common."""

    trains: bool
    n_images: int
    weight: float
    shared_pass: str | None


class _Progress:
    """How far the cells of a grid are, with what many of them have in common found out once."""

    def __init__(self, grid: Grid, committed: Committed) -> None:
        self._grid, self._committed = grid, committed
        self._works: dict[tuple[str, str | None], _Work] = {}
        self._unscored: dict[int, tuple[str, ...]] = {}
        """Evaluation sets, by the splits that are there: cells with the same share one object."""

    def node(self, cell: Cell, wanted: tuple[str, ...]) -> Node:
        """Say how far a cell is. `wanted` are the grid's evaluation sets, or none."""
        grid, committed = self._grid, self._committed
        work = self._work(cell)
        unscored = self._sets_unscored(cell) if wanted else ()
        has_weights = cell.is_baseline or cell.cell_id in committed.checkpoints
        kept = committed.predictions.get(cell.cell_id, set()) if grid.predictions else set()
        unkept = [n for n in wanted if n in grid.predictions and n not in kept]
        # Without a checkpoint it would have to be trained again, and is not for predictions alone.
        can_predict = has_weights or bool(unscored)
        missing = unscored
        if unkept and can_predict:
            missing = tuple(n for n in wanted if n in unscored or n in unkept)
        trains = work.trains and not has_weights
        curve = grid.curve if wanted and cell.recipe is not None else None
        recorded = frozenset() if curve is None else _recorded(cell, curve, grid.suite, committed)
        evaluated = sum(_n_images(grid.suite, name) for name in missing)
        if trains and curve is not None:
            evaluated += _n_on_curve(curve, cell, grid.suite)
        return Node(
            cell=cell,
            wanted=wanted,
            missing=missing,
            has_weights=has_weights,
            training_images=_n_trained_on(work.n_images, cell) if trains else 0,
            evaluation_images=evaluated,
            training_weight=work.weight,
            shared_pass=work.shared_pass,
            shared_images=work.n_images if trains and work.shared_pass is not None else 0,
            curve=curve,
            recorded=recorded,
            has_curve=curve is None or _is_whole(curve, cell.recipe or {}, recorded),
            scored=tuple(n for n in missing if n not in unscored) if unkept else (),
            unpredicted=() if can_predict else tuple(unkept),
        )

    def _work(self, cell: Cell) -> _Work:
        key = cell.label, cell.downstream
        if key not in self._works:
            entry = self._grid.method(cell.label)
            self._works[key] = _Work(
                trains=cell.downstream is not None and entry.kind.trains,
                n_images=_n_images(self._grid.suite, cell.downstream),
                weight=entry.kind.cost(entry.config),
                shared_pass=entry.kind.shared_pass(entry.config),
            )
        return self._works[key]

    def _sets_unscored(self, cell: Cell) -> tuple[str, ...]:
        """Return the grid's evaluation sets of which a cell lacks a row."""
        there = self._committed.splits.get(cell.cell_id)
        if id(there) not in self._unscored:
            sets = self._grid.suite.evaluation_sets
            self._unscored[id(there)] = tuple(
                name
                for name in self._grid.evaluate
                if not self._committed.has(cell.cell_id, name, sets[name].splits)
            )
        return self._unscored[id(there)]


def _recorded(
    cell: Cell, curve: Curve, suite: Suite, committed: Committed
) -> frozenset[tuple[str, int]]:
    """Return the sets and epochs that a cell was scored on and after, while it was trained."""
    found = committed.epochs.get(cell.cell_id, {})
    return frozenset(
        (name, epoch)
        for (name, epoch, *part), n_splits in found.items()
        if name in curve.sets
        and part == [curve.fraction, curve.seed]
        and n_splits >= len(suite.evaluation_sets[name].splits)
    )


def _is_whole(
    curve: Curve, recipe: Mapping[str, Any], recorded: AbstractSet[tuple[str, int]]
) -> bool:
    """Whether a curve has all of its epochs.

    Where training may stop early, it is taken to have gone as far as the last of them.
    """
    last = recipe["epochs"]
    if recipe["patience"] is not None:
        last = max((epoch for _, epoch in recorded), default=last)
    wanted = (epoch for epoch in curve.epochs(recipe["epochs"]) if epoch <= last)
    return all((name, epoch) in recorded for epoch in wanted for name in curve.sets)


def _n_on_curve(curve: Curve, cell: Cell, suite: Suite) -> int:
    """Return about how many images are evaluated along a cell's training."""
    assert cell.recipe is not None
    images = sum(_n_images(suite, name) for name in curve.sets)
    return len(curve.epochs(cell.recipe["epochs"])) * round(curve.fraction * images)


def _n_trained_on(n_images: int, cell: Cell) -> int:
    """Return the images of all epochs, without those held out; stopping early makes it fewer."""
    assert cell.recipe is not None, f"{cell} trains nothing"
    held_out = round(float(cell.recipe["holdout"]) * n_images)
    return (n_images - held_out) * int(cell.recipe["epochs"])


def _n_images(suite: Suite, name: str | None) -> int:
    return 0 if name is None else suite.evaluation_sets[name].n_images or 0


def _to_run(nodes: dict[str, Node], named: Iterable[str]) -> Iterator[str]:
    """Yield the cells that have rows to make, and those whose weights such a cell needs.

    Prerequisites that are named are needed, too.
    """
    needed = set(named)
    for cell_id in reversed(nodes):
        node = nodes[cell_id]
        runs = bool(node.missing) or (cell_id in needed and not node.has_weights)
        if runs:
            yield cell_id
            if not node.has_weights:
                needed.update(parent.cell_id for parent in node.cell.parents)
