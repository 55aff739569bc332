"""From a store, or a published table, to the accuracies behind a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from pathlib import Path

import pandas as pd

from orchestrator import canary
from orchestrator.accuracies import accuracies_from_rows
from orchestrator.accuracy_tables import read_accuracies
from orchestrator.contamination import Contamination
from orchestrator.expansion import baselines, cells_by_id
from orchestrator.grid import Grid, load_stored_grid
from orchestrator.kept_predictions import kept_predictions
from orchestrator.leaderboard import leaderboard
from orchestrator.matrix import Matrix, matrices
from orchestrator.mixtures import mixtures
from orchestrator.paired import Predictions, paired_entries
from orchestrator.places import places_of
from orchestrator.remarks import Remarks
from orchestrator.scoring import Scoring
from orchestrator.set_names import IMAGENET_RIB, SetNames, infer_sets
from workers.cell import BASELINE, Cell
from workers.errors import Problem, UserError
from workers.store import Store
from workers.suites import Suite, suites

TABLE_SUFFIXES = frozenset({".csv", ".parquet"})

COLUMNS = [
    "model",
    "method",
    "downstream",
    "seed",
    "cell_id",
    "epoch",
    "eval_dataset",
    "corruption",
    "severity",
    "n_correct",
    "n_correct_unmasked",
    "n_total",
    "n_expected",
    "dataset_digest",
    "weights_digest",
]
"""Of the store's accuracy rows, what is looked at here."""


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
    sources: Mapping[str, str] = field(default_factory=dict)
    """Evaluation set -> the set whose images it shows, itself where they are its own."""
    predictions: Predictions | None = None
    """What is kept image by image; None where nothing is, or nothing shall be looked at."""

    def leaderboard(self) -> pd.DataFrame:
        """Rank every model and method; see `orchestrator.leaderboard.leaderboard`."""
        return self._board.copy()

    @cached_property
    def _board(self) -> pd.DataFrame:
        paired = {}
        if self.predictions is not None and self.expected is not None:
            listed = self.expected[["model", "method"]].drop_duplicates()
            paired = paired_entries(self.predictions, listed.itertuples(index=False, name=None))
        return leaderboard(
            self.accuracies, self.sets, self.expected, sources=self.sources, paired=paired
        )

    def matrices(self) -> list[Matrix]:
        """Return the matrix of every model and method, in the grid's or the table's order."""
        board = self.leaderboard()
        made = matrices(self.accuracies, self.sets, board, self.expected)
        found = {(one.model, one.method): one for one in made}
        listed = self.accuracies if self.expected is None else self.expected
        order = listed.loc[listed["method"] != BASELINE, ["model", "method"]].drop_duplicates()
        return [found[model, method] for model, method in order.itertuples(index=False)]


def read_results(
    source: str,
    id_name: str | None = None,
    mixed_data: bool = False,
    unmasked: Sequence[str] = (),
    from_counts: bool = False,
) -> Results:
    """Read a store, or a CSV or Parquet file of accuracies; see `results_of`.

    Raises:
        UserError: when it is neither, or what is in it is wrong.
    """
    path = Path(source)
    if path.suffix.lower() in TABLE_SUFFIXES and not path.is_dir():
        if unmasked:
            message = "a table has the accuracies as they were scored"
            raise UserError([Problem("--unmasked", message, "only a store has both scorings")])
        return _from_table(path, id_name)
    store = Store(source)
    return results_of(store, stored_grid(store), mixed_data, unmasked, from_counts)


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


