"""Accuracies from the store's counts.

The frame that `orchestrator.leaderboard` ranks, with one row per value; `accuracy_tables` reads the
same from a published table:

- `model`: label of the pre-trained model
- `method`: how it was fine-tuned; `pretrained` is the baseline
- `seed`: integer; a baseline counts for every seed of its model
- `downstream`: the set it was fine-tuned on; missing for the baseline
- `eval_dataset`: the set it was evaluated on
- `accuracy`: top-1 accuracy in percent
- `images`: how many images it is of, where counts are known
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from orchestrator.mixtures import mixtures
from orchestrator.scoring import MASKED, Scoring
from workers.errors import UserError

BASELINE = "pretrained"
CELL = ["model", "method", "seed", "downstream"]
KEY = [*CELL, "eval_dataset"]
ACCURACY_COLUMNS = [*KEY, "accuracy"]
IMAGES = "images"
TEXTS = ["model", "method", "downstream", "eval_dataset"]
"""Of KEY, the columns that repeat few texts many times."""

Splits = Mapping[str, Sequence[tuple[str | None, int | None]]]
"""The (corruption, severity) pairs that each set must have; [(None, None)] for a plain set."""

_SPLIT = ["eval_dataset", "corruption", "severity"]
_COUNTS = ["n_correct", "n_correct_unmasked", "n_total"]


class ConflictingRows(ValueError):  # noqa: N818
    """Two rows claim different values for one key, so neither can be trusted."""


def accuracies_from_rows(
    rows: pd.DataFrame, splits: Splits, scoring: Scoring = MASKED, *, mixed_data: bool = False
) -> pd.DataFrame:
    """Reduce the store's final rows to one accuracy per cell and evaluation set.

    A split's accuracy is 100 * correct / total. A set with corruptions is the mean over the
    severities of each corruption, then over the corruptions. A set that lacks any split of
    `splits` gives no accuracy, never a shorter mean. Rows of sets and splits that `splits` does
    not name are left out.

    Args:
        rows: of the store's accuracy table.
        splits: what each set's accuracy is made of.
        scoring: which counts of correct predictions are meant.
        mixed_data: take rows together that are of different copies of a set, or of different
            weights of a model.

    Returns:
        Accuracies in percent and images, sorted by key, texts as categories (`with_texts` makes
        strings of them). Splits show the same images, so the images of a set with corruptions are
        those of its smallest split.

    Raises:
        UserError: rows are mixed and `mixed_data` does not allow it (see `orchestrator.mixtures`).
        ConflictingRows: rows of one key differ in their counts, or come from several cells.
        ValueError: a count is missing or outside 0..n_total, or n_total is 0.
    """
    is_final = rows["epoch"].isna()
    final = rows if is_final.all() else rows[is_final]
    if not mixed_data and (mixed := mixtures(final, splits)):
        raise UserError(mixed)
    table = _split_table(splits)
    split = _split_of(final, table)
    wanted = np.flatnonzero(split >= 0)
    key = (_codes(final, CELL) * max(len(table), 1) + split)[wanted]
    order = np.argsort(key, kind="stable")
    ordered, key = _Ordered(final, wanted[order]), key[order]
    is_new = _begins(key)
    _check_unique(ordered, key // max(len(table), 1), is_new)
    return _means(ordered[is_new], key[is_new], table, scoring)


@dataclass(frozen=True)
class _Ordered:
    """Some rows of a frame in some order; none is copied before it is asked for."""

    frame: pd.DataFrame
    order: NDArray[np.int64]
    """Their positions in it."""

    def __getitem__(self, which: NDArray[Any]) -> _Ordered:
        return _Ordered(self.frame, self.order[which])

    def rows(self, columns: Sequence[str]) -> pd.DataFrame:
        return self.frame[list(columns)].iloc[self.order]

    def numbers(self, column: str) -> NDArray[np.float64]:
        """Return a column's numbers, NaN for null."""
        values = self.frame[column].to_numpy(dtype=np.float64, na_value=np.nan)
        return np.asarray(values[self.order])

    def categories(self, column: str) -> pd.Categorical:
        """Return a column's texts as categories in the order of names: as these, they sort."""
        texts = pd.Categorical(self.frame[column])
        codes, names = texts.codes[self.order], texts.categories
        is_used = np.bincount(codes[codes >= 0], minlength=len(names)) > 0
        used = sorted(names[is_used])
        places = np.full(len(names) + 1, -1)  # the code of null is -1
        places[names.get_indexer(pd.Index(used, dtype=names.dtype))] = np.arange(len(used))
        return pd.Categorical.from_codes(places[codes], pd.Index(used, dtype=names.dtype))


