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
from workers.value_codes import codes_of

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

REPLACED = {
    "attempts": KEYS["attempts"],
    "history": ["cell_id"],
    "tuning": KEYS["tuning"],
}
"""Where rows that are committed again replace those before them, as `finished_at` says: by what.

A cell that is trained again has the history of that training, however many epochs it had before.
"""

_ROW = "__row"
TABLE_BYTES = 64
"""Bytes a row that may be spent on a table of all keys that there could be."""


def needed(table: str) -> list[str]:
    """Return the columns by which it is known which rows of a table count."""
    return [*KEYS[table], *(["finished_at"] if table in REPLACED else [])]


def distinct(rows: pa.Table, table: str) -> pa.Table:
    """Keep of each key the row that counts: the first, or what was committed last (REPLACED).

    Args:
        rows: of a table, with what is `needed`, dictionaries unified. Nulls in keys are equal.
        table: its name.
    """
    if _are_distinct(rows, KEYS[table]):
        return rows
    if table in REPLACED:
        rows = rows.take(pc.sort_indices(rows, [("finished_at", "descending")]))
        replaced = _others(rows, REPLACED[table], ["finished_at"])
        rows = rows.take(np.setdiff1d(np.arange(rows.num_rows), replaced))
    return rows.take(_firsts(rows, KEYS[table])[f"{_ROW}_min"].sort())


def _are_distinct(rows: pa.Table, names: Sequence[str]) -> bool:
    """Tell whether no two rows agree in some columns.

    Nearly always so, and told in a fraction of the time that grouping by texts takes: each row is
    one number, made from those of its values.
    """
    n = rows.num_rows
    if n < 2:
        return True
    together, size = np.zeros(n, dtype=np.int64), 1
    for name in names:
        codes = codes_of(rows[name])
        n_values = int(codes.max()) + 1
        if size * n_values > np.iinfo(np.int64).max:
            together = np.unique(together, return_inverse=True)[1]
            size = int(together.max()) + 1
        together, size = together * n_values + codes, size * n_values
    if size <= TABLE_BYTES * n:  # many times as fast as sorting
        is_there = np.zeros(size, dtype=np.bool_)
        is_there[together] = True
        return bool(np.count_nonzero(is_there) == n)
    together.sort()
    return bool((together[1:] != together[:-1]).all())


def contradicting(rows: pa.Table, table: str) -> list[int]:
    """Return the rows, by number, that contradict the first row of their key.

    Args:
        rows: of a table, with its keys and VALUES.
        table: its name. Where rows replace others, none contradicts another.
    """
    return [] if table in REPLACED else _others(rows, KEYS[table], VALUES[table])


def _others(rows: pa.Table, key: Sequence[str], values: Sequence[str]) -> list[int]:
    """Return the rows, by number, whose values are not those of the first row of their key."""
    firsts = _firsts(rows, key)[f"{_ROW}_min"]
    names = [*key, *values]
    claims = _numbered(rows, names).group_by(names, use_threads=False)
    claims = claims.aggregate([(_ROW, "min"), (_ROW, "list")])
    others = claims.filter(pc.invert(pc.is_in(claims[f"{_ROW}_min"], firsts)))
    numbers: list[int] = pc.list_flatten(others[f"{_ROW}_list"]).to_pylist()
    return sorted(numbers)


def _firsts(rows: pa.Table, names: Sequence[str]) -> pa.Table:
    """Return the distinct values of some columns, with the number of the first row of each."""
    grouped = _numbered(rows, names).group_by(list(names), use_threads=False)
    return grouped.aggregate([(_ROW, "min")])


def _numbered(rows: pa.Table, names: Sequence[str]) -> pa.Table:
    return rows.select(list(names)).append_column(_ROW, pa.array(np.arange(rows.num_rows)))
