"""How long the cells of a store took all together, beside the least that was possible."""

from __future__ import annotations

from collections.abc import Sequence

from workers.cell import Cell
from workers.store import Store


def makespan(store: Store, cells: Sequence[Cell], n_workers: int) -> tuple[float, float]:
    """Return the seconds from the first cell's start to the last one's end, and the least possible.

    That is the larger of all cells' seconds over the workers and of the longest chain of cells that
    were made from each other, with the seconds that each of them took here.

    Args:
        store: in which every cell has one try, that is done.
        cells: parents first.
        n_workers: how many cells ran at a time.
    """
    rows = store.scan("attempts").table.to_pylist()
    assert sorted(row["cell_id"] for row in rows) == sorted(cell.cell_id for cell in cells)
    took = {row["cell_id"]: row["seconds"] for row in rows}
    chain: dict[str, float] = {}
    for cell in cells:
        above = max((chain[p.cell_id] for p in cell.parents if not p.is_baseline), default=0.0)
        chain[cell.cell_id] = above + took[cell.cell_id]
    first, last = min(row["started_at"] for row in rows), max(row["finished_at"] for row in rows)
    least = max(sum(took.values()) / n_workers, max(chain.values()))
    return (last - first).total_seconds(), least
