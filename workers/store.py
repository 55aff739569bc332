"""The Parquet store: where everything durable lives.

A store is a folder or an object-store prefix that pandas, pyarrow, DuckDB and polars read without
this project. See `workers.schemas` for its tables and `docs/architecture.md` for its layout.

Concurrency: any number of workers may commit at once, each under names derived from its cell, and
writing a thing twice is harmless. Only the driver seals cells and sets damaged files aside.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workers.committed import Committed, sets_by_cell
from workers.compaction import COMPACTED, Compaction, Compactor
from workers.errors import Problem, UserError
from workers.repeats import distinct, needed
from workers.salvage import keep_sound_rows, take_out
from workers.schemas import KEYS, SCHEMA_VERSION, TABLES
from workers.scored_splits import spent
from workers.storage import TEMPORARY, Storage
from workers.tables import DamagedTableError, Reading, Scan, is_merged, read_file, read_table

__all__ = ["CHECKPOINT", "DRIVER", "TRAINING_STATE", "Committed", "Scan", "Store", "open_store"]

Row = Mapping[str, Any]

CHECKPOINT = "model.safetensors"

SMALL_TABLE = 100
"""Rows below which compression makes a file no smaller and takes longer than all the rest."""

DRIVER = "driver"
"""The folder in which drivers say who they are."""

TRAINING_STATE = "training."
"""How the names of training states begin (`workers.training_state`)."""


class Store:
    """Reads and writes one store; making one of these touches nothing."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.storage = Storage(uri)

    # ------------------------------------------------------------------ the store as a whole

    @property
    def exists(self) -> bool:
        return self.storage.exists("store.json")

    def create(self, suite: str, suite_version: str) -> None:
        """Make the store, unless it is there already; see `check`."""
        if not self.exists:
            about = {"schema": SCHEMA_VERSION, "suite": suite, "suite_version": suite_version}
            self.storage.write("store.json", json.dumps(about, indent=2).encode())

    def check(self, suite: str, suite_version: str) -> None:
        """Check that rows of this suite may go here; writes nothing.

        Raises:
            UserError: when its path is taken by something else, or it holds another suite.
        """
        if self.storage.is_local:
            self._check_place(Path(self.storage.path("")))
        if not self.exists:
            return
        about = self.about()
        if (about["suite"], about["suite_version"]) != (suite, suite_version):
            held = f"{about['suite']} version {about['suite_version']}"
            raise UserError(
                [
                    Problem(
                        f"store {self.uri}",
                        f"it holds {held}, the grid is for {suite} version {suite_version}",
                        "name another store: their numbers must not be mixed",
                    )
                ]
            )

    def _check_place(self, path: Path) -> None:
        taken = next((p for p in (path, *path.parents) if p.exists() and not p.is_dir()), None)
        if taken is not None:
            raise UserError([Problem(f"store {self.uri}", f"{taken} is a file, not a folder")])
        if path.is_dir() and not self.exists and any(_is_of_others(p) for p in path.iterdir()):
            raise UserError(
                [
                    Problem(
                        f"store {self.uri}",
                        "the folder has other things in it and is no store",
                        "name an empty or a new folder",
                    )
                ]
            )

    def about(self) -> dict[str, Any]:
        """Return what the store says of itself: schema, suite, suite_version.

        Raises:
            UserError: when there is no store, or it was written by a newer version.
        """
        try:
            about: dict[str, Any] = json.loads(self.storage.read("store.json"))
            schema, _, _ = about["schema"], about["suite"], about["suite_version"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError([Problem(f"store {self.uri}", "there is no store here")]) from error
        if schema > SCHEMA_VERSION:
            message = f"it was written by a newer version (schema {schema} > {SCHEMA_VERSION})"
            raise UserError([Problem(f"store {self.uri}", message, "upgrade rib-orchestrator")])
        return about

    def write_grid(self, text: str) -> None:
        self.storage.write("grid.yaml", text.encode())

    def read_grid(self) -> str:
        """Return the grid that was last run here.

        Raises:
            UserError: when none was.
        """
        self.about()
        try:
            return self.storage.read("grid.yaml").decode()
        except FileNotFoundError as error:
            problem = Problem(
                f"store {self.uri}", "it has no grid.yaml", "run a grid into it first"
            )
            raise UserError([problem]) from error

    # ------------------------------------------------------------------ commits

    def commit_accuracy(self, cell_id: str, part: str, rows: Sequence[Row]) -> None:
        """Commit all splits of a set, or of `workers.curve.part_of` an epoch, in one file."""
        self._commit("accuracy", f"{cell_id}.{part}", rows)

    def commit_predictions(self, cell_id: str, eval_dataset: str, data: pa.Buffer) -> None:
        """Commit a file of `workers.predictions`: every image of one evaluation set of a cell."""
        self.storage.write(f"predictions/{cell_id}.{eval_dataset}.parquet", data)

    def commit_attempt(self, row: Row) -> None:
        """Commit a try at a cell, replacing what was said of the same try before.

        That a try is running is not flushed to the disk: a machine that stops ends the try, too.
        """
        name = _attempt_file(row["cell_id"], row["attempt"])
        data = pa.Table.from_pylist([row], schema=TABLES["attempts"])
        self._write(name, data, flush=row["state"] != "running")

    def read_attempt(self, cell_id: str, attempt: int) -> Row | None:
        """Return what was last said of a try; None when nothing readable was.

        Raises:
            StorageError: when the storage does not give it out.
        """
        try:
            table = read_file(self.storage, "attempts", _attempt_file(cell_id, attempt))
        except (FileNotFoundError, DamagedTableError):
            return None
        found: Row = table.select(TABLES["attempts"].names).to_pylist()[0]
        return found

    def commit_cleared(self, clearing: str, rows: Sequence[Row]) -> None:
        """Commit which failures count no longer, all of them at once."""
        self._commit("cleared", clearing, rows)

    def commit_history(self, cell_id: str, rows: Sequence[Row]) -> None:
        """Commit a cell's training, epoch by epoch, replacing what was said of an earlier one."""
        now = datetime.now(UTC)
        self._commit("history", cell_id, [{**row, "finished_at": now} for row in rows])

    def commit_trial(self, row: Row) -> None:
        """Commit how a trial of a search ended, replacing what was said of it before."""
        self._commit("tuning", f"{row['search']}.{row['trial']:05d}", [row])

    def commit_distance(self, row: Row) -> None:
        """Commit the distance of two data sets; there is one for each of its cells."""
        self._commit("distances", row["cell_id"], [row])

    def _commit(self, table: str, name: str, rows: Sequence[Row]) -> None:
        data = pa.Table.from_pylist(list(rows), schema=TABLES[table])
        self._write(f"{table}/{name}.parquet", data)

    def _write(self, name: str, table: pa.Table, flush: bool = True) -> None:
        sink = pa.BufferOutputStream()
        is_small = table.num_rows < SMALL_TABLE
        compression = "none" if is_small else "zstd"
        pq.write_table(
            table,
            sink,
            compression=compression,
            use_dictionary=not is_small,
            write_statistics=not is_small,
            store_schema=False,
        )
        self.storage.write(name, sink.getvalue(), flush)

    def save_artifact(self, cell_id: str, name: str, data: bytes) -> None:
        self.storage.write(f"artifacts/{cell_id}/{name}", data)

    def read_artifact(self, cell_id: str, name: str) -> bytes:
        return self.storage.read(f"artifacts/{cell_id}/{name}")

    def has_checkpoint(self, cell_id: str) -> bool:
        return self.storage.exists(f"artifacts/{cell_id}/{CHECKPOINT}")

    # ------------------------------------------------------------------ the driver's part

    def seal(self, cell_id: str, parts: Sequence[str]) -> None:
        """Make one file of the parts of a finished cell's rows.

        The merged file is there before its parts go, so a reader never misses a row; one that
        reads in between may see a row twice. `sweep` clears up after a driver that died there.
        """
        merged = f"accuracy/{cell_id}.parquet"
        files = [f"accuracy/{cell_id}.{part}.parquet" for part in parts]
        if len(files) == 1 and not self.storage.exists(merged):
            self.storage.move(files[0], merged)
            return
        tables, seen = [], []
        for name in (merged, *files):
            try:
                tables.append(read_file(self.storage, "accuracy", name))
                seen.append(name)
            except FileNotFoundError:
                continue
            except DamagedTableError:
                self.set_aside([name])
        if tables:
            rows = pa.concat_tables(tables, promote_options="default")
            self._write(merged, distinct(rows, "accuracy"))
        for name in seen:
            if name != merged:
                self.storage.delete(name)

    def sweep(self) -> None:
        """Clear what drivers and writers that died have left.

        Those are unsealed parts, temporary files, rows of splits whose set is done, and training
        states of cells that are trained: a worker that was thought dead may have written them after
        its successor was done.
        """
        for cell_id, parts in self._unsealed().items():
            self.seal(cell_id, parts)
        for name in [*self._debris(), *spent(self.storage)]:
            self.storage.delete(name)

    @property
    def needs_sweeping(self) -> bool:
        """Whether `sweep` would find anything."""
        return bool(self._unsealed() or self._debris() or spent(self.storage))

    def _unsealed(self) -> dict[str, list[str]]:
        """Return the parts of rows that have a file of their own, by cell."""
        parts = defaultdict(list)
        for name in self.storage.names("accuracy", ".parquet"):
            cell_id, _, part = name.removesuffix(".parquet").partition(".")
            if part:
                parts[cell_id].append(part)
        return parts

    def _debris(self) -> list[str]:
        """Return the files of writes that died, and the training states of trained cells."""
        everything = set(self.storage.walk(""))
        found = []
        for name in everything:
            folder, _, last = name.rpartition("/")
            is_spent = last.startswith(TRAINING_STATE) and f"{folder}/{CHECKPOINT}" in everything
            if is_spent or name.endswith(TEMPORARY):
                found.append(name)
        return found

    def compact(
        self,
        at_least: int = 2,
        check: Callable[[], None] = lambda: None,
        is_busy: Callable[[str], bool] = lambda _: False,
        sparing: bool = False,
    ) -> list[Compaction]:
        """Make few large files of many small ones; see `workers.compaction`.

        Args:
            at_least: how many files a table has to have before it is touched.
            check: raises when the store may not be written to any more.
            is_busy: whether a cell may still be writing; its files are left alone.
            sparing: take little memory, and leave alone what is much larger than what is new.

        Raises:
            StorageError: when the storage refuses; no row is then lost.
        """
        compactor = Compactor(self.storage, check, is_busy, sparing)
        if any(len(self.storage.names(table)) >= at_least for table in COMPACTED):
            self._upgrade()
        return [compactor.compact(table, at_least) for table in COMPACTED]

    def _upgrade(self) -> None:
        """Keep versions away that do not know merged files."""
        about = self.about()
        if about["schema"] < SCHEMA_VERSION:
            about["schema"] = SCHEMA_VERSION
            self.storage.write("store.json", json.dumps(about, indent=2).encode())

    def set_aside(
        self, names: Iterable[str], owners: Mapping[str, Collection[str]] | None = None
    ) -> None:
        """Move damaged files out of the way, under `damaged/`; what was in them counts as missing.

        One that somebody else has set aside meanwhile is no error. Of a merged file the rows that
        still read stay in the table, in a file of their own.

        Args:
            names: of the files.
            owners: of sound merged files, the cells whose rows are meant, where not all are.
        """
        for name in names:
            if not self.storage.exists(name):
                continue
            if cells := (owners or {}).get(name):
                take_out(self.storage, name, cells)
                continue
            if is_merged(name):
                keep_sound_rows(self.storage, name)
            self.storage.move(name, f"damaged/{name.replace('/', '.')}")

    # ------------------------------------------------------------------ reading

    def scan(self, table: str, columns: Sequence[str] | None = None, encoded: bool = False) -> Scan:
        """Read a table, one row per key, naming the files whose contents are damaged.

        Columns that an older version did not write are null. Where a key is there more than once,
        the row that counts is the first of `read_table`; of a try or a trial, what was said last.

        Args:
            table: its name.
            columns: of it; None: all.
            encoded: give out strings as dictionaries, which takes a fraction of the memory.

        Raises:
            StorageError: when the disk or object store does not give out a file.
        """
        wanted = list(columns) if columns is not None else TABLES[table].names
        columns = list(dict.fromkeys([*wanted, *needed(table)]))
        reading = self.read_files(table, columns, encoded)
        return Scan(distinct(reading.table, table).select(wanted), reading.damage)

    def read_files(self, table: str, columns: Sequence[str], encoded: bool = False) -> Reading:
        """Read some columns of every file of a table, with repeated keys; see `scan`."""
        return read_table(self.storage, table, columns, encoded)

    def kept_predictions(self) -> dict[str, set[str]]:
        """Return the evaluation sets of which predictions are kept, by cell."""
        return sets_by_cell(self.storage.names("predictions", ".parquet"))

    def committed(self) -> Committed:
        """Return what is done, from the rows and checkpoints themselves and nothing else.

        Predictions are there when their file is: `rib verify` reads them.
        """
        reading = self.read_files("accuracy", KEYS["accuracy"])
        checkpoints = self.storage.folders_with("artifacts", CHECKPOINT)
        return Committed.of(reading.table, checkpoints, reading.damage, self.kept_predictions())


def open_store(uri: str) -> Store:
    """Open the store at a path or URI for reading.

    Raises:
        UserError: when there is none.
    """
    store = Store(uri)
    store.about()
    return store


def _attempt_file(cell_id: str, attempt: int) -> str:
    return f"attempts/{cell_id}.{attempt:04d}.parquet"


def _is_of_others(path: Path) -> bool:
    """Whether something in a folder was not left there by a driver that died before its store."""
    return path.name != DRIVER and not path.name.endswith(TEMPORARY)
