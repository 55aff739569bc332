"""Compaction: of a table's many small files, one per cell or less, few large ones.

Each step leaves the table whole, wherever a driver dies: a merged file is in the storage, flushed
and read back, before the files that it is made of go. What is there twice meanwhile says the same,
and readers take each key once (`workers.repeats`). A merged file is named after its bytes: merging
the same rows again gives the same file, and one that is damaged is known.

Only the driver compacts. What workers commit meanwhile stays: a file goes only if it is as it was
before it was read.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workers.repeats import contradicting, distinct
from workers.schemas import KEYS
from workers.storage import Stamp, Storage, StorageError
from workers.tables import (
    READERS,
    READERS_FAR,
    DamagedTableError,
    is_merged,
    list_files,
    merged_name,
    read_each,
    read_file,
    to_dictionaries,
    to_strings,
)

S = TypeVar("S")
T = TypeVar("T")

COMPACTED = ("accuracy", "attempts", "history", "tuning")
"""The tables of many small files."""

ROWS = 1 << 20
"""A merged file is closed once it has as many rows; one that has half as many is left alone."""

ROWS_OF_A_GROUP = 1 << 17
"""Rows of a row group: what a reader that looks for some cells has to read."""

FILES_AT_ONCE = 1000
"""Files that are read before it is asked how many rows they have."""

BATCH = 50
"""Files that one thread reads before it looks at their rows."""

ORDER = ["model", "downstream", "method", "seed"]
"""By what rows are sorted, before their keys; files are then small, and queries skip row groups."""


@dataclass
class Compaction:
    """What has become of a table's files."""

    table: str
    n_before: int = 0
    """Files that the table had."""
    merged: list[str] = field(default_factory=list)
    """The files that are no longer there."""
    written: list[str] = field(default_factory=list)
    n_rows: int = 0
    """Rows in what was written."""
    damage: dict[str, str] = field(default_factory=dict)
    """Files that are damaged, and stay where they are: why."""
    contradictions: list[str] = field(default_factory=list)
    """Files whose rows contradict others of the same keys; they stay where they are."""

    @property
    def n_after(self) -> int:
        return self.n_before - len(self.merged) + len(self.written)


