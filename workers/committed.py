"""What a store holds of each cell, as a plan has to know it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from workers.suites.base import SplitKey

Splits = Mapping[str, AbstractSet[SplitKey]]
"""The splits that are there of each evaluation set."""

_SPLIT = ["eval_dataset", "corruption", "severity"]


@dataclass
class Committed:
    """What a store holds: for each cell the splits of each evaluation set, and its checkpoint."""

    splits: dict[str, Splits] = field(default_factory=dict)
    """By cell. Cells that have the same share one object."""
    checkpoints: set[str] = field(default_factory=set)
    damaged: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, rows: pa.Table, checkpoints: Collection[str], damaged: Collection[str] = ()
    ) -> Committed:
        """Sum up the accuracy table's keys.

        Args:
            rows: the keys, in any order, each as often as it likes.
            checkpoints: the cells that have one.
            damaged: files that could not be read.
        """
        final = rows.filter(pc.is_null(rows["epoch"]))
        return cls(_splits_by_cell(final), set(checkpoints), tuple(damaged))

    def has(self, cell_id: str, eval_dataset: str, splits: Iterable[SplitKey]) -> bool:
        """Whether every one of a set's splits is there."""
        there = self.splits.get(cell_id, {}).get(eval_dataset, frozenset())
        return all(split in there for split in splits)


def _splits_by_cell(rows: pa.Table) -> dict[str, Splits]:
    """Return what is there of each cell.

    Of the rows of a large grid nearly all cells have the same splits: those are put together once.
    """
    if rows.num_rows == 0:
        return {}
    cells = _codes(rows["cell_id"])
    kinds, first = _kinds(rows)
    pairs = np.unique(cells * len(first) + kinds)  # sorted by cell, then by kind of split
    of_cell, kind = np.divmod(pairs, len(first))
    starts = np.flatnonzero(np.diff(of_cell, prepend=-1))
    names = [None, *_dictionary(rows["cell_id"]).dictionary.to_pylist()]
    listed = [tuple(rows[name][row].as_py() for name in _SPLIT) for row in first.tolist()]
    made: dict[bytes, Splits] = {}
    found: dict[str, Splits] = {}
    for start, end in zip(starts, [*starts[1:], len(pairs)], strict=True):
        some = kind[start:end]
        if (splits := made.get(some.tobytes())) is None:
            splits = made[some.tobytes()] = _by_set([listed[code] for code in some])
        found[names[of_cell[start]]] = splits
    return found


def _by_set(listed: Iterable[tuple[str, str | None, int | None]]) -> Splits:
    splits: dict[str, set[SplitKey]] = {}
    for eval_dataset, corruption, severity in listed:
        splits.setdefault(eval_dataset, set()).add((corruption, severity))
    return {name: frozenset(keys) for name, keys in splits.items()}


def _kinds(rows: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the distinct splits numbers; return each row's, and the first row of each number."""
    codes = np.zeros(rows.num_rows, dtype=np.int64)
    for name in _SPLIT:
        column = _codes(rows[name])
        codes = codes * (column.max() + 1) + column
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    return inverse.astype(np.int64), first


def _codes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Give the distinct values of a column numbers: 0 is null, the first value is 1."""
    indices = pc.fill_null(_dictionary(column).indices, -1)
    return np.asarray(indices.to_numpy(zero_copy_only=False), dtype=np.int64) + 1


def _dictionary(column: pa.ChunkedArray) -> pa.DictionaryArray:
    return column.combine_chunks().dictionary_encode()
