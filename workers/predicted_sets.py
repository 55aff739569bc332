"""Scoring a set whose predictions are kept, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from workers.errors import Problem, UserError
from workers.job import Job
from workers.predictions import PredictionFile
from workers.rows import split_row
from workers.schemas import KEYS
from workers.store import Row, Store

if TYPE_CHECKING:
    from torch import nn

    from workers.bench import Bench
    from workers.datasets import Dataset

COUNTS = ("n_correct", "n_correct_unmasked", "n_total")


def score_and_predict(
    bench: Bench, module: nn.Module, dataset: Dataset, before: Sequence[Row]
) -> list[Row]:
    """Score a model on every split of a set, and commit what it predicts of each image.

    Args:
        bench: of the cell.
        module: its model.
        dataset: the set.
        before: the rows that the store has of the sets that were scored before.

    Returns:
        A row per split.
    """
    kept = PredictionFile(bench.cell.cell_id, dataset, bench.suite, bench.site.top)
    rows = []
    for split in dataset.splits:
        started = datetime.now(UTC)
        score = bench.score(module, dataset, split, kept)
        rows.append(split_row(bench, dataset, split, score, started))
    check_unchanged(rows, before)
    bench.store.commit_predictions(bench.cell.cell_id, dataset.spec.name, kept.close())
    return rows


def rows_before(job: Job, store: Store) -> list[Row]:
    """Return the rows of the sets of which only predictions are missing.

    Reads the whole table, so only where there is such a set.
    """
    if not job.scored:
        return []
    table = store.scan("accuracy", [*KEYS["accuracy"], *COUNTS, "device"]).table
    is_meant = pc.and_(
        pc.equal(table["cell_id"], job.cell.cell_id),
        pc.and_(pc.is_null(table["epoch"]), pc.is_in(table["eval_dataset"], pa.array(job.scored))),
    )
    rows: list[Row] = table.filter(is_meant).to_pylist()
    return rows


def check_unchanged(rows: Sequence[Row], before: Sequence[Row]) -> None:
    """Check that a finished cell's rows are what they were, where it was scored before.

    Raises:
        UserError: when they are not: predictions would then belong to other numbers than are there.
    """
    key = KEYS["accuracy"]
    known = {tuple(row[column] for column in key): row for row in before}
    for row in rows:
        old = known.get(tuple(row.get(column) for column in key), row)
        counts = [
            f"{one['n_correct']} of {one['n_total']} on {one['device']}" for one in (old, row)
        ]
        if any(old[column] != row[column] for column in COUNTS):
            problem = f"its rows say {counts[0]}, and scored again it is {counts[1]}"
            hint = "keep predictions on the kind of device that the rows were made on"
            raise UserError([Problem(f"{row['eval_dataset']}", problem, hint)])
