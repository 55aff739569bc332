"""The accuracy matrices of a leaderboard's entries, with intervals; pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from orchestrator.entry_arrays import arrange
from orchestrator.reduce import missing_before, missing_tuned, over_seeds
from orchestrator.set_names import SetNames
from orchestrator.statistics import Floats, critical_value, wilson


@dataclass(frozen=True)
class Matrix:
    """What one model reaches with one method, fine-tuned on each of n sets; means over seeds.

    Accuracies are in percent, NaN where a value is missing. Intervals are Wilson's at 95%; of a
    mean over seeds or splits, which are of the same images, those of one share of these images.
    """

    model: str
    method: str
    sets: SetNames
    accuracy: Floats
    """(n, 1 + n): a row per downstream set, a column per evaluation set, the ID set first."""
    deviation: Floats
    """(n, 1 + n): sample standard deviation over seeds; NaN with one."""
    low: Floats
    high: Floats
    """(n, 1 + n): limits; NaN where no counts are known."""
    baseline: Floats
    """(1 + n): of the model as it came."""
    baseline_low: Floats
    baseline_high: Floats
    numbers: Mapping[Hashable, Any]
    """The entry's row of the leaderboard."""

    @property
    def missing(self) -> list[str]:
        """What RI and mRI lack, as "downstream -> evaluation set"."""
        before = missing_before(self.baseline[1:], self.sets)
        return [*before, *missing_tuned(self.accuracy[:, 1:], self.sets)]


def matrices(
    accuracies: pd.DataFrame,
    sets: SetNames,
    board: pd.DataFrame,
    expected: pd.DataFrame | None = None,
) -> Iterator[Matrix]:
    """Make the matrix of each model and method, in the order of their names.

    Args:
        accuracies: the frame of accuracies.
        sets: the suite's names.
        board: their leaderboard.
        expected: the entries that should exist, as for `orchestrator.leaderboard.leaderboard`.

    Raises:
        ConflictingRows: a key has two values.
    """
    arrays = arrange(accuracies, sets, expected)
    means, deviations = over_seeds(arrays.tuned, arrays.starts)
    low, high = _limits(means, arrays.fewest_images())
    before = arrays.before[arrays.starts]
    before_low, before_high = _limits(before, arrays.before_images[arrays.starts])
    rows = {(row["model"], row["method"]): row for row in board.to_dict("records")}
    names = arrays.entries.iloc[arrays.starts][["model", "method"]].itertuples(index=False)
    for k, (model, method) in enumerate(names):
        yield Matrix(
            model,
            method,
            sets,
            means[k],
            deviations[k],
            low[k],
            high[k],
            before[k],
            before_low[k],
            before_high[k],
            rows[model, method],
        )


def _limits(percents: Floats, images: Floats) -> tuple[Floats, Floats]:
    low, high = wilson(percents / 100, images, critical_value())
    return 100 * np.asarray(low), 100 * np.asarray(high)