def unique_rows(frame: pd.DataFrame, key: Sequence[str], values: Sequence[str]) -> pd.DataFrame:
    """Drop repeated rows; what is left has each key once.

    Raises:
        ConflictingRows: rows of one key differ in `values`. The message names the first such key.
    """
    distinct = frame.drop_duplicates([*key, *values])
    clashes = distinct[distinct.duplicated(list(key), keep=False)]
    if clashes.empty:
        return distinct
    first = distinct.merge(clashes[list(key)].head(1), on=list(key))
    claims = " and ".join(_pairs(row) for row in first[list(values)].to_dict("records"))
    raise ConflictingRows(f"{_pairs(first[list(key)].iloc[0].to_dict())} has both {claims}")


def _means(
    rows: _Ordered, key: NDArray[np.int64], table: pd.DataFrame, scoring: Scoring
) -> pd.DataFrame:
    """Average rows that are sorted by key over severities, then over corruptions."""
    split = key % max(len(table), 1)
    correct, total = _counts(rows, table, split, scoring)
    share = 100.0 * correct / total
    # Splits are numbered set by set and corruption by corruption: each is one run of rows.
    block = _begins(key - split + table["block"].to_numpy()[split])
    of_set = _begins(key - split + table["first"].to_numpy()[split])
    per_block = _run_means(share, block)
    accuracy = _run_means(per_block, of_set[block])
    starts = np.flatnonzero(of_set)
    n_found = np.diff(np.append(starts, len(key)))
    is_whole = n_found == table["n_splits"].to_numpy()[split[starts]]
    images = np.minimum.reduceat(total, starts) if len(starts) else total
    whole = rows[starts[is_whole]]
    texts = {name: whole.categories(name) for name in TEXTS}
    numbers = {
        "seed": whole.rows(["seed"])["seed"].to_numpy(dtype=np.int64),
        "accuracy": accuracy[is_whole],
        IMAGES: images[is_whole].astype(np.int64),
    }
    return pd.DataFrame(texts | numbers)[[*ACCURACY_COLUMNS, IMAGES]]


def with_texts(accuracies: pd.DataFrame) -> pd.DataFrame:
    """Return a frame of accuracies with plain strings for its categories."""
    return accuracies.astype(dict.fromkeys(TEXTS, "str"))


