"""The predictions that a store keeps of a grid's cells, for tests of the same images."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from orchestrator.paired import Predictions, cell_keys
from orchestrator.predictions import IMAGE, read_predictions
from orchestrator.scoring import Scoring
from orchestrator.set_names import SetNames
from workers.cell import Cell
from workers.store import Store
from workers.suites import Suite


def kept_predictions(
    store: Store, suite: Suite, cells: Mapping[str, Cell], scoring: Scoring
) -> Predictions | None:
    """Return what is kept of some cells, None where nothing is. Files are read when asked for."""
    kept = {name: sets for name, sets in store.kept_predictions().items() if name in cells}
    if not kept:
        return None

    def read(cell_id: str, eval_dataset: str) -> pa.Table:
        correct = scoring.column(eval_dataset).removeprefix("n_")
        table = read_predictions(store, cell_id, eval_dataset, [*IMAGE, correct])
        return table.rename_columns([*IMAGE, "correct"])

    specs = suite.evaluation_sets
    return Predictions(
        SetNames(suite.id.name, suite.ood_names),
        suite.splits(),
        {name: spec.derived_from or name for name, spec in specs.items()},
        cell_keys(cells),
        kept,
        read,
    )
