"""The methods that can be named in a grid: one file each, found by looking."""

from __future__ import annotations

from functools import cache

from workers import registry
from workers.cell import Cell
from workers.methods.base import FineTuning, Method, MethodConfig, Workbench

__all__ = ["FineTuning", "Method", "MethodConfig", "Workbench", "method_of", "methods"]


@cache
def methods() -> dict[str, type[Method]]:
    """Return every method by name."""
    import workers.methods as package

    list(registry.modules_of(package))
    return dict(sorted(Method.registered.items()))


def method_of(cell: Cell) -> Method:
    """Return the method of a cell, with the cell's hyper-parameters."""
    kind = methods()[cell.method]
    return kind(kind.Config.model_validate(dict(cell.hyperparameters)))
