"""The cells of a grid: each model's baseline, then downstream x method x seed. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from orchestrator.grid import Grid, MethodEntry
from workers.cell import BASELINE, Cell, Model


def expand(grid: Grid) -> Iterator[Cell]:
    """Yield the cells of a grid, each model's baseline first."""
    for model in grid.models:
        yield from _OfModel(grid, model).cells()


class _OfModel:
    """The cells of one model, each made once however many cells start from it."""

    def __init__(self, grid: Grid, model: Model) -> None:
        self._grid, self._model = grid, model
        self._made: dict[tuple[str, str, int], Cell] = {}
        self._settled: dict[tuple[str, str], tuple[Callable[..., Cell], Sequence[str]]] = {}
        self._baseline = Cell(
            suite=grid.suite.name,
            suite_version=grid.suite.version,
            model=model,
            method=BASELINE,
            method_version=grid.method(BASELINE).kind.version,
            label=BASELINE,
        )

    def cells(self) -> Iterator[Cell]:
        yield self._baseline
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
            make, starts = self._settings(downstream, entry)
            parents = tuple(self._parents(downstream, entry, seed, starts)) if starts else ()
            cell = self._made[key] = make(seed=seed, parents=parents)
        return cell

    def _parents(
        self, downstream: str, entry: MethodEntry, seed: int, starts: Sequence[str]
    ) -> Iterator[Cell]:
        for start in starts:
            if start == BASELINE:
                yield self._baseline
                continue
            for one in entry.kind.seeds(entry.config) or (seed,):
                yield self._cell(downstream, self._grid.method(start), one)

    def _settings(
        self, downstream: str, entry: MethodEntry
    ) -> tuple[Callable[..., Cell], Sequence[str]]:
        """Return what makes a method's cells on a set, given seed and parents, and what these are.

        The cells of all seeds share their hyper-parameters and their recipe.
        """
        key = (downstream, entry.label)
        if key not in self._settled:
            grid, trains = self._grid, entry.kind.trains
            config, recipe = grid.settings(self._model.name, downstream, entry)
            make = partial(
                Cell,
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
            self._settled[key] = (make, tuple(entry.kind.starts_from(entry.config)))
        return self._settled[key]
