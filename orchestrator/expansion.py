"""The cells of a grid: each model's baseline, then downstream x method x seed. Pure."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from orchestrator.grid import Grid, MethodEntry
from workers.cell import BASELINE, Cell, Model


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
        self._made: dict[tuple[str, str, int], Cell] = {}
        self._templates: dict[tuple[str, str], tuple[Cell, Sequence[str]]] = {}
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
                    pools_seeds = bool(entry.kind.seeds(entry.config))
                    for seed in seeds[:1] if pools_seeds else seeds:
                        yield self._cell(downstream, entry, seed)

    def _cell(self, downstream: str, entry: MethodEntry, seed: int) -> Cell:
        key = (downstream, entry.label, seed)
        cell = self._made.get(key)
        if cell is None:
            template, starts = self._template(downstream, entry)
            parents = tuple(self._parents(downstream, entry, seed, starts)) if starts else ()
            cell = self._made[key] = template.sibling(seed, parents)
        return cell

    def _parents(
        self, downstream: str, entry: MethodEntry, seed: int, starts: Sequence[str]
    ) -> Iterator[Cell]:
        for start in starts:
            if start == BASELINE:
                yield self.baseline
                continue
            for one in entry.kind.seeds(entry.config) or (seed,):
                yield self._cell(downstream, self._grid.method(start), one)

    def _template(self, downstream: str, entry: MethodEntry) -> tuple[Cell, Sequence[str]]:
        """Return a method's cell on a set but for its seed and parents, and what it starts from.

        The cells of all seeds share its hyper-parameters and its recipe.
        """
        key = (downstream, entry.label)
        if key not in self._templates:
            grid, trains = self._grid, entry.kind.trains
            config, recipe = grid.settings(self._model.name, downstream, entry)
            template = Cell(
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
            self._templates[key] = (template, tuple(entry.kind.starts_from(entry.config)))
        return self._templates[key]
