"""The predictions that a store keeps of a grid's cells, for tests of the same images."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.paired import Predictions, cell_keys
from orchestrator.scoring import Scoring
from orchestrator.set_names import SetNames
from workers.cell import Cell
from workers.errors import Problem, UserError
from workers.store import Store
from workers.suites import Suite

_FOLDER, _ENDING = "predictions", ".parquet"


def kept_predictions(
    store: Store, suite: Suite, cells: Mapping[str, Cell], scoring: Scoring
) -> Predictions | None:
    """Return what is kept of some cells, None where nothing is. Files are read when asked for."""
    kept: dict[str, set[str]] = {}
    for name in store.storage.names(_FOLDER, _ENDING):
        cell_id, _, eval_dataset = name.removesuffix(_ENDING).partition(".")
        if cell_id in cells:
            kept.setdefault(cell_id, set()).add(eval_dataset)
    if not kept:
        return None

    def read(cell_id: str, eval_dataset: str) -> pa.Table:
        correct = scoring.column(eval_dataset).removeprefix("n_")
        return _read(store, f"{_FOLDER}/{cell_id}.{eval_dataset}{_ENDING}", correct)

    specs = suite.evaluation_sets
    return Predictions(
        SetNames(suite.id.name, suite.ood_names),
        suite.splits(),
        {name: spec.derived_from or name for name, spec in specs.items()},
        cell_keys(cells),
        kept,
        read,
    )


def _read(store: Store, name: str, correct: str) -> pa.Table:
    """Read the images of a file and whether each is right, by the column `correct`.

    Raises:
        UserError: when it cannot be read.
    """
    columns = ["corruption", "severity", "image", correct]
    try:
        source = pa.BufferReader(store.storage.read(name))
        table = pq.read_table(source, columns=columns).select(columns)
    except (FileNotFoundError, KeyError, pa.ArrowException) as error:
        problem = Problem(f"{store.uri}/{name}", f"cannot be read: {error}", "rib verify")
        raise UserError([problem]) from error
    return table.rename_columns(["corruption", "severity", "image", "correct"])