def _counts(
    rows: _Ordered, table: pd.DataFrame, split: NDArray[np.int64], scoring: Scoring
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how many were right and how many there were; see that both can be."""
    total = rows.numbers("n_total")
    is_unmasked = table["eval_dataset"].isin(list(scoring.unmasked)).to_numpy()[split]
    masked, unmasked = rows.numbers("n_correct"), rows.numbers("n_correct_unmasked")
    correct = np.where(is_unmasked, unmasked, masked)
    bad = np.flatnonzero(~((total > 0) & (correct >= 0) & (correct <= total)))
    if len(bad):
        where = _pairs(rows[bad[:1]].rows([*CELL, *_SPLIT]).iloc[0].to_dict())
        raise ValueError(
            f"{len(bad)} rows have impossible counts, the first of them {where}: "
            f"{correct[bad[0]]:g} correct of {total[bad[0]]:g}"
        )
    return correct, total


def _check_unique(rows: _Ordered, cell: NDArray[np.int64], is_new: NDArray[np.bool_]) -> None:
    """Check rows that are sorted by cell and split: one cell id per cell, one count per split.

    Raises:
        ConflictingRows: when they are not.
    """
    again = np.flatnonzero(~is_new)
    for column in _COUNTS if len(again) else []:
        values = rows.numbers(column)
        differ = values[again] != values[again - 1]
        differ &= ~(np.isnan(values[again]) & np.isnan(values[again - 1]))
        if differ.any():
            at = again[differ][0]
            two = rows[np.array([at - 1, at])].rows([*CELL, *_SPLIT, *_COUNTS])
            unique_rows(two.astype({column: "Int64"}), [*CELL, *_SPLIT], _COUNTS)
    ids = rows.frame["cell_id"].astype("category").cat.codes.to_numpy()[rows.order]
    differ = (ids[1:] != ids[:-1]) & (cell[1:] == cell[:-1])
    if differ.any():
        at = np.flatnonzero(differ)[0]
        unique_rows(rows[np.array([at, at + 1])].rows([*CELL, "cell_id"]), CELL, ["cell_id"])


def _split_table(splits: Splits) -> pd.DataFrame:
    """List the wanted splits, each once: by set in the order of names, then by corruption.

    Returns:
        The columns of _SPLIT; `first` and `block`: the positions of the first split of its set and
        of its corruption; `n_splits`: how many its set has.
    """
    listed = [
        (name, corruption, severity)
        for name in sorted(splits)
        for corruption, severity in _by_corruption(splits[name])
    ]
    table = pd.DataFrame(listed, columns=_SPLIT, dtype=object)
    position = pd.Series(range(len(table)), dtype="int64")
    sets = position.groupby(table["eval_dataset"].astype(str))
    blocks = [table["eval_dataset"].astype(str), table["corruption"].astype(object).fillna("")]
    return table.assign(
        first=sets.transform("min"),
        block=position.groupby(blocks).transform("min"),
        n_splits=sets.transform("size"),
    )


def _by_corruption(
    pairs: Sequence[tuple[str | None, int | None]],
) -> list[tuple[str | None, int | None]]:
    """Put the severities of each corruption together, corruptions in the order they come."""
    order = list(dict.fromkeys(corruption for corruption, _ in pairs))
    return sorted(dict.fromkeys(pairs), key=lambda pair: order.index(pair[0]))


def _split_of(rows: pd.DataFrame, table: pd.DataFrame) -> NDArray[np.int64]:
    """Return the position of each row's split in the table; -1 where it is not wanted."""
    inverse, distinct = pd.factorize(_codes(rows, _SPLIT))
    first = np.empty(len(distinct), dtype=np.int64)
    first[inverse[::-1]] = np.arange(len(rows))[::-1]
    known = {_split_key(*split): n for n, split in enumerate(table[_SPLIT].to_numpy().tolist())}
    kinds = rows[_SPLIT].iloc[first].astype(object).to_numpy().tolist()
    positions = [known.get(_split_key(*kind), -1) for kind in kinds]
    return np.asarray(positions, dtype=np.int64)[inverse]


def _split_key(name: Any, corruption: Any, severity: Any) -> tuple[str, str | None, int | None]:
    return (
        str(name),
        None if pd.isna(corruption) else str(corruption),
        None if pd.isna(severity) else int(severity),
    )


def _codes(rows: pd.DataFrame, columns: Sequence[str]) -> NDArray[np.int64]:
    """Give each combination of values a number, in the order of the values, nulls first."""
    together = np.zeros(len(rows), dtype=np.int64)
    for column in columns:
        values = rows[column]
        if not isinstance(values.dtype, pd.CategoricalDtype):
            values = values.astype("category")
        names = values.cat.categories
        place = np.empty(len(names) + 1, dtype=np.int64)
        place[np.argsort(names.to_numpy())] = np.arange(1, len(names) + 1)
        place[-1] = 0  # the code of null is -1
        together = together * (len(names) + 1) + place[values.cat.codes.to_numpy()]
    return together


def _begins(sorted_values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell where a run of equal values begins."""
    begins = np.ones(len(sorted_values), dtype=bool)
    begins[1:] = sorted_values[1:] != sorted_values[:-1]
    return begins


def _run_means(values: NDArray[np.float64], begins: NDArray[np.bool_]) -> NDArray[np.float64]:
    starts = np.flatnonzero(begins)
    if not len(starts):
        return values
    sizes = np.diff(np.append(starts, len(values)))
    return np.asarray(np.add.reduceat(values, starts) / sizes)


def _pairs(record: Mapping[Hashable, Any]) -> str:
    """Write a row as "name=value, ..." without its nulls."""
    return ", ".join(f"{name}={value}" for name, value in record.items() if pd.notna(value))
