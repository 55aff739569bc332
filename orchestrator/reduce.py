"""From accuracies to RI, mRI and the leaderboard; pure, and never over a hole.

The formulas are those of the ImageNet-RIB paper (arXiv 2410.21582). With A_i^(j) the accuracy
on OOD set j after fine-tuning on OOD set i, A_pre^(j) that of the model as it came, and n OOD sets:

    RI_i = 1/(n-1) * sum over j != i of (A_i^(j) - A_pre^(j))        mRI = 1/n * sum over i of RI_i

in points. (The paper's poster prints mRI without the 1/n; its figures show that the mean is meant.)
The diagonal A_i^(i) and the accuracy on the ID set are shown beside them and enter neither.

`orchestrator.accuracies` makes the frame of accuracies that everything here takes, and
`orchestrator.leaderboard` ranks it; what others need of both can be imported from here.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from orchestrator.accuracies import (
    ACCURACY_COLUMNS,
    BASELINE,
    ConflictingRows,
    Splits,
    accuracies_from_rows,
)
from orchestrator.accuracy_tables import read_accuracies
from orchestrator.entry_arrays import (
    ENTRY,
    Floats,
    baselines,
    fine_tuned,
    improvement,
    list_entries,
    missing_before,
    missing_tuned,
)
from orchestrator.leaderboard import leaderboard
from orchestrator.set_names import IMAGENET_RIB, SetNames, infer_sets

__all__ = [
    "ACCURACY_COLUMNS",
    "BASELINE",
    "IMAGENET_RIB",
    "ConflictingRows",
    "SetNames",
    "Splits",
    "accuracies_from_rows",
    "accuracy_matrix",
    "baseline_row",
    "infer_sets",
    "leaderboard",
    "mean_robustness_improvement",
    "missing_from_matrix",
    "read_accuracies",
    "robustness_improvement",
]


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
    entries = list_entries(accuracies, expected)
    entries = entries[(entries["model"] == model) & (entries["method"] == method)]
    if entries.empty:
        raise KeyError(f"no entry of model {model!r} and method {method!r}")
    if seed is not None:
        entries = pd.DataFrame([(model, method, seed)], columns=ENTRY)
    percents, _ = fine_tuned(accuracies, sets, entries)
    return pd.DataFrame(
        percents.mean(axis=0),
        index=pd.Index(sets.ood, name="downstream"),
        columns=pd.Index(sets.names, name="eval_dataset"),
    )


def baseline_row(accuracies: pd.DataFrame, sets: SetNames, model: str) -> pd.Series[float]:
    """Return the 1 + n percents of the model as it came; NaN where a value is missing.

    Raises:
        ConflictingRows: the baseline has two values on one set.
    """
    values, _ = baselines(accuracies, sets, pd.Index([model]))
    return pd.Series(values[0], index=pd.Index(sets.names, name="eval_dataset"), name=BASELINE)


def robustness_improvement(
    matrix: pd.DataFrame, baseline: pd.Series[float], sets: SetNames
) -> pd.Series[float]:
    """RI_i of each downstream set i, in points; NaN where one of its 2 (n-1) values is missing.

    Args:
        matrix: percents, as from `accuracy_matrix`.
        baseline: percents, as from `baseline_row`.
        sets: the suite's names.
    """
    gained = improvement(*_ood_values(matrix, baseline, sets))
    return pd.Series(gained, pd.Index(sets.ood, name="downstream"), name="RI")


def mean_robustness_improvement(by_set: pd.Series[float], sets: SetNames) -> float:
    """Average RI over the downstream sets, in points; NaN unless all n are there."""
    return float(np.mean(np.asarray(by_set.reindex(list(sets.ood)), dtype=np.float64)))


def missing_from_matrix(
    matrix: pd.DataFrame, baseline: pd.Series[float], sets: SetNames
) -> list[str]:
    """Name the values that RI needs and that are not there, as "downstream -> evaluation set"."""
    tuned, before = _ood_values(matrix, baseline, sets)
    return [*missing_before(before, sets), *missing_tuned(tuned, sets)]


def _ood_values(
    matrix: pd.DataFrame, baseline: pd.Series[float], sets: SetNames
) -> tuple[Floats, Floats]:
    ood = list(sets.ood)
    tuned = np.asarray(matrix.reindex(index=ood, columns=ood), dtype=np.float64)
    return tuned, np.asarray(baseline.reindex(ood), dtype=np.float64)
