"""Rows that must not be averaged or compared: of other data, or of other weights, under one name.

Every row says by digest which copy of its evaluation set it was scored on, and which weights its
model came with. A difference of two rows means something only when both digests agree.
"""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from workers.errors import Problem

HINT = "they must not be compared; --mixed-data does so all the same"
_NAMED_CELLS = 3


def mixtures(rows: pd.DataFrame, sets: Collection[str]) -> list[Problem]:
    """Say which sets have rows of several digests, and which models have several weights.

    Args:
        rows: of the store's accuracy table. A digest that is null, or a column that is not there,
            agrees with everything.
        sets: the evaluation sets that matter.

    Returns:
        A problem for each evaluation set, then for each model.
    """
    matters = rows["eval_dataset"].isin(list(sets))
    relevant = rows if matters.all() else rows[matters]
    return [
        *_mixed(relevant, "eval_dataset", "dataset_digest", "different copies of this set"),
        *_mixed(relevant, "model", "weights_digest", "different weights of this model"),
    ]


def _mixed(rows: pd.DataFrame, name: str, digest: str, what: str) -> list[Problem]:
    if digest not in rows:
        return []
    distinct = rows[[name, digest]].drop_duplicates().dropna(subset=digest)
    several = distinct.loc[distinct.duplicated(name, keep=False), name]
    if several.empty:
        return []
    wanted = rows[digest].notna() & rows[name].isin(list(several))
    known = rows.loc[wanted, [name, digest, "cell_id"]].astype(str)
    return [
        Problem(str(value), f"its rows are of {what}: {_counted(group, digest)}", HINT)
        for value, group in known.groupby(name)
    ]


def _counted(rows: pd.DataFrame, digest: str) -> str:
    """List the digests, the most frequent first, and the cells of all others."""
    groups = {str(value): group["cell_id"] for value, group in rows.groupby(digest)}
    first, *others = sorted(groups.items(), key=lambda item: -len(item[1]))
    told = [f"{len(first[1])} rows of {first[0]}"]
    told += [f"{len(cells)} rows of {value} (cells {_named(cells)})" for value, cells in others]
    return ", ".join(told)


def _named(cells: pd.Series[str]) -> str:
    ids = sorted(set(cells))
    more = f" and {len(ids) - _NAMED_CELLS} more" if len(ids) > _NAMED_CELLS else ""
    return ", ".join(ids[:_NAMED_CELLS]) + more
