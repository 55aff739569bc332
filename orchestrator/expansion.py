"""The cells of a grid: each model's baseline, then downstream x method x seed. Pure."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from orchestrator.grid import Grid, MethodEntry
from workers.cell import BASELINE, Cell, Model, Siblings


@contextmanager
def collection_paused() -> Iterator[None]:
    """Keep the garbage collector from looking for cycles while many cells are made.

    There are none, and the more cells there are, the longer it looks each time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@collection_paused()
def cells_by_id(grid: Grid) -> dict[str, Cell]:
    """Return the cells of a grid by their ids, each model's baseline first."""
    return {cell.cell_id: cell for cell in expand(grid)}


def expand(grid: Grid) -> Iterator[Cell]:
    """Yield the cells of a grid, each model's baseline first."""
    for model in grid.models:
        yield from _OfModel(grid, model).cells()


def baselines(grid: Grid) -> list[Cell]:
    """Return the cell of each model as it came."""
    return [_OfModel(grid, model).baseline for model in grid.models]


class _OfModel:
    """The cells of one model, each made once however many cells start from it."""

    def __init__(self, grid: Grid, model: Model) -> None:
        self._grid, self._model = grid, model
        self._of_methods: dict[tuple[str, str], _OfMethod] = {}
        self.baseline = Cell(
            suite=grid.suite.name,
            suite_version=grid.suite.version,
            model=model,
            method=BASELINE,
            method_version=grid.method(BASELINE).kind.version,
            label=BASELINE,
        )

    def cells(self) -> Iterator[Cell]:
        yield self.baseline
        seeds = self._grid.seeds
        for downstream in self._grid.downstream:
            for entry in self._grid.methods:
                if entry.kind.name != BASELINE and entry.is_for(self._model.name):
                    of_method = self._of_method(downstream, entry)
                    pools_seeds = bool(of_method.seeds)
                    yield from map(of_method.cell, seeds[:1] if pools_seeds else seeds)

    def _of_method(self, downstream: str, entry: MethodEntry) -> _OfMethod:
        key = (downstream, entry.label)
        if key not in self._of_methods:
            cell = self._without_seed_and_parents(downstream, entry)
            starts: list[_OfMethod | None] = [
                None if start == BASELINE else self._of_method(downstream, self._grid.method(start))
                for start in entry.kind.starts_from(entry.config)
            ]
            seeds = tuple(entry.kind.seeds(entry.config))
            self._of_methods[key] = _OfMethod(cell, starts, self.baseline, seeds)
        return self._of_methods[key]

    def _without_seed_and_parents(self, downstream: str, entry: MethodEntry) -> Cell:
        grid, trains = self._grid, entry.kind.trains
        config, recipe = grid.settings(self._model.name, downstream, entry)
        return Cell(
            suite=grid.suite.name,
            suite_version=grid.suite.version,
            model=self._model,
            method=entry.kind.name,
            method_version=entry.kind.version,
            label=entry.label,
            downstream=downstream,
            hyperparameters=config.model_dump(mode="json"),
            recipe=recipe.model_dump(mode="json") if trains else None,
            skip_undecodable=trains and downstream in grid.skip_undecodable,
            accept_images=grid.accept_images.get(downstream) if trains else None,
        )


class _OfMethod:
    """The cells of one model and method on one set: one of each seed."""

    def __init__(
        self,
        cell: Cell,
        starts: Sequence[_OfMethod | None],
        baseline: Cell,
        seeds: tuple[int, ...],
    ) -> None:
        """Prepare to make them.

        Args:
            cell: without its seed and its parents.
            starts: whose cells its cells start from; None stands for the baseline.
            baseline: the model as it came.
            seeds: whose cells each cell starts from, if not from those of its own seed.
        """
        self.seeds = seeds
        self._siblings = Siblings(cell)
        self._starts, self._baseline = starts, baseline
        self._made: dict[int, Cell] = {}

    def cell(self, seed: int) -> Cell:
        cell = self._made.get(seed)
        if cell is None:
            parents = tuple(self._parents(seed)) if self._starts else ()
            cell = self._made[seed] = self._siblings.cell(seed, parents)
        return cell

    def _parents(self, seed: int) -> Iterator[Cell]:
        for start in self._starts:
            if start is None:
                yield self._baseline
            else:
                yield from map(start.cell, self.seeds or (seed,))
