"""A store as data frames: what `orchestrator.open_store` returns."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.accuracies import with_texts
from orchestrator.results import Results, results_of, stored_grid
from workers import store as stores
from workers.errors import Problem, UserError, nearest
from workers.schemas import TABLES
from workers.store import Store

_INTEGERS = {pa.int64(): pd.Int64Dtype()}
"""Some integers are null: severities, seeds of nothing."""


class OpenedStore:
    """Reads one store.

    Each frame is read when it is first asked for, and stays as it was then: open the store again
    for what has come since. What the columns mean is in `docs/reading-results.md`.
    """

    def __init__(self, uri: str, skip_damaged: bool = False) -> None:
        """Open a store; see `open_store`."""
        self._store: Store = stores.open_store(uri)
        self._skips_damaged = skip_damaged
        self.damage: dict[str, str] = {}
        """The files that could not be read so far, and why; empty unless they may be skipped."""

    def __repr__(self) -> str:
        return f"<store {self.uri}>"

    @property
    def uri(self) -> str:
        return self._store.uri

    @cached_property
    def accuracy(self) -> pd.DataFrame:
        """A row per finished cell and evaluation split, with its `accuracy` in percent."""
        return self._accuracy_rows(final=True)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """The same per `epoch`, of cells that were evaluated while they were trained."""
        return self._accuracy_rows(final=False)

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """A row per cell, evaluation split and image, of the sets that are kept image by image.

        All of a large store's take much memory: `rows` reads some columns of them.
        """
        return self.rows("predictions")

    @cached_property
    def attempts(self) -> pd.DataFrame:
        """A row per try at a cell."""
        return self.rows("attempts")

    @cached_property
    def history(self) -> pd.DataFrame:
        """A row per cell and epoch of training."""
        return self.rows("history")

    @cached_property
    def tuning(self) -> pd.DataFrame:
        """A row per trial of `rib tune`."""
        return self.rows("tuning")

    @cached_property
    def distances(self) -> pd.DataFrame:
        """A row per distance of `rib distance`."""
        return self.rows("distances")

    @cached_property
    def results(self) -> Results:
        """What the tables are made from: the accuracies of the grid that was last run here.

        Raises:
            UserError: when there is no grid, rows cannot be read, or must not be compared.
        """
        return results_of(self._store, stored_grid(self._store))

    @property
    def accuracies(self) -> pd.DataFrame:
        """A row per cell and evaluation set of the grid, in percent; see `orchestrator.accuracies`.

        A corrupted set counts as the mean over its severities, then over its corruptions. A set
        that lacks a split has no row.
        """
        return with_texts(self.results.accuracies)

    @property
    def leaderboard(self) -> pd.DataFrame:
        """A row per model and method, best first; see `orchestrator.leaderboard.leaderboard`."""
        return self.results.leaderboard()

    def matrix(self, model: str, method: str) -> pd.DataFrame:
        """Return what a model reaches with a method, in percent: the mean over the seeds.

        Returns:
            A row per downstream set, a column per evaluation set, the in-distribution one first;
            NaN where a value is missing.

        Raises:
            UserError: when there is no such entry, naming the nearest one.
        """
        found = {(one.model, one.method): one for one in self.results.matrices()}
        if (model, method) not in found:
            hint = nearest(f"{model} {method}", [" ".join(entry) for entry in found])
            message = f"it has no entry of model {model!r} and method {method!r}"
            raise UserError([Problem(f"store {self.uri}", message, hint)])
        one = found[model, method]
        return pd.DataFrame(
            one.accuracy,
            index=pd.Index(one.sets.ood, name="downstream"),
            columns=pd.Index(one.sets.names, name="eval_dataset"),
        )

    def rows(self, table: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Read some columns of a table, or all, one row per key.

        Raises:
            UserError: when there is no such table or column, or a file is damaged and may not be
                skipped.
            StorageError: when the disk or object store does not give out a file.
        """
        if table not in TABLES:
            problem = Problem(f"table {table!r}", "there is none", nearest(table, TABLES))
            raise UserError([problem])
        unknown = [name for name in columns or () if name not in TABLES[table].names]
        if unknown:
            raise UserError(
                [
                    Problem(
                        f"column {name!r}", f"not in {table}", nearest(name, TABLES[table].names)
                    )
                    for name in unknown
                ]
            )
        return self._frame(self._scan(table, columns))

    def _accuracy_rows(self, final: bool) -> pd.DataFrame:
        rows = self._scan("accuracy")
        is_final = rows["epoch"].is_null()
        frame = self._frame(rows.filter(is_final if final else pc.invert(is_final)))
        share = frame["n_correct"].astype("float64") / frame["n_total"].astype("float64")
        frame.insert(list(frame.columns).index("n_correct"), "accuracy", 100.0 * share)
        return frame.drop(columns="epoch") if final else frame

    def _scan(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        scan = self._store.scan(table, columns)
        if scan.damage and not self._skips_damaged:
            hint = "run the grid again, or open it with skip_damaged=True"
            raise UserError(
                [Problem(name, f"is damaged: {why}", hint) for name, why in scan.damage.items()]
            )
        self.damage |= scan.damage
        return scan.table

    @staticmethod
    def _frame(rows: pa.Table) -> pd.DataFrame:
        frame: pd.DataFrame = rows.to_pandas(types_mapper=_INTEGERS.get)
        return frame


def open_store(uri: str, skip_damaged: bool = False) -> OpenedStore:
    """Open the store in a folder, or below an object-store prefix (`s3://...`), for reading.

    Args:
        uri: where it is.
        skip_damaged: give out what can be read where files are damaged, and name those in
            `damage`. Tables that would lack rows are refused all the same.

    Raises:
        UserError: when there is no store, or a later version wrote it.
        StorageError: when the storage does not answer.
    """
    return OpenedStore(uri, skip_damaged)
