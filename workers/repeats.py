"""Rows of one key that are there more than once: which counts, and which contradict each other.

A row is repeated where a driver died between writing a merged file and deleting its parts, or where
a worker that was thought dead wrote what its successor had written. Copies say the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workers.schemas import KEYS

VALUES = {
    "accuracy": [
        "n_correct",
        "n_correct_unmasked",
        "n_total",
        "n_expected",
        "loss",
        "dataset_digest",
        "weights_digest",
    ],
    "attempts": ["state"],
    "cleared": ["attempt"],
    "history": ["loss", "n_correct", "n_total"],
    "tuning": ["state", "held_out_correct", "held_out_total"],
    "distances": ["value", "dataset_digest", "weights_digest"],
}
"""What rows of one key have to agree in."""

LAST_WORD = {"attempts": ["finished_at"], "tuning": ["finished_at"]}
"""Where a later row replaces an earlier one of the same key, by what it is the later one."""

_ROW = "__row"


def distinct(rows: pa.Table, table: str) -> pa.Table:
    """Keep of each key the row that counts: the first, or what was said last (see LAST_WORD).

    Args:
        rows: of a table, with its keys and what it has in LAST_WORD. Nulls in keys are equal.
        table: its name.
    """
    if rows.num_rows < 2:
        return rows
    if _first_of_each(rows, KEYS[table]).num_rows == rows.num_rows:
        return rows
    if table in LAST_WORD:
        newest_first = [(name, "descending") for name in LAST_WORD[table]]
        rows = rows.take(pc.sort_indices(rows, newest_first))
    return rows.take(_first_of_each(rows, KEYS[table])[f"{_ROW}_min"].sort())


def contradicting(rows: pa.Table, table: str) -> list[int]:
    """Return the rows, by number, that contradict the first row of their key.

    Args:
        rows: of a table, with its keys and VALUES.
        table: its name. Where a later row replaces an earlier one, none contradicts another.
    """
    if table in LAST_WORD:
        return []
    firsts = _first_of_each(rows, KEYS[table])[f"{_ROW}_min"]
    names = [*KEYS[table], *VALUES[table]]
    claims = _numbered(rows, names).group_by(names, use_threads=False)
    claims = claims.aggregate([(_ROW, "min"), (_ROW, "list")])
    others = claims.filter(pc.invert(pc.is_in(claims[f"{_ROW}_min"], firsts)))
    numbers: list[int] = pc.list_flatten(others[f"{_ROW}_list"]).to_pylist()
    return sorted(numbers)


def _first_of_each(rows: pa.Table, names: Sequence[str]) -> pa.Table:
    """Return the distinct values of some columns, with the number of the first row of each."""
    grouped = _numbered(rows, names).group_by(list(names), use_threads=False)
    return grouped.aggregate([(_ROW, "min")])


def _numbered(rows: pa.Table, names: Sequence[str]) -> pa.Table:
    return rows.select(list(names)).append_column(_ROW, pa.array(np.arange(rows.num_rows)))
