"""From accuracies to RI, mRI and the leaderboard; pure, and never over a hole.

The formulas are those of the ImageNet-RIB paper (arXiv 2410.21582). With A_i^(j) the accuracy
on OOD set j after fine-tuning on OOD set i, A_pre^(j) that of the model as it came, and n OOD sets:

    RI_i = 1/(n-1) * sum over j != i of (A_i^(j) - A_pre^(j))        mRI = 1/n * sum over i of RI_i

in points. (The paper's poster prints mRI without the 1/n; its figures show that the mean is meant.)
The diagonal A_i^(i) and the accuracy on the ID set are shown beside them and enter neither.

`orchestrator.accuracies` makes the frame of accuracies that everything here takes; its functions
can be imported from here too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from orchestrator.accuracies import (
    ACCURACY_COLUMNS,
    BASELINE,
    ConflictingRows,
    Scoring,
    Splits,
    accuracies_from_rows,
    missing_splits,
    read_accuracies,
    unique_rows,
)
from workers.errors import Problem, UserError, nearest

__all__ = [
    "ACCURACY_COLUMNS",
    "BASELINE",
    "IMAGENET_RIB",
    "ConflictingRows",
    "Scoring",
    "SetNames",
    "Splits",
    "accuracies_from_rows",
    "accuracy_matrix",
    "baseline_row",
    "infer_sets",
    "leaderboard",
    "mean_robustness_improvement",
    "missing_from_matrix",
    "missing_splits",
    "read_accuracies",
    "robustness_improvement",
]

Floats = NDArray[np.float64]

_ENTRY = ["model", "method", "seed"]
_DECIMALS_OF_A_TIE = 9


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


def accuracy_matrix(
    accuracies: pd.DataFrame,
    sets: SetNames,
    model: str,
    method: str,
    seed: int | None = None,
    *,
    expected: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Arrange the accuracies of one model and method.

    Args:
        accuracies: the frame of accuracies.
        sets: the suite's names.
        model: the entry's model.
        method: the entry's method.
        seed: one seed; by default the mean over all, where every seed has the value.
        expected: the entries that should exist, as for `leaderboard`.

    Returns:
        (n, 1 + n) percents: a row per downstream set, a column per set, the ID set first; NaN
        where a value is missing.

    Raises:
        KeyError: there is no entry of this model and method.
        ConflictingRows: a key has two values.
    """
    entries = _entries(accuracies, expected)
    entries = entries[(entries["model"] == model) & (entries["method"] == method)]
    if entries.empty:
        raise KeyError(f"no entry of model {model!r} and method {method!r}")
    if seed is not None:
        entries = pd.DataFrame([(model, method, seed)], columns=_ENTRY)
    mean = _fine_tuned(accuracies, sets, entries).mean(axis=0)
    return pd.DataFrame(
        mean,
        index=pd.Index(sets.ood, name="downstream"),
        columns=pd.Index(sets.names, name="eval_dataset"),
    )


def baseline_row(accuracies: pd.DataFrame, sets: SetNames, model: str) -> pd.Series[float]:
    """Return the 1 + n percents of the model as it came; NaN where a value is missing.

    Raises:
        ConflictingRows: the baseline has two values on one set.
    """
    values = _baselines(accuracies, sets, pd.Index([model]))[0]
    return pd.Series(values, index=pd.Index(sets.names, name="eval_dataset"), name=BASELINE)


def robustness_improvement(
    matrix: pd.DataFrame, baseline: pd.Series[float], sets: SetNames
) -> pd.Series[float]:
    """RI_i of each downstream set i, in points; NaN where one of its 2 (n-1) values is missing.

    Args:
        matrix: percents, as from `accuracy_matrix`.
        baseline: percents, as from `baseline_row`.
        sets: the suite's names.
    """
    improvement = _improvement(*_ood_values(matrix, baseline, sets))
    return pd.Series(improvement, pd.Index(sets.ood, name="downstream"), name="RI")


