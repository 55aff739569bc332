"""The leaderboard: every model and method, ranked by mRI, with intervals and ranges of ranks.

Everything is a mean over seeds of what `orchestrator.reduce` defines. Intervals say how far a
number may be from the one over all images of that kind, given the models as they were trained: they
are of images, and the standard deviations beside them are of seeds. `docs/results.md` has each
formula and what it rests on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from orchestrator import ranks
from orchestrator.entry_arrays import EntryArrays, arrange
from orchestrator.paired import PairedEntry, not_of_these_rows
from orchestrator.reduce import (
    improvement,
    missing_before,
    missing_tuned,
    off_diagonal,
    over_seeds,
    run_lengths,
)
from orchestrator.set_names import SetNames, strata_of
from orchestrator.statistics import Floats, Spread, critical_value, spread_of_sum

Paired = Mapping[tuple[str, str], PairedEntry]
"""Model and method -> what their predictions say."""

_DECIMALS_OF_A_TIE = 9


@dataclass(frozen=True)
class Spreads:
    """The spreads of G models and methods, in points."""

    numbers: Spread
    """Of each column of `number_columns`, (G, k)."""
    after: Spread
    """Of the mean OOD accuracy after fine-tuning, (G)."""
    before: Spread
    """Of that of the model as it came, (G)."""


def number_columns(sets: SetNames) -> list[str]:
    """Return the columns of a leaderboard that have a standard deviation and an interval."""
    return ["mRI", *(f"RI {name}" for name in sets.ood), "ID", "ID drop", "downstream", "OOD"]


def leaderboard(
    accuracies: pd.DataFrame,
    sets: SetNames,
    expected: pd.DataFrame | None = None,
    *,
    sources: Mapping[str, str] | None = None,
    paired: Paired | None = None,
) -> pd.DataFrame:
    """Rank every model and method by mRI.

    An mRI needs all n (n-1) off-diagonal values of every seed and the n values of the baseline;
    it is the mean over the seeds of each one's mRI. Incomplete entries stand last, unranked.

    Args:
        accuracies: the frame of accuracies.
        sets: the suite's names.
        expected: the model, method and seed of each entry that should exist; these alone are
            looked at. By default whatever has a row, with all of its seeds.
        sources: set -> whose images it shows, where they are another set's.
        paired: what predictions say of the entries that have them (`orchestrator.paired`).

    Returns:
        One row per model and method, best first. A mean is NaN when one of its values is missing.

        - rank: by mRI, equal ones share it (1, 1, 3); NA when incomplete
        - rank low, rank high: the range of places that its interval leaves; NA without intervals
        - model, method
        - mRI, and RI <set> for each downstream set: points, means over the seeds
        - ID: percent, mean over the downstream sets; ID drop: points below the baseline
        - downstream: percent on the set that was fine-tuned on (mean of the diagonal)
        - OOD: percent, mean off the diagonal
        - seeds: how many
        - missing, missing_cells: how many of the values that mRI needs, and which
        - <number> sd: sample standard deviation over the seeds; NaN with one
        - <number> low, <number> high: the 95% interval; NaN where no counts are known
        - interval: what those of mRI and RI are made from, "counts" or "paired"; null without one

    Raises:
        ConflictingRows: a key has two values.
        UserError: the predictions of an entry say something else than its rows.
    """
    arrays = arrange(accuracies, sets, expected)
    strata = strata_of(sets, sources or {})
    means, deviations = over_seeds(_numbers(arrays), arrays.starts)
    spreads = _spreads(arrays, strata, critical_value())
    columns = number_columns(sets)
    board = arrays.entries.iloc[arrays.starts][["model", "method"]].reset_index(drop=True)
    board[columns] = means
    missing = _missing(arrays, sets)
    board["seeds"] = run_lengths(arrays.starts, len(arrays.entries))
    board["missing"] = [len(names) for names in missing]
    board["missing_cells"] = pd.Series(missing, dtype=object)
    limits = {}
    for k, name in enumerate(columns):
        limits[f"{name} sd"] = deviations[:, k]
        limits[f"{name} low"] = means[:, k] - spreads.numbers.below[:, k]
        limits[f"{name} high"] = means[:, k] + spreads.numbers.above[:, k]
    board = pd.concat([board, pd.DataFrame(limits)], axis=1)
    is_known = board["mRI low"].notna()
    board["interval"] = pd.Series(None, board.index, dtype=object).mask(is_known, "counts")
    _set_paired_limits(board, sets, paired or {})
    _set_ranks(board, arrays, strata, paired or {})
    return board.sort_values(["rank", "model", "method"], ignore_index=True)


def _numbers(arrays: EntryArrays) -> Floats:
    """Return what `number_columns` names of each entry: (E, k)."""
    n = arrays.tuned.shape[1]
    on_id, on_ood = arrays.tuned[:, :, 0], arrays.tuned[:, :, 1:]
    gained = improvement(on_ood, arrays.before[:, 1:])
    id_mean = _row_means(on_id)
    return np.column_stack(
        [
            _row_means(gained),
            gained,
            id_mean,
            arrays.before[:, 0] - id_mean,
            _row_means(on_ood.diagonal(axis1=1, axis2=2)),
            _row_means(on_ood[:, off_diagonal(n)]),
        ]
    )


def _row_means(values: Floats) -> Floats:
    """Average each row, to the same bit whatever other rows there are.

    The order in which numpy adds depends on how an array lies in memory.
    """
    return np.asarray(np.ascontiguousarray(values).mean(axis=1))


def _spreads(arrays: EntryArrays, strata: Sequence[int], z: float) -> Spreads:
    """Return how far numbers may be off, from counts alone.

    Accuracies that are averaged over downstream sets and seeds are of the same images, so their
    mean counts as one share of those images: no share of [0, 1] scores varies more.
    """
    n = arrays.tuned.shape[1]
    share = over_seeds(arrays.tuned, arrays.starts)[0] / 100
    images = arrays.fewest_images()
    before = arrays.before[arrays.starts] / 100
    before_images = arrays.before_images[arrays.starts]
    equal = np.full(n, 1 / n)
    others = off_diagonal(n) / (n - 1)

    def spread(p: Floats, of: Floats, weights: Floats, among: Sequence[int] = strata) -> Spread:
        return spread_of_sum(p, of, weights, among, z).times(100)

    on_others = np.where(off_diagonal(n), share[:, :, 1:], 0.0).sum(axis=1) / (n - 1)
    fewest = np.where(off_diagonal(n), images[:, :, 1:], np.inf).min(axis=1)
    after = spread(on_others, fewest, equal)
    as_it_came = spread(before[:, 1:], before_images[:, 1:], equal)
    by_set = spread(share[:, :, 1:], images[:, :, 1:], others).minus(
        spread(before[:, None, 1:], before_images[:, None, 1:], others)
    )
    one = np.ones(1)
    on_id = spread(share[:, :, :1].mean(axis=1), images[:, :, :1].min(axis=1), one, [0])
    diagonal = [x[:, :, 1:].diagonal(axis1=1, axis2=2) for x in (share, images)]
    id_before = spread(before[:, :1], before_images[:, :1], one, [0])
    parts = [after.minus(as_it_came), by_set, on_id, id_before.minus(on_id)]
    parts += [spread(diagonal[0], diagonal[1], equal), after]
    numbers = Spread(
        np.column_stack([part.below for part in parts]),
        np.column_stack([part.above for part in parts]),
    )
    return Spreads(numbers, after, as_it_came)


def _set_paired_limits(board: pd.DataFrame, sets: SetNames, paired: Paired) -> None:
    """Give the entries whose predictions are kept their intervals of mRI and RI."""
    names = ["mRI", *(f"RI {name}" for name in sets.ood)]
    is_whole = board["mRI"].notna().tolist()
    for row, key in enumerate(zip(board["model"], board["method"], strict=True)):
        if key in paired and is_whole[row]:
            if not np.allclose(paired[key].improvement, board.loc[row, names].astype(float)):
                raise not_of_these_rows(":".join(key))
            board.loc[row, [f"{name} low" for name in names]] = paired[key].low
            board.loc[row, [f"{name} high" for name in names]] = paired[key].high
            board.loc[row, "interval"] = "paired"


def _set_ranks(
    board: pd.DataFrame, arrays: EntryArrays, strata: Sequence[int], paired: Paired
) -> None:
    mri = board["mRI"].round(_DECIMALS_OF_A_TIE)
    board.insert(0, "rank", mri.rank(method="min", ascending=False).astype("Int64"))
    low, high = (pd.Series(pd.NA, board.index, dtype="Int64") for _ in range(2))
    # Of a published table no counts are known: its ranks have no range.
    known = np.flatnonzero((mri.notna() & board["mRI low"].notna()).to_numpy())
    if len(known) == mri.notna().sum():
        better = _better(board.iloc[known], known, arrays, strata, paired)
        low.iloc[known], high.iloc[known] = ranks.rank_ranges(better)
    board.insert(1, "rank low", low)
    board.insert(2, "rank high", high)


def _better(
    board: pd.DataFrame,
    rows: NDArray[np.int64],
    arrays: EntryArrays,
    strata: Sequence[int],
    paired: Paired,
) -> NDArray[np.bool_]:
    z = critical_value(comparisons=len(board) - 1)
    spreads = _spreads(arrays, strata, z)
    after, before = (
        Spread(spread.below[rows], spread.above[rows]) for spread in (spreads.after, spreads.before)
    )
    models = board["model"].tolist()
    better = ranks.certainly_better(board["mRI"].to_numpy(), after, before, models)
    keys = list(zip(models, board["method"], strict=True))
    both = [k for k, key in enumerate(keys) if key in paired]
    if len(both) > 1:
        by_stratum = zip(*(paired[keys[k]].mri for k in both), strict=True)
        scores = [np.stack(of_entries) for of_entries in by_stratum]
        better[np.ix_(both, both)] = ranks.certainly_better_paired(scores, z)
    return better


def _missing(arrays: EntryArrays, sets: SetNames) -> list[list[str]]:
    """Name the values that the mRI of each model and method lacks."""
    n = len(sets.ood)
    holes = np.isnan(arrays.tuned[:, :, 1:]) & off_diagonal(n)
    has_holes = np.any(holes, axis=(1, 2)) | np.any(np.isnan(arrays.before[:, 1:]), axis=1)
    seeds = arrays.entries["seed"].tolist()
    ends = arrays.starts + run_lengths(arrays.starts, len(seeds))
    missing: list[list[str]] = []
    for start, end in zip(arrays.starts, ends, strict=True):
        names: list[str] = []
        if np.any(has_holes[start:end]):
            names += missing_before(arrays.before[start, 1:], sets)
            for entry in range(start, end):
                of_seed = missing_tuned(arrays.tuned[entry, :, 1:], sets)
                names += [f"{name} (seed {seeds[entry]})" for name in of_seed]
        missing.append(names)
    return missing
