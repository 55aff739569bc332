"""What cells have cost: device-hours by method, from every try that was made. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from orchestrator.demands import Demands
from orchestrator.estimate import SECONDS_PER_HOUR
from orchestrator.status import FAILED
from workers.cell import Cell

COLUMNS = ["method", "cells", "tries", "hours", "hours_lost", "peak_memory_bytes"]


@dataclass(frozen=True)
class Cost:
    """What a grid's cells have taken so far."""

    by_method: pd.DataFrame
    """COLUMNS, in the order in which the grid names its methods, the baseline first."""
    device: str
    """`GPU` or `CPU`: what hours are counted in."""

    @property
    def hours(self) -> float:
        """Device-hours of all methods."""
        return float(self.by_method["hours"].sum())

    @property
    def hours_lost(self) -> float:
        """Device-hours of tries that did not end well."""
        return float(self.by_method["hours_lost"].sum())


def cost_of(attempts: pd.DataFrame, cells: Mapping[str, Cell], demands: Demands) -> Cost:
    """Add up what tries at a grid's cells took: seconds x devices / 3600, by method.

    A try that still runs, or whose end nobody recorded, has no seconds yet and adds none.

    Args:
        attempts: columns cell_id, state, seconds, peak_memory_bytes of the store's table.
        cells: the grid's own, by id; others are left out.
        demands: how many devices the grid gives a cell now: tries are counted as if they had had
            as many.

    Returns:
        By method: how many cells were tried, how often, the hours, those of them that were lost on
        tries that failed or diverged, and the most host memory that a worker had.
    """
    tries = attempts[attempts["cell_id"].isin(list(cells))]
    devices = pd.Series(
        [demands.devices(cells[cell_id]) for cell_id in tries["cell_id"]], tries.index, "float64"
    )
    hours = tries["seconds"].astype("float64").fillna(0.0) * devices / SECONDS_PER_HOUR
    tries = tries.assign(
        method=[cells[cell_id].label for cell_id in tries["cell_id"]],
        hours=hours,
        hours_lost=hours.where(tries["state"].isin(FAILED), 0.0),
        peak_memory_bytes=tries["peak_memory_bytes"].astype("Int64"),
    )
    by_method = tries.groupby("method", sort=False).agg(
        cells=("cell_id", "nunique"),
        tries=("cell_id", "size"),
        hours=("hours", "sum"),
        hours_lost=("hours_lost", "sum"),
        peak_memory_bytes=("peak_memory_bytes", "max"),
    )
    order = dict.fromkeys(cell.label for cell in cells.values())
    table = by_method.loc[[name for name in order if name in by_method.index]].reset_index()
    return Cost(table[COLUMNS], demands.device)
