"""What cells ask for: a grid's resources, and what a model's or a method's entry asks for. Pure.

Cells that ask for the same by the same entries are of one class, which executors keep apart: they
wait for the same machines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.grid_file import Resources
from orchestrator.sizes import size
from workers.cell import Cell
from workers.job import Site


@dataclass(frozen=True)
class Demand:
    """What each cell of a class asks for."""

    resources: Resources
    of: str = ""
    """Whose entries say so, such as `model vit, method ewc`; empty: the grid's `resources` alone.
    No two classes of a grid have the same."""

    @property
    def a_cell(self) -> str:
        return f"a cell of {self.of}" if self.of else "a cell"

    def __str__(self) -> str:
        """Say in words what a cell asks for."""
        asked = self.resources
        amounts = [_counted(asked.gpus, "GPU"), _counted(asked.cpus, "CPU")]
        memory = [] if asked.memory is None else [f"{size(asked.memory)} of memory"]
        labels = [f"{key}={value}" for key, value in asked.labels.items()]
        return ", ".join([*(amounts if asked.gpus else amounts[1:]), *memory, *labels])


@dataclass(frozen=True)
class Demands:
    """What the cells of a grid ask for, by their model and method."""

    usual: Resources = field(default_factory=Resources)
    by_model: Mapping[str, Resources] = field(default_factory=dict)
    """What models' entries change, by their names in the grid."""
    by_method: Mapping[str, Resources] = field(default_factory=dict)
    """The same of methods."""
    _known: dict[str, Demand] = field(default_factory=dict, init=False, repr=False, compare=False)

    def key(self, cell: Cell) -> str:
        """Return which class a cell is of: `Demand.of`."""
        parts = (
            f"{kind} {name}" for kind, name, changes in self._entries(cell) if changes is not None
        )
        return ", ".join(parts)

    def of(self, cell: Cell) -> Demand:
        """Return what a cell asks for."""
        key = self.key(cell)
        if key not in self._known:
            given = [changes for _, _, changes in self._entries(cell) if changes is not None]
            self._known[key] = Demand(merged(self.usual, *given), key)
        return self._known[key]

    def distinct(self, cells: Iterable[Cell]) -> dict[str, Demand]:
        """Return what cells ask for, by their classes, in the order in which these come."""
        return {demand.of: demand for demand in map(self.of, cells)}

    @property
    def on_gpus(self) -> bool:
        """Whether any cell asks for a GPU; hours are then counted in those of GPUs."""
        every = (self.usual, *self.by_model.values(), *self.by_method.values())
        return any(resources.gpus > 0 for resources in every)

    @property
    def device(self) -> str:
        """What hours are counted in: `GPU`, or `CPU` where no cell asks for one."""
        return "GPU" if self.on_gpus else "CPU"

    def devices(self, cell: Cell) -> float:
        """Return how many of these devices a cell has while it runs."""
        resources = self.of(cell).resources
        return resources.gpus if self.on_gpus else resources.cpus

    def _entries(self, cell: Cell) -> tuple[tuple[str, str, Resources | None], ...]:
        return (
            ("model", cell.model.name, self.by_model.get(cell.model.name)),
            ("method", cell.label, self.by_method.get(cell.label)),
        )


def merged(usual: Resources, *changes: Resources) -> Resources:
    """Return resources with what entries give in place of the grid's.

    Where several entries give the same key, the largest number is taken, so that no cell gets less
    than its model or its method needs. Labels add up, those of an entry before the grid's.
    """
    given: dict[str, Any] = {}
    labels = dict(usual.labels)
    for change in changes:
        labels |= change.labels
        for key in change.model_fields_set - {"labels"}:
            values = (given.get(key), getattr(change, key))
            given[key] = max((value for value in values if value is not None), default=None)
    return usual.model_copy(update={**given, "labels": labels})


def fitted(site: Site, resources: Resources) -> Site:
    """Return a site as a cell sees it that has these resources."""
    return replace(
        site,
        threads=max(1, int(resources.cpus) - resources.loader_workers),
        loader_workers=resources.loader_workers,
        micro_batches=resources.micro_batches,
        state_seconds=resources.state_seconds,
    )


def _counted(amount: float, name: str) -> str:
    return f"{amount:g} {name}" if amount <= 1 else f"{amount:g} {name}s"
