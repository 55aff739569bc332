"""How training went, epoch by epoch, as means over seeds. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from workers.cell import Cell

CELL = ["model", "method", "downstream"]
COLUMNS = [*CELL, "epoch", "loss", "accuracy", "seeds"]


def training_curves(history: pd.DataFrame, cells: Mapping[str, Cell]) -> pd.DataFrame:
    """Return training loss and accuracy after each epoch.

    Args:
        history: columns cell_id, epoch, loss, n_correct, n_total of the store's table.
        cells: the grid's own, by id; others are left out.

    Returns:
        COLUMNS, a row per model, method, downstream set and epoch: the mean training loss, the
        accuracy in percent over the epoch's batches as the weights were then, both means over the
        seeds that have reached the epoch, and how many of them there are.
    """
    rows = history[history["cell_id"].isin(list(cells))]
    own = [cells[cell_id] for cell_id in rows["cell_id"]]
    rows = rows.assign(
        model=[cell.model.name for cell in own],
        method=[cell.label for cell in own],
        downstream=pd.Series([cell.downstream for cell in own], rows.index, dtype=object),
        accuracy=100.0 * rows["n_correct"].astype("float64") / rows["n_total"].astype("float64"),
    )
    curves = rows.groupby([*CELL, "epoch"], sort=True, as_index=False).agg(
        loss=("loss", "mean"), accuracy=("accuracy", "mean"), seeds=("cell_id", "nunique")
    )
    return curves[COLUMNS]
