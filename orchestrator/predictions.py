"""Reading the predictions that a store keeps: those of one cell on one evaluation set."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from workers.errors import Problem, UserError, nearest
from workers.schemas import PREDICTIONS
from workers.store import Store
from workers.tables import DamagedTableError, read_columns

IMAGE = ["corruption", "severity", "image"]
"""What names a picture of an evaluation set."""


def read_predictions(
    store: Store, cell_id: str, eval_dataset: str, columns: Sequence[str] | None = None
) -> pa.Table:
    """Read what a cell predicts on a set.

    Args:
        store: that keeps it.
        cell_id: whose predictions are meant.
        eval_dataset: on which set.
        columns: of the table; all of them when none are given.

    Raises:
        UserError: when they are not there, or not whole.
        StorageError: when the store cannot be read.
    """
    name = f"predictions/{cell_id}.{eval_dataset}.parquet"
    wanted = PREDICTIONS.names if columns is None else list(columns)
    try:
        return read_columns(store.storage, "predictions", name, wanted)
    except FileNotFoundError as error:
        has = store.kept_predictions().get(cell_id, set())
        message = f"no predictions of cell {cell_id} on {eval_dataset!r} are kept"
        hint = nearest(eval_dataset, has) if has else "name the set in the grid's `predictions`"
        raise UserError([Problem(f"store {store.uri}", message, hint)]) from error
    except DamagedTableError as error:
        hint = "rib verify --set-aside moves it away, and the next run makes it anew"
        raise UserError([Problem(f"{store.uri}/{name}", str(error), hint)]) from error


def lists(table: pa.Table, column: str) -> NDArray[np.int16] | None:
    """Return a column of lists that are all as long as each other: [N, K]; None if it is null."""
    found = table[column].combine_chunks()
    if found.null_count == len(found):
        return None
    values = found.flatten().to_numpy()
    return np.asarray(values.reshape(len(found), -1))


def is_target(table: pa.Table, classes: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Say of each image whether a class is one of those that are right: [N]."""
    return any_target(table, lambda targets, images: targets == classes[images])


def any_target(
    table: pa.Table, is_meant: Callable[[NDArray[np.int16], NDArray[np.int64]], NDArray[np.bool_]]
) -> NDArray[np.bool_]:
    """Say of each image whether one of the classes that are right is meant: [N].

    Args:
        table: with the column `targets`.
        is_meant: says it of every right class of every image, given these [M] and the images' rows.
    """
    targets = table["targets"].combine_chunks()
    images = targets.value_parent_indices().to_numpy()
    found = np.zeros(len(targets), dtype=np.bool_)
    found[images[is_meant(targets.flatten().to_numpy(), images)]] = True
    return found


def target_classes(table: pa.Table) -> NDArray[np.int64]:
    """Return the classes that are right for some image of a set, ascending."""
    found = pc.unique(table["targets"].combine_chunks().flatten()).to_numpy()
    return np.sort(found).astype(np.int64)
