"""Accuracies along training: what a grid's `curve` asks for, as frames for figures.

Only rows with an epoch are looked at here, and only rows without one anywhere else: no value of a
curve gets into a leaderboard.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from numpy.typing import NDArray

from orchestrator import results
from orchestrator.accuracies import (
    CELL,
    IMAGES,
    KEY,
    Splits,
    accuracies_from_rows,
    with_texts,
)
from orchestrator.expansion import cells_by_id
from orchestrator.grid import Grid
from orchestrator.mixtures import mixtures
from orchestrator.scoring import MASKED, Scoring
from orchestrator.set_names import SetNames
from orchestrator.statistics import Floats
from workers.cell import Cell
from workers.curve import Curve
from workers.errors import Problem, UserError
from workers.store import Store

PART = ["subset_fraction", "subset_seed"]
"""Which part of a set's images was scored (see `workers.curve`)."""

COLUMNS = [*KEY, "epoch", *PART, "accuracy", IMAGES]
"""Of a frame of curves: a row per cell, epoch, evaluation set and part of its images.

`epoch` 0 is before training; `accuracy` is in percent, over a set with corruptions the mean over
the severities of each, then over the corruptions; `images` is how many a split has.
"""

ENTRY = ["model", "method", "downstream"]
SIDES = ["tuned", "id", "ood"]
"""Accuracy on the downstream set itself, on the ID set, and the mean over the other OOD sets."""

SUMMARY = [*ENTRY, "epoch", *SIDES, "seeds"]
"""Of a frame of curves summed up: percents, means over the seeds that have reached the epoch."""


def read_curves(
    store: Store, grid: Grid, scoring: Scoring = MASKED, *, mixed_data: bool = False
) -> pd.DataFrame:
    """Return the curves of a grid's cells: COLUMNS, sorted.

    Raises:
        UserError: as `curves_of`, and when a file of the store cannot be read.
    """
    scan = store.scan("accuracy", [*results.COLUMNS, *PART], encoded=True)
    if scan.damaged:
        raise UserError([Problem(name, "this file is damaged") for name in scan.damaged])
    rows = scan.table.filter(pc.is_valid(scan.table["epoch"])).unify_dictionaries()
    cells = cells_by_id(grid)
    splits = grid.suite.splits()
    return curves_of(rows.to_pandas(), cells, splits, scoring, mixed_data=mixed_data)


def curves_of(
    rows: pd.DataFrame,
    cells: Mapping[str, Cell],
    splits: Splits,
    scoring: Scoring = MASKED,
    *,
    mixed_data: bool = False,
) -> pd.DataFrame:
    """Reduce rows to curves. Pure.

    An epoch at which a split of a set is missing gives no value for that set, never a shorter mean.

    Args:
        rows: of the store's accuracy table.
        cells: the grid's own, by id; others are left out.
        splits: what each set's accuracy is made of.
        scoring: which counts of correct predictions are meant.
        mixed_data: take rows together that are of different copies of a set or of the weights.

    Raises:
        UserError: rows are mixed, and `mixed_data` does not allow it.
        ConflictingRows: when rows of one key differ.
    """
    epochs = results.labelled(rows[rows["epoch"].notna()], cells)
    if not mixed_data and (mixed := mixtures(epochs, splits)):
        raise UserError(mixed)
    parts = []
    for _, some in epochs.groupby(["epoch", *PART]):
        means = accuracies_from_rows(some.assign(epoch=np.nan), splits, scoring, mixed_data=True)
        parts.append(with_texts(means).assign(**some[["epoch", *PART]].iloc[0]))
    if not parts:
        return pd.DataFrame(columns=COLUMNS)
    found = pd.concat(parts).astype({"epoch": "int64", "subset_seed": "int64"})
    return found[COLUMNS].sort_values([*KEY, "epoch", *PART], ignore_index=True)


def of_one_part(curves: pd.DataFrame, wanted: Curve | None) -> pd.DataFrame:
    """Keep the curves of one part of the images: those that are asked for, or the largest part."""
    if curves.empty:
        return curves
    parts = curves[PART].drop_duplicates().sort_values(PART, ascending=[False, True])
    fraction, seed = parts.iloc[0]
    if wanted is not None and (wanted.fraction, wanted.seed) in set(parts.itertuples(index=False)):
        fraction, seed = wanted.fraction, wanted.seed
    is_meant = (curves["subset_fraction"] == fraction) & (curves["subset_seed"] == seed)
    chosen: pd.DataFrame = curves[is_meant]
    return chosen


def part_of_curves(curves: pd.DataFrame) -> Curve | None:
    """Say what curves of one part of the images are of; None where there are none."""
    if curves.empty:
        return None
    fraction, seed = curves[PART].iloc[0]
    sets = tuple(sorted(set(curves["eval_dataset"])))
    return Curve(sets, fraction=float(fraction), seed=int(seed))


def summed_up(curves: pd.DataFrame, sets: SetNames) -> pd.DataFrame:
    """Return what a figure of curves shows: SUMMARY, a row per entry, downstream set and epoch.

    Args:
        curves: of one part of the images; see `of_one_part`.
        sets: which of them is the ID set.

    Returns:
        The mean over OOD sets is over those that any curve has, without the downstream set; where
        one of them, or a seed that has reached the epoch, has no value, it is NaN: never a shorter
        mean.
    """
    table = curves.pivot(index=[*CELL, "epoch"], columns="eval_dataset", values="accuracy")
    downstream = table.index.get_level_values("downstream").to_numpy()
    ood = [name for name in sets.ood if name in table]
    values = table.reindex(columns=[sets.id, *ood]).to_numpy(dtype=np.float64)
    is_own = downstream[:, None] == np.array(["", *ood], dtype=object)
    is_other = ~is_own
    is_other[:, 0] = False
    per_cell = pd.DataFrame(
        {
            "tuned": _mean(values, is_own),
            "id": values[:, 0],
            "ood": _mean(values, is_other),
        },
        index=table.index,
    )
    groups = per_cell.groupby([*ENTRY, "epoch"])
    seeds = groups.size()
    means = groups.mean().where(groups.count().eq(seeds, axis=0))
    return means.assign(seeds=seeds).reset_index()[SUMMARY]


def _mean(values: Floats, is_meant: NDArray[np.bool_]) -> Floats:
    """Average the values of each row that are meant; NaN where there is none, or one is NaN."""
    counts = is_meant.sum(axis=1)
    sums = np.where(is_meant, values, 0.0).sum(axis=1)
    return np.asarray(np.where(counts > 0, sums / np.maximum(counts, 1), np.nan))
