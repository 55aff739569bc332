"""From a store, or a published table, to the accuracies behind a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from orchestrator import canary
from orchestrator.accuracies import accuracies_from_rows, read_accuracies
from orchestrator.contamination import Contamination
from orchestrator.grid import Grid, load_stored_grid
from orchestrator.mixtures import mixtures
from orchestrator.plan import expand
from orchestrator.reduce import IMAGENET_RIB, SetNames, infer_sets
from orchestrator.remarks import Remarks
from workers.cell import Cell
from workers.errors import Problem, UserError
from workers.store import Store
from workers.suites import Suite, suites

TABLE_SUFFIXES = frozenset({".csv", ".parquet"})


@dataclass(frozen=True)
class Results:
    """Accuracies, the sets they are of, and which entries there should be."""

    source: str
    accuracies: pd.DataFrame
    sets: SetNames
    expected: pd.DataFrame | None = None
    """(model, method, seed) of every entry that the grid asks for; None for a published table."""
    n_short: int = 0
    """Rows that were scored on fewer images than their set has."""
    mixed: tuple[Problem, ...] = ()
    """Rows of other data or weights that were taken together since it was asked for."""
    remarks: Remarks = field(default_factory=Remarks)


def read_results(source: str, id_name: str | None = None, mixed_data: bool = False) -> Results:
    """Read a store, or a CSV or Parquet file of accuracies; see `results_of`.

    Raises:
        UserError: when it is neither, or what is in it is wrong.
    """
    path = Path(source)
    if path.suffix.lower() in TABLE_SUFFIXES and not path.is_dir():
        return _from_table(path, id_name)
    store = Store(source)
    return results_of(store, stored_grid(store), mixed_data)


def stored_grid(store: Store) -> Grid:
    """Return the grid that was last run into a store.

    Raises:
        UserError: when there is no store, or the suite is another version by now: the grid's cells
            are then others than those in the store.
    """
    if store.storage.is_local and Path(store.uri).is_file():
        hint = "a table of accuracies ends in .csv or .parquet"
        raise UserError([Problem(f"store {store.uri}", "is a file, not a folder", hint)])
    grid = load_stored_grid(store.read_grid(), store.uri)
    store.check(grid.suite.name, grid.suite.version)
    return grid


def _from_table(path: Path, id_name: str | None) -> Results:
    accuracies = read_accuracies(path)
    known = [IMAGENET_RIB, *(set_names(suite) for suite in suites().values())]
    sets = infer_sets(accuracies, known, id_name)
    return Results(str(path), accuracies, sets, remarks=_remarks_on_table(accuracies, sets))


def _remarks_on_table(accuracies: pd.DataFrame, sets: SetNames) -> Remarks:
    """Say of a published table what can be said: by the names of its sets and models alone."""
    suite = next((suite for suite in suites().values() if set_names(suite) == sets), None)
    models = list(dict.fromkeys(accuracies["model"]))
    if suite is None:
        return Remarks(tuple(canary.check(models, {}, {})))
    published = {model: canary.figures_of(suite, model, sets.names) for model in models}
    verdicts = canary.check(models, published, canary.measured_in_table(accuracies))
    return Remarks(tuple(verdicts), Contamination.of(suite))


def set_names(suite: Suite) -> SetNames:
    """Return the names of a suite's data sets."""
    return SetNames(suite.id.name, suite.ood_names)


def results_of(store: Store, grid: Grid, mixed_data: bool = False) -> Results:
    """Return the accuracies of a grid's own cells, whatever else is in the store.

    Args:
        store: that holds the rows.
        grid: whose cells are meant.
        mixed_data: compare rows of several copies of a set, or of several weights of a model.

    Raises:
        UserError: when a file of the store cannot be read: a report must not quietly lack rows.
            When rows are mixed and `mixed_data` does not allow it.
    """
    scan = store.scan("accuracy")
    if scan.damaged:
        hint = "run the grid again: its rows are then made anew"
        raise UserError([Problem(name, "this file is damaged", hint) for name in scan.damaged])
    cells = {cell.cell_id: cell for cell in expand(grid)}
    rows = scan.table.to_pandas()
    rows = labelled(rows[rows["epoch"].isna()], cells)
    splits = grid.suite.splits()
    return Results(
        source=store.uri,
        accuracies=accuracies_from_rows(rows, splits, mixed_data=mixed_data),
        sets=set_names(grid.suite),
        expected=entries(cells),
        n_short=int((rows["n_total"] < rows["n_expected"]).sum()),
        mixed=tuple(mixtures(rows, splits)),
        remarks=Remarks(_verdicts(rows, grid), Contamination.of(grid.suite)),
    )


def remarks_of(store: Store, grid: Grid) -> Remarks:
    """Return what is to be said of a grid's cells besides their numbers."""
    return Remarks(verdicts_of(store, grid), Contamination.of(grid.suite))


def verdicts_of(store: Store, grid: Grid) -> tuple[canary.Verdict, ...]:
    """Return how a grid's models, as they came, compare with what is published of them."""
    columns = ["cell_id", "epoch", *canary.COLUMNS]
    rows = store.scan("accuracy", columns).table.to_pandas()
    baselines = {cell.cell_id: cell for cell in expand(grid) if cell.is_baseline}
    return _verdicts(labelled(rows[rows["epoch"].isna()], baselines), grid)


def _verdicts(rows: pd.DataFrame, grid: Grid) -> tuple[canary.Verdict, ...]:
    measured = canary.measured_in_rows(rows, grid.suite.splits())
    models = [model.name for model in grid.models]
    return tuple(canary.check(models, canary.published_of(grid), measured))


def labelled(rows: pd.DataFrame, cells: Mapping[str, Cell]) -> pd.DataFrame:
    """Keep the rows of a grid's own cells, under the names that it gives them now."""
    kept = rows[rows["cell_id"].isin(list(cells))].copy()
    kept["model"] = [cells[cell_id].model.name for cell_id in kept["cell_id"]]
    kept["method"] = [cells[cell_id].label for cell_id in kept["cell_id"]]
    return kept


def entries(cells: Mapping[str, Cell]) -> pd.DataFrame:
    """Return (model, method, seed) of every fine-tuned cell, once each."""
    rows = [(c.model.name, c.label, c.seed) for c in cells.values() if not c.is_baseline]
    return pd.DataFrame(rows, columns=["model", "method", "seed"]).drop_duplicates()
