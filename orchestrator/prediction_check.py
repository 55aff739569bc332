"""What is wrong with a store's predictions: do they belong to the rows of their cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pyarrow as pa

from orchestrator.predictions import is_target, lists
from workers.schemas import KEYS
from workers.store import Store
from workers.tables import DamagedTableError, read_file

READERS = 4
"""Files that are looked at together: each is in memory whole."""

_SPLIT = ["corruption", "severity"]

Fault = tuple[str, str, str]
"""Kind, file and message, as `orchestrator.verify` has them."""


@dataclass(frozen=True)
class PredictionCheck:
    """What was looked at, and what is wrong."""

    n_rows: int = 0
    faults: list[Fault] = field(default_factory=list)


def check_predictions(store: Store, accuracy: pd.DataFrame) -> PredictionCheck:
    """Check every file of predictions against the accuracy rows of its cell and set.

    Args:
        store: to look at.
        accuracy: its rows: cell_id, epoch, eval_dataset, corruption, severity, the counts and
            dataset_digest.

    Raises:
        StorageError: when a file cannot be read.
    """
    final = accuracy[accuracy["epoch"].isna()].drop_duplicates(KEYS["accuracy"])
    rows = {
        (str(key[0]), str(key[1])): of for key, of in final.groupby(["cell_id", "eval_dataset"])
    }
    names = [f"predictions/{name}" for name in store.storage.names("predictions", ".parquet")]

    def look(name: str) -> tuple[int, list[Fault]]:
        try:
            table = read_file(store.storage, "predictions", name)
        except FileNotFoundError:
            return 0, []
        except DamagedTableError as error:
            return 0, [("file", name, str(error))]
        return table.num_rows, [(kind, name, why) for kind, why in _faults(table, rows)]

    with ThreadPoolExecutor(READERS) as readers:
        found = list(readers.map(look, names))
    return PredictionCheck(sum(n for n, _ in found), [fault for _, some in found for fault in some])


def _faults(
    table: pa.Table, rows: Mapping[tuple[str, str], pd.DataFrame]
) -> Iterator[tuple[str, str]]:
    """Say what is wrong with the predictions of a cell on a set: kinds and messages."""
    if not table.num_rows:
        yield "count", "it has no images"
        return
    yield from _impossible(table)
    first = table.slice(0, 1).to_pylist()[0]
    of_cell = rows.get((first["cell_id"], first["eval_dataset"]))
    if of_cell is not None:  # else its rows are yet to come, or were set aside
        yield from _unlike(table, of_cell)


def _impossible(table: pa.Table) -> Iterator[tuple[str, str]]:
    """Say what cannot be true of any prediction."""
    images = table.select([*_SPLIT, "image"]).group_by([*_SPLIT, "image"]).aggregate([])
    if images.num_rows < table.num_rows:
        yield "key", f"{table.num_rows - images.num_rows} images are there twice"
    for scope in ("", "_unmasked"):
        top1 = table[f"top1{scope}"].to_numpy()
        right = is_target(table, top1) != table[f"correct{scope}"].to_numpy()
        if right.any():
            yield "count", f"correct{scope} is wrong by the targets of {int(right.sum())} images"
        probability = table[f"probability{scope}"].to_numpy()
        if not ((probability > 0) & (probability <= 1)).all():
            yield "count", f"probability{scope} is not in 0..1"
    for column, best in (("top", "top1_unmasked"), ("top_masked", "top1")):
        kept = lists(table, column)
        if kept is not None and (kept[:, 0] != table[best].to_numpy()).any():
            yield "count", f"{column} does not begin with {best}"


def _unlike(table: pa.Table, rows: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Say what the predictions and the accuracy rows of a cell and set do not agree in."""
    counted = table.group_by(_SPLIT).aggregate(
        [([], "count_all"), ("correct", "sum"), ("correct_unmasked", "sum")]
    )
    counts = {_key(one): one for one in counted.to_pylist()}
    wanted = {_key(one): one for one in rows.to_dict("records")}
    if counts.keys() != wanted.keys():
        yield "key", f"it has {len(counts)} splits, and the accuracy rows have {len(wanted)}"
    columns = {
        "n_total": "count_all",
        "n_correct": "correct_sum",
        "n_correct_unmasked": "correct_unmasked_sum",
    }
    for key in counts.keys() & wanted.keys():
        for theirs, own in columns.items():
            said = wanted[key][theirs]
            if pd.notna(said) and said != counts[key][own]:
                where = " ".join(str(part) for part in key if part is not None)
                split = f" of {where}" if where else ""
                yield "count", f"{theirs}{split} is {counts[key][own]} here, {said:g} in accuracy/"
    digests = {str(one) for one in set(rows["dataset_digest"].dropna())}
    own_digests = set(table["dataset_digest"].unique().to_pylist()) - {None}
    if digests and own_digests and own_digests != digests:
        yield "digest", f"of the copy {sorted(own_digests)}, the accuracy rows of {sorted(digests)}"


def _key(row: Mapping[Any, Any]) -> tuple[str | None, int | None]:
    corruption, severity = (row[name] for name in _SPLIT)
    return (
        None if pd.isna(corruption) else str(corruption),
        None if pd.isna(severity) else int(severity),
    )