def mean_robustness_improvement(improvement: pd.Series[float], sets: SetNames) -> float:
    """Average RI over the downstream sets, in points; NaN unless all n are there."""
    return float(np.mean(np.asarray(improvement.reindex(list(sets.ood)), dtype=np.float64)))


def missing_from_matrix(
    matrix: pd.DataFrame, baseline: pd.Series[float], sets: SetNames
) -> list[str]:
    """Name the values that RI needs and that are not there, as "downstream -> evaluation set"."""
    tuned, before = _ood_values(matrix, baseline, sets)
    return [*_missing_baseline(before, sets), *_missing_tuned(tuned, sets)]


def leaderboard(
    accuracies: pd.DataFrame, sets: SetNames, expected: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Rank every model and method by mRI.

    An mRI needs all n (n-1) off-diagonal values of every seed and the n values of the baseline;
    it is the mean over the seeds of each one's mRI. Incomplete entries stand last, unranked.

    Args:
        accuracies: the frame of accuracies.
        sets: the suite's names.
        expected: the model, method and seed of each entry that should exist; these alone are
            looked at. By default whatever has a row, with all of its seeds.

    Returns:
        One row per model and method, best first. A mean is NaN when one of its values is missing.

        - rank: by mRI, equal ones share it (1, 1, 3); NA when incomplete
        - model, method
        - mRI, and RI <set> for each downstream set: points, means over the seeds
        - ID: percent, mean over the downstream sets; ID drop: points below the baseline
        - downstream: percent on the set that was fine-tuned on (mean of the diagonal)
        - OOD: percent, mean off the diagonal
        - seeds: how many
        - missing, missing_cells: how many of the values that mRI needs, and which

    Raises:
        ConflictingRows: a key has two values.
    """
    entries = _entries(accuracies, expected)
    tuned = _fine_tuned(accuracies, sets, entries)
    before = _baselines(accuracies, sets, pd.Index(entries["model"]))
    rows = []
    for _, seeds in entries.groupby(["model", "method"]):
        at = seeds.index.to_numpy()
        summary = _summary(tuned[at], before[at[0]], seeds["seed"].tolist(), sets)
        first = seeds.iloc[0]
        rows.append({"model": first["model"], "method": first["method"], **summary})
    improvements = [f"RI {name}" for name in sets.ood]
    columns = ["model", "method", "mRI", *improvements, "ID", "ID drop", "downstream", "OOD"]
    columns += ["seeds", "missing", "missing_cells"]
    return _ranked(pd.DataFrame(rows, columns=columns))


def _ood_values(
    matrix: pd.DataFrame, baseline: pd.Series[float], sets: SetNames
) -> tuple[Floats, Floats]:
    ood = list(sets.ood)
    tuned = np.asarray(matrix.reindex(index=ood, columns=ood), dtype=np.float64)
    return tuned, np.asarray(baseline.reindex(ood), dtype=np.float64)


def _summary(tuned: Floats, before: Floats, seeds: list[int], sets: SetNames) -> dict[str, Any]:
    """Make a leaderboard row of an entry's (seeds, n, 1 + n) and (1 + n) percents."""
    on_id, on_ood = tuned[:, :, 0], tuned[:, :, 1:]
    improvement = _improvement(on_ood, before[1:])
    missing = _missing_baseline(before[1:], sets)
    for seed, values in zip(seeds, on_ood, strict=True):
        missing += [f"{name} (seed {seed})" for name in _missing_tuned(values, sets)]
    by_set = dict(zip(sets.ood, improvement.mean(axis=0), strict=True))
    return {
        "mRI": improvement.mean(axis=1).mean(),
        **{f"RI {name}": value for name, value in by_set.items()},
        "ID": on_id.mean(),
        "ID drop": before[0] - on_id.mean(),
        "downstream": on_ood.diagonal(axis1=1, axis2=2).mean(),
        "OOD": on_ood[:, _off_diagonal(sets)].mean(),
        "seeds": len(seeds),
        "missing": len(missing),
        "missing_cells": missing,
    }


def _ranked(rows: pd.DataFrame) -> pd.DataFrame:
    comparable = rows["mRI"].astype("float64").round(_DECIMALS_OF_A_TIE)
    rank = comparable.rank(method="min", ascending=False).astype("Int64")
    rows.insert(0, "rank", rank)
    return rows.sort_values(["rank", "model", "method"], ignore_index=True)


def _improvement(tuned: Floats, before: Floats) -> Floats:
    """RI of (..., n, n) percents after fine-tuning over (n,) before it: (..., n) points."""
    n = len(before)
    others: Floats = np.where(np.eye(n, dtype=bool), 0.0, tuned - before)
    return np.asarray(others.sum(axis=-1) / (n - 1))


def _off_diagonal(sets: SetNames) -> NDArray[np.bool_]:
    return ~np.eye(len(sets.ood), dtype=bool)


def _missing_baseline(before: Floats, sets: SetNames) -> list[str]:
    return [f"{BASELINE} -> {sets.ood[j]}" for j in np.flatnonzero(np.isnan(before))]


def _missing_tuned(tuned: Floats, sets: SetNames) -> list[str]:
    holes = np.argwhere(np.isnan(tuned) & _off_diagonal(sets))
    return [f"{sets.ood[i]} -> {sets.ood[j]}" for i, j in holes]


def _entries(accuracies: pd.DataFrame, expected: pd.DataFrame | None) -> pd.DataFrame:
    """List the distinct model, method and seed of everything but the baselines, sorted."""
    listed = accuracies if expected is None else expected
    entries = listed.loc[listed["method"] != BASELINE, _ENTRY].drop_duplicates()
    return entries.sort_values(_ENTRY, ignore_index=True)


def _fine_tuned(accuracies: pd.DataFrame, sets: SetNames, entries: pd.DataFrame) -> Floats:
    """Arrange what each entry reaches after each downstream set: (entries, n, 1 + n) percents."""
    index = [*_ENTRY, "downstream"]
    rows = accuracies[(accuracies["method"] != BASELINE) & accuracies["downstream"].notna()]
    wide = _wide(rows, index)
    wanted = entries[_ENTRY].merge(pd.DataFrame({"downstream": sets.ood}), how="cross")
    values = wide.reindex(index=pd.MultiIndex.from_frame(wanted), columns=list(sets.names))
    n = len(sets.ood)
    return values.to_numpy(dtype=np.float64).reshape(len(entries), n, n + 1)


def _baselines(accuracies: pd.DataFrame, sets: SetNames, models: pd.Index) -> Floats:
    """Arrange what each model reaches as it came: (models, 1 + n) percents."""
    rows = accuracies[(accuracies["method"] == BASELINE) & accuracies["downstream"].isna()]
    values = _wide(rows, ["model"]).reindex(index=models, columns=list(sets.names))
    return values.to_numpy(dtype=np.float64)


def _wide(rows: pd.DataFrame, index: list[str]) -> pd.DataFrame:
    """Turn each evaluation set into a column."""
    present = rows.dropna(subset="accuracy")
    unique = unique_rows(present, [*index, "eval_dataset"], ["accuracy"])
    return unique.pivot(index=index, columns="eval_dataset", values="accuracy")


def _known_sets(matching: list[SetNames], id_name: str | None) -> SetNames:
    sets = max(matching, key=lambda suite: len(suite.ood))
    if id_name not in (None, sets.id):
        raise _unclear_id(f"{id_name!r} is not the ID set of the table's suite", [sets.id])
    return sets


def _unclear_id(message: str, candidates: list[str]) -> UserError:
    hint = "candidates: " + ", ".join(candidates) if candidates else "every set is fine-tuned on"
    return UserError([Problem("--id", message, hint)])
