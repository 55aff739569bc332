"""The methods that a grid can name: one file each, found by looking, and those of its user."""

from __future__ import annotations

from functools import cache

from workers import registry
from workers.cell import Cell
from workers.method_files import adopted
from workers.methods.base import FineTuning, Method, MethodConfig, Workbench

__all__ = ["ABSENT", "FineTuning", "Method", "MethodConfig", "Workbench", "method_of", "methods"]

ABSENT = {
    "flyp": "it needs the text tower of a CLIP model, and timm's models have none",
    "random-soup": "it is the method soup, with one member and a list of seeds",
    "swa": "the average along a run is the method ema",
}
"""Names that a reader of the field would try, and why there is no such method here."""


def methods() -> dict[str, type[Method]]:
    """Return every method by name: those of this package, and those adopted from a user's files."""
    return {**_built_in(), **adopted()}


@cache
def _built_in() -> dict[str, type[Method]]:
    import workers.methods as package

    list(registry.modules_of(package))
    return dict(sorted(Method.registered.items()))


def method_of(cell: Cell) -> Method:
    """Return the method of a cell, with the cell's hyper-parameters."""
    kind = methods()[cell.method]
    return kind(kind.Config.model_validate(dict(cell.hyperparameters)))
