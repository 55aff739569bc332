"""From accuracies to RI, mRI and the leaderboard; pure, and never over a hole.

The formulas are those of the ImageNet-RIB paper (arXiv 2410.21582). With A_i^(j) the accuracy
on OOD set j after fine-tuning on OOD set i, A_pre^(j) that of the model as it came, and n OOD sets:

    RI_i = 1/(n-1) * sum over j != i of (A_i^(j) - A_pre^(j))        mRI = 1/n * sum over i of RI_i

in points. (The paper's poster prints mRI without the 1/n; its figures show that the mean is meant.)
The diagonal A_i^(i) and the accuracy on the ID set are shown beside them and enter neither.

What is computed here are numpy arrays, as `orchestrator.entry_arrays` arranges them; see there for
their axes. `orchestrator.leaderboard` and `orchestrator.matrix` make frames of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orchestrator.accuracies import BASELINE
from orchestrator.set_names import SetNames
from orchestrator.statistics import Floats


def improvement(tuned: Floats, before: Floats) -> Floats:
    """RI of (..., n, n) percents after fine-tuning over (..., n) before it: (..., n) points."""
    n = before.shape[-1]
    gained = tuned - before[..., np.newaxis, :]
    return np.asarray(np.where(np.eye(n, dtype=bool), 0.0, gained).sum(axis=-1) / (n - 1))


def off_diagonal(n: int) -> NDArray[np.bool_]:
    """Tell the values that RI is made of, (n, n): all but those on a model's own downstream set."""
    return ~np.eye(n, dtype=bool)


def over_seeds(values: Floats, starts: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return the mean and the sample standard deviation of (E, ...) values over seeds: (G, ...)."""
    if not len(starts):
        return values, values
    sizes = run_lengths(starts, len(values))
    by_group = sizes.reshape(-1, *[1] * (values.ndim - 1))
    means = np.add.reduceat(values, starts) / by_group
    squares = np.add.reduceat((values - np.repeat(means, sizes, axis=0)) ** 2, starts)
    with np.errstate(invalid="ignore", divide="ignore"):
        deviations = np.sqrt(squares / (by_group - 1))
    return means, np.where(by_group > 1, deviations, np.nan)


def run_lengths(starts: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Return the lengths of runs that begin at `starts`, the last of which ends at n."""
    return np.diff(np.append(starts, n))


def missing_before(before: Floats, sets: SetNames) -> list[str]:
    """Name the holes in (n) percents before fine-tuning."""
    return [f"{BASELINE} -> {sets.ood[j]}" for j in np.flatnonzero(np.isnan(before))]


def missing_tuned(tuned: Floats, sets: SetNames) -> list[str]:
    """Name the holes off the diagonal of (n, n) percents after fine-tuning."""
    holes = np.argwhere(np.isnan(tuned) & off_diagonal(len(sets.ood)))
    return [f"{sets.ood[i]} -> {sets.ood[j]}" for i, j in holes]