class Compactor:
    """Compacts the tables of one storage."""

    def __init__(
        self,
        storage: Storage,
        check: Callable[[], None] = lambda: None,
        is_busy: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """Prepare.

        Args:
            storage: of the store.
            check: raises when the store may not be written to any more.
            is_busy: whether a cell may still be writing; its files are left alone.
        """
        self._storage, self._check, self._is_busy = storage, check, is_busy

    def compact(self, table: str, at_least: int = 2) -> Compaction:
        """Merge a table's files.

        Args:
            table: its name.
            at_least: how many files there have to be to merge.

        Raises:
            StorageError: when the storage refuses; the table is then as whole as before.
        """
        stamps = self._storage.stamps(table)
        names = [n for n in list_files(self._storage, table) if n.rpartition("/")[2] in stamps]
        found = Compaction(table, n_before=len(names))
        free = [name for name in names if self._is_free(name)]
        if len(free) >= at_least:
            for files in self._groups(table, free, found):
                self._merge(table, files, stamps, found)
        return found

    def _is_free(self, name: str) -> bool:
        """Whether a file may be merged: a small one of a cell that does not run, or half a one."""
        if not is_merged(name):
            return not self._is_busy(owner_of(name))
        try:
            path, filesystem = self._storage.path(name), self._storage.filesystem
            return bool(pq.read_metadata(path, filesystem=filesystem).num_rows < ROWS // 2)
        except (OSError, ValueError, pa.ArrowException):
            return True  # to be named when it is read

    def _groups(
        self, table: str, names: Sequence[str], found: Compaction
    ) -> Iterator[dict[str, pa.Table]]:
        """Read files and yield them in groups of about ROWS; those of one cell are together."""
        group: dict[str, pa.Table] = {}
        for owned in _in_runs(names):
            group |= self._read(table, owned, found)
            if sum(rows.num_rows for rows in group.values()) >= ROWS:
                yield group
                group = {}
        if group:
            yield group

    def _read(self, table: str, names: Sequence[str], found: Compaction) -> dict[str, pa.Table]:
        def read(some: Sequence[str]) -> dict[str, pa.Table]:
            files, damage, _ = read_each(self._storage, table, some, encoded=True)
            found.damage |= damage
            return files

        batches = [names[i : i + BATCH] for i in range(0, len(names), BATCH)]
        return {n: rows for files in self._at_once(read, batches) for n, rows in files.items()}

    def _merge(
        self, table: str, files: dict[str, pa.Table], stamps: Mapping[str, Stamp], found: Compaction
    ) -> None:
        """Write one file of some, and delete those."""
        rows, contradictions = _together(table, files)
        found.contradictions += contradictions
        parts = [name for name in files if name not in contradictions]
        if len(parts) < 2:
            return
        rows = _sorted(distinct(rows, table), table)
        data = packed(rows)
        name = merged_name(table, data)
        self._check()
        if name not in parts:
            self._write(table, name, data, rows)
            found.written.append(name)
            found.n_rows += rows.num_rows
        self._check()
        found.merged += self._delete(table, [part for part in parts if part != name], stamps)

    def _write(self, table: str, name: str, data: pa.Buffer, rows: pa.Table) -> None:
        """Write a merged file so that nothing more is needed of what it is made of."""
        self._storage.write(name, data)
        self._storage.flush_folder(table)
        try:
            there = read_file(self._storage, table, name)
        except (DamagedTableError, FileNotFoundError) as error:
            raise StorageError(f"{name} was written and does not read back: {error}") from error
        keys = KEYS[table]
        if not there.select(keys).equals(to_strings(rows.select(keys))):
            raise StorageError(f"{name} was written and has other rows when it is read back")

    def _delete(self, table: str, names: Sequence[str], stamps: Mapping[str, Stamp]) -> list[str]:
        """Delete files, save those that were written again since."""
        now = self._storage.stamps(table)
        lasts = {name: name.rpartition("/")[2] for name in names}
        same = [name for name, last in lasts.items() if now.get(last) == stamps[last]]
        self._at_once(self._storage.delete, same)
        return same

    def _at_once(self, call: Callable[[S], T], things: Iterable[S]) -> list[T]:
        with ThreadPoolExecutor(READERS if self._storage.is_local else READERS_FAR) as threads:
            return list(threads.map(call, things))


def owner_of(name: str) -> str:
    """Return the cell, or search, that a file's name begins with."""
    return name.rpartition("/")[2].partition(".")[0]


def _in_runs(names: Iterable[str]) -> Iterator[list[str]]:
    """Yield names, some at a time, the files of one cell never apart."""
    run: list[str] = []
    for _, owned in itertools.groupby(sorted(names, key=_rank), key=owner_of):
        run += owned
        if len(run) >= FILES_AT_ONCE:
            yield run
            run = []
    if run:
        yield run


def _rank(name: str) -> tuple[bool, str, int, str]:
    return not is_merged(name), owner_of(name), name.count("."), name


def _together(table: str, files: Mapping[str, pa.Table]) -> tuple[pa.Table, list[str]]:
    """Put files' rows together, and name those that contradict one before them and are left out."""
    parts = [rows for name, rows in files.items() if is_merged(name)]  # they come first
    small = [rows for name, rows in files.items() if not is_merged(name)]
    if small:
        together = pa.concat_tables(small, promote_options="default").combine_chunks()
        parts.append(to_dictionaries(together))
    rows = pa.concat_tables(parts, promote_options="default").unify_dictionaries()
    rows = rows.combine_chunks()
    wrong = contradicting(rows, table)
    if not wrong:
        return rows, []
    number = np.repeat(np.arange(len(files)), [part.num_rows for part in files.values()])
    left_out = np.unique(number[wrong])
    kept = rows.filter(pa.array(~np.isin(number, left_out)))
    return kept, [list(files)[place] for place in left_out]


def _sorted(rows: pa.Table, table: str) -> pa.Table:
    names = [name for name in ORDER if name in rows.column_names]
    by = [(name, "ascending") for name in dict.fromkeys([*names, *KEYS[table]])]
    return rows.take(pc.sort_indices(to_strings(rows.select([name for name, _ in by])), by))


def packed(rows: pa.Table) -> pa.Buffer:
    """Make a file of rows. Others read its dictionaries as the strings that they are of."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        rows,
        sink,
        compression="zstd",
        row_group_size=ROWS_OF_A_GROUP,
        store_schema=False,
        write_page_checksum=True,
    )
    return sink.getvalue()
