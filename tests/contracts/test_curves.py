"""What every method that trains has to keep while it is evaluated along the way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.embedded import FAST, cell_of, embedded_model
from workers.cell import Cell
from workers.curve import Curve
from workers.job import Job, Site
from workers.methods import methods
from workers.run import execute
from workers.store import CHECKPOINT, Store

TRAINING = sorted(name for name, kind in methods().items() if kind.trains)
ADDS_TO_THE_MODEL = {"visual-prompt"}
"""Before its first step the model is already another than the pre-trained one."""

RECIPE = FAST.model_copy(update={"epochs": 2})
WHOLE = Curve(("a",), fraction=1.0)
COUNTS = ("n_correct", "n_correct_unmasked", "n_total")


@dataclass(frozen=True)
class Lab:
    data_root: Path
    store: Store

    def run(self, cell: Cell, curve: Curve | None = None) -> None:
        """Train a cell, its parents first, and score it on `a`."""
        for parent in cell.parents:
            if not parent.is_baseline and not self.store.has_checkpoint(parent.cell_id):
                self.run(parent)
        job = Job(cell, ("a",), curve=curve)
        outcome = execute(job, Site(self.store.uri, str(self.data_root), state_seconds=0))
        assert outcome.ok, f"{outcome.message}\n{outcome.traceback}"

    def rows(self, cell: Cell) -> list[dict[str, Any]]:
        table = self.store.scan("accuracy").table
        return [row for row in table.to_pylist() if row["cell_id"] == cell.cell_id]


@pytest.mark.parametrize("method", TRAINING)
def test_a_curve_ends_where_the_cell_does_and_changes_nothing(
    method: str, digits_root: Path, tmp_path: Path
) -> None:
    cell = cell_of(method, embedded_model("vit_digits", digits_root), RECIPE)
    plain = Lab(digits_root, Store(str(tmp_path / "plain")))
    curved = Lab(digits_root, Store(str(tmp_path / "curved")))
    plain.run(cell)
    curved.run(cell, WHOLE)

    by_epoch = {row["epoch"]: row for row in curved.rows(cell)}
    assert set(by_epoch) == {None, 0, 1, 2}
    (alone,) = plain.rows(cell)
    for column in (*COUNTS, "loss", "hyperparameters", "dataset_digest", "subset_fraction"):
        assert by_epoch[None][column] == alone[column], column
    weights = [lab.store.read_artifact(cell.cell_id, CHECKPOINT) for lab in (plain, curved)]
    assert weights[0] == weights[1]

    for column in COUNTS:
        assert by_epoch[2][column] == alone[column], column
    assert by_epoch[2]["loss"] == pytest.approx(alone["loss"], rel=1e-4)
    for epoch in (0, 1, 2):
        assert by_epoch[epoch]["subset_fraction"] == 1.0
        assert by_epoch[epoch]["dataset_digest"] == alone["dataset_digest"]

    starts_as_it_came = not cell.parents and method not in ADDS_TO_THE_MODEL
    if starts_as_it_came:
        baseline = cell_of("pretrained", cell.model)
        curved.run(baseline)
        (before,) = curved.rows(baseline)
        assert [by_epoch[0][column] for column in COUNTS] == [before[c] for c in COUNTS]
