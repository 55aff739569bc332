"""What decides a distance besides the model and the data. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from workers.cell import Cell

METHOD = "otdd"
"""The method of the cells that are distances."""

VERSION = 1
"""Part of their identity: bump it when their numbers change."""

Covariance = Literal["diagonal", "shrunk"]
Unit = Literal["id-cost", "cost"]


@dataclass(frozen=True)
class Settings:
    """How a distance from a reference set is measured."""

    reference: str
    """The set that the downstream set is compared with: the suite's ID set."""
    samples: int = 10_000
    """At most so many images of each set."""
    covariance: Covariance = "diagonal"
    """Of each class's Gaussian."""
    epsilon: float = 0.1
    unit: Unit = "id-cost"
    """What epsilon is in: the mean cost between two images of the reference set, or the cost."""
    tolerance: float = 1e-6
    """Of the marginals of each coupling."""

    @classmethod
    def of(cls, cell: Cell) -> Settings:
        """Return the settings that a cell was made with."""
        values: Mapping[str, Any] = cell.hyperparameters
        return cls(**{name: values[name] for name in cls.__dataclass_fields__})

    def as_hyperparameters(self) -> dict[str, Any]:
        return asdict(self)
