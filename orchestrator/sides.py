"""One of two entries that are compared: its accuracies, its RI, and the cells behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.accuracies import BASELINE
from orchestrator.entry_arrays import arrange
from orchestrator.paired import Predictions, SetImages, ri_scores
from orchestrator.results import Results
from orchestrator.set_names import SetNames, strata_of
from orchestrator.statistics import Floats, Spread, spread_of_sum

Name = tuple[str, str]
"""Model and method."""


@dataclass(frozen=True)
class Side:
    """An entry with the downstream sets that are looked at: all n, or one."""

    name: Name
    sets: SetNames
    downstream: tuple[str, ...]
    tuned: Floats
    """(len(downstream), 1 + n) percents, means over seeds; unused of a baseline."""
    tuned_images: Floats
    """(len(downstream), 1 + n): the fewest of all seeds."""
    before: Floats
    """(1 + n) percents of the model as it came."""
    before_images: Floats

    @property
    def is_baseline(self) -> bool:
        return self.name[1] == BASELINE

    # ------------------------------------------------------------------ accuracy on a set

    def accuracy(self, k: int) -> float:
        """Return the percent on the k-th evaluation set; NaN where a value is missing.

        Over all downstream sets the set itself is left out, as in RI; one alone is taken as it is.
        """
        if self.is_baseline:
            return float(self.before[k])
        return float(self.tuned[self._looked_at(k), k].mean())

    def images(self, k: int) -> float:
        """Return the fewest images that accuracy is of; NaN where a value is missing."""
        if self.is_baseline:
            return float(self.before_images[k])
        return float(self.tuned_images[self._looked_at(k), k].min())

    def cells(self, predictions: Predictions, k: int) -> list[str]:
        """Return the ids of the cells behind that accuracy; none where one is not there."""
        model, method = self.name
        if self.is_baseline:
            return predictions.cells_of(model, BASELINE, None) or []
        wanted = [self.downstream[i] for i in self._looked_at(k)]
        found = [predictions.cells_of(model, method, one) for one in wanted]
        return [cell for ids in found for cell in ids or ()] if all(found) else []

    def scores(self, predictions: Predictions | None, k: int) -> SetImages | None:
        """Return what each image adds to that accuracy; None unless all predictions are kept."""
        if predictions is None:
            return None
        return predictions.mean(self.cells(predictions, k), self.sets.names[k])

    def _looked_at(self, k: int) -> NDArray[np.int64]:
        others = [i for i, name in enumerate(self.downstream) if name != self.sets.names[k]]
        is_alone = len(self.downstream) == 1
        return np.arange(len(self.downstream)) if is_alone else np.array(others, dtype=np.int64)

    # ------------------------------------------------------------------ RI, or mRI

    def improvement(self) -> float:
        """Return the mean RI of the downstream sets, in points; 0 of a baseline."""
        if self.is_baseline:
            return 0.0
        weights, pooled, _ = self._by_set()
        gained = np.where(weights == 0, 0.0, weights * (pooled - self.before[1:]))
        return float(gained.sum())

    def improvement_scores(self, predictions: Predictions | None) -> list[Floats] | None:
        """Return what each image of each stratum adds to it; None unless all are kept."""
        if predictions is None:
            return None
        scores = ri_scores(predictions, *self.name, self.downstream)
        return None if scores is None else [stratum.mean(axis=1) for stratum in scores]

    def improvement_images(self) -> int:
        """Return how many images the OOD sets behind it have, together."""
        weights, _, images = self._by_set()
        return int(np.minimum(images, self.before_images[1:])[weights > 0].sum())

    def spread_after(self, strata: Sequence[int], z: float) -> Spread:
        """Return the spread of the mean OOD accuracy that RI begins with, in points."""
        weights, pooled, images = self._by_set()
        if self.is_baseline:
            pooled, images = self.before[1:], self.before_images[1:]
        return spread_of_sum(pooled / 100, images, weights, strata, z).times(100)

    def spread_before(self, strata: Sequence[int], z: float) -> Spread:
        """Return the spread of the mean that RI takes off it, in points."""
        weights, _, _ = self._by_set()
        share, images = self.before[1:] / 100, self.before_images[1:]
        return spread_of_sum(share, images, weights, strata, z).times(100)

    def _by_set(self) -> tuple[Floats, Floats, Floats]:
        """Return each OOD set's weight in RI, and its mean percent and fewest images: (n) each."""
        counts = np.array([[one != name for name in self.sets.ood] for one in self.downstream])
        of_set = counts.sum(axis=0)
        weights = of_set / (len(self.downstream) * (len(self.sets.ood) - 1))
        pooled = np.where(counts, self.tuned[:, 1:], 0.0).sum(axis=0) / np.maximum(of_set, 1)
        fewest = np.where(counts, self.tuned_images[:, 1:], np.inf).min(axis=0)
        return weights, pooled, np.where(of_set > 0, fewest, np.nan)


def side_of(results: Results, name: Name, downstream: str | None) -> Side:
    """Return an entry with one downstream set, or with all."""
    sets = results.sets
    expected = results.accuracies if results.expected is None else results.expected
    is_meant = expected["model"].eq(name[0])
    if name[1] != BASELINE:
        is_meant &= expected["method"].eq(name[1])
    arrays = arrange(results.accuracies, sets, expected[is_meant])
    chosen = sets.ood if downstream is None else (downstream,)
    rows = [sets.ood.index(one) for one in chosen]
    return Side(
        name,
        sets,
        chosen,
        arrays.tuned.mean(axis=0)[rows],
        arrays.tuned_images.min(axis=0)[rows],
        arrays.before[0],
        arrays.before_images[0],
    )


def spread_of_difference(first: Side, second: Side, sources: Mapping[str, str], z: float) -> Spread:
    """Return the spread of the difference of two mean RI, from counts alone, in points.

    Of one model, the baseline is in both and drops out.
    """
    strata = strata_of(first.sets, sources)
    if first.name[0] == second.name[0]:
        return first.spread_after(strata, z).minus(second.spread_after(strata, z))
    parts = [
        Spread(np.zeros(()), np.zeros(()))
        if side.is_baseline
        else side.spread_after(strata, z).minus(side.spread_before(strata, z))
        for side in (first, second)
    ]
    return parts[0].minus(parts[1])
