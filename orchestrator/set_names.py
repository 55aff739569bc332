"""The names of a suite's sets, and telling them from a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from workers.errors import Problem, UserError, nearest


@dataclass(frozen=True)
class SetNames:
    """The names of a suite's sets: the in-distribution one, and the n that RI is about."""

    id: str
    ood: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.ood) < 2:
            raise ValueError("RI looks at the other OOD sets: a suite needs at least two")
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"a suite names each set once, not {', '.join(self.names)}")

    @property
    def names(self) -> tuple[str, ...]:
        """Every set, the in-distribution one first."""
        return (self.id, *self.ood)


IMAGENET_RIB = SetNames(
    "imagenet-1k",
    (
        "imagenet-v2",
        "imagenet-a",
        "imagenet-r",
        "imagenet-sketch",
        "objectnet",
        "imagenet-cartoon",
        "imagenet-drawing",
        "imagenet-c",
    ),
)


def strata_of(sets: SetNames, sources: Mapping[str, str]) -> list[int]:
    """Give each OOD set the number of its stratum: those that show the same images have the same.

    Args:
        sets: the suite's names.
        sources: set -> the set whose images it shows, where these are not its own.
    """
    names = [sources.get(name, name) for name in sets.ood]
    order = list(dict.fromkeys(names))
    return [order.index(name) for name in names]


def infer_sets(
    accuracies: pd.DataFrame, known: Iterable[SetNames], id_name: str | None = None
) -> SetNames:
    """Tell which sets a table is about, without taking an OOD set with missing rows for the ID set.

    A `known` suite that has every name in the table wins (the largest, if several do). Otherwise
    the ID set is `id_name`, or the only evaluated set that nothing was fine-tuned on, unless a
    known suite calls that one OOD; all other names are OOD sets, in the table's order.

    Raises:
        UserError: the ID set is unclear or contradicts the table, or fewer than two OOD sets.
    """
    suites = list(known)
    downstream = list(dict.fromkeys(accuracies["downstream"].dropna()))
    names = list(dict.fromkeys([*downstream, *accuracies["eval_dataset"]]))
    matching = [suite for suite in suites if set(names) <= set(suite.names)]
    if matching:
        return _known_sets(matching, id_name)

    candidates = [name for name in names if name not in downstream]
    if id_name is None:
        known_ood = {name for suite in suites for name in suite.ood}
        if len(candidates) != 1 or candidates[0] in known_ood:
            raise _unclear_id("which set is the in-distribution one?", candidates)
        id_name = candidates[0]
    elif id_name in downstream:
        raise _unclear_id(f"{id_name!r} is fine-tuned on, so it is an OOD set", candidates)
    elif id_name not in names and candidates:
        raise UserError([Problem("--id", f"no row evaluates {id_name!r}", nearest(id_name, names))])
    ood = tuple(name for name in names if name != id_name)
    if len(ood) < 2:
        raise UserError([Problem("", f"RI needs at least two OOD sets, not {len(ood)}")])
    return SetNames(id_name, ood)


def _known_sets(matching: list[SetNames], id_name: str | None) -> SetNames:
    sets = max(matching, key=lambda suite: len(suite.ood))
    if id_name not in (None, sets.id):
        raise _unclear_id(f"{id_name!r} is not the ID set of the table's suite", [sets.id])
    return sets


def _unclear_id(message: str, candidates: list[str]) -> UserError:
    hint = "candidates: " + ", ".join(candidates) if candidates else "every set is fine-tuned on"
    return UserError([Problem("--id", message, hint)])
