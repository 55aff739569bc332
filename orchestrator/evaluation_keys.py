"""The keys `curve` and `predictions` of a grid: what is kept of evaluations besides counts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from workers.curve import Curve
from workers.errors import Problem, nearest
from workers.predictions import MAX_LABELS

if TYPE_CHECKING:
    from orchestrator.grid_file import GridFile
    from orchestrator.yaml_source import Document, Location
    from workers.suites import Suite

NonEmpty = Annotated[str, Field(min_length=1)]


class CurveKeys(BaseModel):
    """What is evaluated while a cell is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    every: int = Field(1, ge=1, description="epochs from one evaluation to the next")
    sets: Annotated[list[NonEmpty], Field(min_length=1)] | Literal["all"] = Field(
        "all", description="evaluation sets"
    )
    fraction: float = Field(0.1, gt=0, le=1, description="part of each class's images")
    seed: int = Field(0, ge=0, description="decides which images these are")


def resolve_curve(
    file: GridFile, suite: Suite | None, document: Document, problems: list[Problem]
) -> Curve | None:
    """Return what a grid asks for along training; append what is wrong with it."""
    if file.curve is None or suite is None:
        return None
    given, every = file.curve.sets, tuple(suite.evaluation_sets)
    names = every if given == "all" else tuple(given)
    problems += _unknown(names, every, document, ("curve", "sets"))
    return Curve(names, file.curve.every, file.curve.fraction, file.curve.seed)


def resolve_predictions(
    file: GridFile,
    suite: Suite | None,
    evaluate: tuple[str, ...],
    document: Document,
    problems: list[Problem],
) -> tuple[str, ...]:
    """Return the sets whose predictions a grid wants kept; append what is wrong with them."""
    if suite is None or not file.predictions:
        return ()
    names = evaluate if file.predictions == "all" else tuple(file.predictions)
    problems += _unknown(names, evaluate, document, ("predictions",), suite.evaluation_sets)
    if len(suite.space) > MAX_LABELS:
        message = f"{suite.name} has {len(suite.space)} classes, and at most {MAX_LABELS} can be"
        problems.append(Problem(document.where(("predictions",)), message))
    return names


def _unknown(
    names: Sequence[str],
    allowed: Collection[str],
    document: Document,
    location: Location,
    not_evaluated: Collection[str] = (),
) -> Iterator[Problem]:
    for index, name in enumerate(names):
        where = document.where((*location, index))
        if name not in allowed:
            message = f"unknown data set {name!r}"
            if name in not_evaluated:
                message = f"the grid does not evaluate {name!r}"
            yield Problem(where, message, nearest(name, allowed))
        elif name in names[:index]:
            yield Problem(where, f"{name!r} is there twice")
