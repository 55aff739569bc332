"""What a store holds of each cell, as a plan has to know it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from workers.curve import EpochKey
from workers.suites.base import SplitKey
from workers.value_codes import codes_of, dictionary_of

T = TypeVar("T")

Splits = Mapping[str, AbstractSet[SplitKey]]
"""The splits that are there of each evaluation set."""

Epochs = Mapping[EpochKey, int]
"""How many splits were scored after each epoch."""

_SPLIT = ["eval_dataset", "corruption", "severity"]
_EPOCH = ["eval_dataset", "epoch", "subset_fraction", "subset_seed"]


@dataclass
class Committed:
    """What a store holds: for each cell the splits of each evaluation set, and its checkpoint."""

    splits: dict[str, Splits] = field(default_factory=dict)
    """By cell. Cells that have the same share one object."""
    checkpoints: set[str] = field(default_factory=set)
    damaged: tuple[str, ...] = ()
    epochs: dict[str, Epochs] = field(default_factory=dict)
    """By cell, how many splits were scored after each epoch while it was trained."""
    predictions: dict[str, set[str]] = field(default_factory=dict)
    """By cell, the evaluation sets of which its predictions are kept."""

    @classmethod
    def of(
        cls,
        rows: pa.Table,
        checkpoints: Collection[str],
        damaged: Collection[str] = (),
        predictions: Mapping[str, set[str]] | None = None,
    ) -> Committed:
        """Sum up the accuracy table.

        Args:
            rows: its keys, in any order, each as often as it likes.
            checkpoints: the cells that have one.
            damaged: files that could not be read.
            predictions: the evaluation sets of which they are kept, by cell.
        """
        is_final = pc.is_null(rows["epoch"])
        final, others = rows.filter(is_final), rows.filter(pc.invert(is_final))
        return cls(
            _by_cell(final, _SPLIT, _by_set),
            set(checkpoints),
            tuple(damaged),
            _by_cell(others, [*_EPOCH, *_SPLIT[1:]], _by_epoch),
            dict(predictions or {}),
        )

    def has(self, cell_id: str, eval_dataset: str, splits: Iterable[SplitKey]) -> bool:
        """Whether every one of a set's splits is there."""
        there = self.splits.get(cell_id, {}).get(eval_dataset, frozenset())
        return there >= frozenset(splits)


def _by_cell(
    rows: pa.Table, columns: Sequence[str], make: Callable[[Iterable[Any]], T]
) -> dict[str, T]:
    """Put together what is there of each cell: the distinct values of some columns.

    Of the rows of a large grid nearly all cells have the same: that is made once.
    """
    if rows.num_rows == 0:
        return {}
    cells = codes_of(rows["cell_id"])
    kinds, first = _kinds(rows, columns)
    pairs = np.unique(cells * len(first) + kinds)  # sorted by cell, then by kind
    of_cell, kind = np.divmod(pairs, len(first))
    starts = np.flatnonzero(np.diff(of_cell, prepend=-1))
    names = [None, *dictionary_of(rows["cell_id"]).dictionary.to_pylist()]
    listed = [tuple(rows[name][row].as_py() for name in columns) for row in first.tolist()]
    made: dict[bytes, T] = {}
    found: dict[str, T] = {}
    for start, end in zip(starts, [*starts[1:], len(pairs)], strict=True):
        some = kind[start:end]
        if some.tobytes() not in made:
            made[some.tobytes()] = make(listed[code] for code in some)
        found[names[of_cell[start]]] = made[some.tobytes()]
    return found


def _by_set(listed: Iterable[tuple[str, str | None, int | None]]) -> Splits:
    splits: dict[str, set[SplitKey]] = {}
    for eval_dataset, corruption, severity in listed:
        splits.setdefault(eval_dataset, set()).add((corruption, severity))
    return {name: frozenset(keys) for name, keys in splits.items()}


def _by_epoch(listed: Iterable[tuple[str, int, float, int, str | None, int | None]]) -> Epochs:
    return Counter((name, epoch, fraction, seed) for name, epoch, fraction, seed, *_ in listed)


def sets_by_cell(names: Iterable[str]) -> dict[str, set[str]]:
    """Sort the files of a folder that are named CELL.SET.parquet."""
    found: dict[str, set[str]] = {}
    for name in names:
        cell_id, _, eval_dataset = name.removesuffix(".parquet").partition(".")
        found.setdefault(cell_id, set()).add(eval_dataset)
    return found


def _kinds(rows: pa.Table, columns: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the distinct values of columns numbers; return each row's, and each number's first row.

    The values of one column are renumbered before the next comes, lest the numbers overflow.
    """
    codes = np.zeros(rows.num_rows, dtype=np.int64)
    first = np.zeros(1, dtype=np.int64)
    for name in columns:
        column = codes_of(rows[name])
        codes = codes * (column.max() + 1) + column
        _, first, codes = np.unique(codes, return_index=True, return_inverse=True)
    return codes.astype(np.int64), first