def results_of(
    store: Store,
    grid: Grid,
    mixed_data: bool = False,
    unmasked: Sequence[str] = (),
    from_counts: bool = False,
) -> Results:
    """Return the accuracies of a grid's own cells, whatever else is in the store.

    Args:
        store: that holds the rows.
        grid: whose cells are meant.
        mixed_data: compare rows of several copies of a set, or of several weights of a model.
        unmasked: the sets to score over the whole label space (see `orchestrator.scoring`).
        from_counts: do not look at predictions, even where they are kept.

    Raises:
        UserError: when a file of the store cannot be read: a report must not quietly lack rows.
            When rows are mixed and `mixed_data` does not allow it. When there is no such set.
    """
    sets = set_names(grid.suite)
    scoring = Scoring.parse(unmasked, sets.names)
    with ThreadPoolExecutor(1) as beside:  # to read is Arrow's work, to list cells Python's
        reading = beside.submit(_final_rows, store)
        cells = cells_by_id(grid)
        rows = labelled(reading.result(), cells)
    splits = grid.suite.splits()
    try:
        accuracies = accuracies_from_rows(rows, splits, scoring, mixed_data=mixed_data)
    except ValueError as error:  # counts that cannot be, or that contradict each other
        raise UserError([Problem(f"store {store.uri}", str(error), "rib verify")]) from error
    specs = grid.suite.evaluation_sets
    predictions = None if from_counts else kept_predictions(store, grid.suite, cells, scoring)
    return Results(
        source=store.uri,
        accuracies=accuracies,
        sets=sets,
        expected=entries(cells),
        n_short=int((rows["n_total"] < rows["n_expected"]).sum()),
        mixed=tuple(mixtures(rows, splits)) if mixed_data else (),
        remarks=Remarks(
            _verdicts(rows, grid), Contamination.of(grid.suite), scoring.label(sets.names)
        ),
        sources={name: spec.derived_from or name for name, spec in specs.items()},
        predictions=predictions,
    )


def _final_rows(store: Store) -> pd.DataFrame:
    """Read the rows of finished cells, their texts as categories: each is there once.

    Raises:
        UserError: when a file cannot be read.
    """
    scan = store.scan("accuracy", COLUMNS, encoded=True)
    if scan.damaged:
        hint = "run the grid again: its rows are then made anew"
        raise UserError([Problem(name, "this file is damaged", hint) for name in scan.damaged])
    table, epochs = scan.table, scan.table["epoch"]
    if epochs.null_count < len(epochs):
        table = table.filter(epochs.is_null())
    rows: pd.DataFrame = table.unify_dictionaries().to_pandas()
    return rows


def remarks_of(store: Store, grid: Grid) -> Remarks:
    """Return what is to be said of a grid's cells besides their numbers."""
    return Remarks(verdicts_of(store, grid), Contamination.of(grid.suite))


def verdicts_of(store: Store, grid: Grid) -> tuple[canary.Verdict, ...]:
    """Return how a grid's models, as they came, compare with what is published of them."""
    columns = ["cell_id", "epoch", *canary.COLUMNS]
    rows = store.scan("accuracy", columns).table.to_pandas()
    cells = {cell.cell_id: cell for cell in baselines(grid)}
    return _verdicts(labelled(rows[rows["epoch"].isna()], cells), grid)


def _verdicts(rows: pd.DataFrame, grid: Grid) -> tuple[canary.Verdict, ...]:
    measured = canary.measured_in_rows(rows, grid.suite.splits())
    models = [model.name for model in grid.models]
    return tuple(canary.check(models, canary.published_of(grid), measured))


def labelled(rows: pd.DataFrame, cells: Mapping[str, Cell]) -> pd.DataFrame:
    """Keep the rows of a grid's own cells, under the names that it gives them now."""
    of_row = places_of(rows["cell_id"], cells)
    is_known = of_row >= 0
    kept, of_row = (rows, of_row) if is_known.all() else (rows[is_known], of_row[is_known])
    models = _categories(list(map(attrgetter("model.name"), cells.values())))
    methods = _categories(list(map(attrgetter("label"), cells.values())))
    return kept.assign(model=models.take(of_row), method=methods.take(of_row))


def _categories(names: Sequence[str]) -> pd.Categorical:
    """Return names, few of them and often repeated, as categories in the order they come."""
    codes, known = pd.factorize(pd.Series(names, dtype="object"))
    return pd.Categorical.from_codes(codes, known.astype("str"))


def entries(cells: Mapping[str, Cell]) -> pd.DataFrame:
    """Return (model, method, seed) of every fine-tuned cell, once each."""
    fine_tuned = [cell for cell in cells.values() if not cell.is_baseline]
    rows = map(attrgetter("model.name", "label", "seed"), fine_tuned)
    return pd.DataFrame(list(dict.fromkeys(rows)), columns=["model", "method", "seed"])
