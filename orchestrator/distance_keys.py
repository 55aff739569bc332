"""The key `distance` of a grid: how `rib distance` measures how far sets are from the ID set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.yaml_source import Document
from workers.distance.settings import Covariance, Settings, Unit
from workers.errors import Problem, nearest
from workers.suites import Suite


class Distance(BaseModel):
    """How far the downstream sets are from the ID set, in the features of a model."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="in whose features; the grid's first if not given"
    )
    samples: int = Field(10_000, ge=2, description="at most so many images of each set")
    covariance: Covariance = Field("diagonal", description="of each class's Gaussian")
    epsilon: float = Field(0.1, gt=0, description="entropic regularisation")
    unit: Unit = Field("id-cost", description="what epsilon is in")
    tolerance: float = Field(1e-6, gt=0, lt=1, description="of the marginals of a coupling")
    max_iterations: int = Field(10_000, ge=1, description="after which there is no distance")
    seed: int = Field(0, ge=0, lt=2**63, description="decides which images are compared")

    def settings(self, reference: str) -> Settings:
        """Return what decides a distance from a reference set."""
        return Settings(
            reference=reference,
            samples=self.samples,
            covariance=self.covariance,
            epsilon=self.epsilon,
            unit=self.unit,
            tolerance=self.tolerance,
        )


def check_distance(
    distance: Distance,
    models: Sequence[str],
    suite: Suite | None,
    document: Document,
    problems: list[Problem],
) -> None:
    """Append what is wrong with a grid's `distance`.

    Args:
        distance: its values.
        models: the names of the grid's models.
        suite: the grid's.
        document: the grid file.
        problems: is appended to.
    """
    if distance.model is not None and models and distance.model not in models:
        where = document.where(("distance", "model"))
        message = f"the grid has no model {distance.model!r}"
        problems.append(Problem(where, message, nearest(distance.model, models)))
    if suite is None:
        return
    specs = suite.evaluation_sets.values()
    classes = max(spec.n_classes or len(spec.classes or suite.space.ids) for spec in specs)
    if distance.samples < 2 * classes:
        where = document.where(("distance", "samples"))
        message = f"{distance.samples} images are too few: {classes} classes need 2 each"
        problems.append(Problem(where, message, f"at least {2 * classes}"))
