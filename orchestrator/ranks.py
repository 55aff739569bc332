"""Ranks that respect intervals: between which places each entry's true one is. Pure.

An entry's rank is a range. It begins after the entries that are better for certain, and ends before
those that are worse for certain; "for certain" is when the interval of the difference of the two
mRI leaves out 0. The intervals of one entry's differences to all others hold at once (Bonferroni),
so the range holds the entry's true place with the confidence that is asked for, as in Mogstad,
Romano, Shaikh and Wilhelm 2024 (Review of Economic Studies 91:476-518). Two entries whose ranges
overlap may be tied; the order of the entries stays that of their mRI.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from orchestrator.statistics import Floats, Spread

Bools = NDArray[np.bool_]
Ranges = tuple[NDArray[np.int64], NDArray[np.int64]]

_ROWS_AT_ONCE = 256


def certainly_better(mri: Floats, after: Spread, before: Spread, models: Sequence[str]) -> Bools:
    """Tell by counts which of E entries is better than which: (E, E), [a, b] for a over b.

    mRI is a mean accuracy after fine-tuning less one before it. The four means that two entries are
    made of are taken as independent; of one model, the baseline is the same and drops out.

    Args:
        mri: points, (E).
        after: of the mean OOD accuracies after fine-tuning, at the confidence of one comparison.
        before: of the mean OOD accuracies of the entries' models as they came.
        models: of the entries.
    """
    _, model = np.unique(np.asarray(models, dtype=object), return_inverse=True)
    better = np.zeros((len(mri), len(mri)), dtype=bool)
    for start in range(0, len(mri), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        differ = model[rows, np.newaxis] != model
        room = _squares(after.below[rows], after.above)
        room += differ * _squares(before.above[rows], before.below)
        lead = mri[rows, np.newaxis] - mri
        better[rows] = (lead > 0) & (lead**2 > room)
    return better


def certainly_better_paired(scores: Sequence[NDArray[np.floating]], z: float) -> Bools:
    """Tell by predictions which of E entries is better than which: (E, E), [a, b] for a over b.

    The difference of two entries is a sum over images of the differences of their scores, whose
    variance is taken from the images themselves; its interval is the normal one.

    Args:
        scores: of each stratum of images, (E, images): what each image adds to an entry's mRI.
        z: of one comparison.
    """
    lead, variance = np.zeros(()), np.zeros(())
    for stratum in scores:
        total = stratum.sum(axis=1, dtype=np.float64)
        n = stratum.shape[1]
        centred = stratum - stratum.mean(axis=1, keepdims=True)
        # The variance of a sum of n draws is n times that of a draw.
        shared = (centred @ centred.T).astype(np.float64) * (n / max(n - 1, 1))
        own = shared.diagonal()
        lead = lead + (total[:, np.newaxis] - total)
        variance = variance + own[:, np.newaxis] + own - 2 * shared
    return np.asarray((lead > 0) & (lead**2 > z**2 * np.maximum(variance, 0)))


def rank_ranges(better: Bools) -> Ranges:
    """Return the first and the last place of each entry, from who is better than whom."""
    n = len(better)
    return 1 + better.sum(axis=0), n - better.sum(axis=1)


def _squares(one: Floats, other: Floats) -> Floats:
    return np.asarray(one[:, np.newaxis] ** 2 + other**2)
