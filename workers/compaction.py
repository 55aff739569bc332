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
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workers.readers import readers_of
from workers.repeats import contradicting, distinct
from workers.schemas import KEYS
from workers.storage import Stamp, Storage, StorageError
from workers.tables import (
    DamagedTableError,
    is_merged,
    list_files,
    merged_name,
    read_columns,
    read_each,
    to_dictionaries,
    to_strings,
)

S = TypeVar("S")
T = TypeVar("T")

COMPACTED = ("accuracy", "attempts", "history", "tuning")
"""The tables of many small files."""

ROWS = 1 << 20
"""A merged file is closed once it has as many rows; one that has half as many is left alone."""

ROWS_SPARING = 1 << 15
"""The same for who compacts again and again, and has other things in memory: a driver.

Merging takes 1.2 KB of memory a row.
"""

ROWS_OF_A_GROUP = 1 << 17
"""Rows of a row group: what a reader that looks for some cells has to read."""

FILES_AT_ONCE = 200
"""Files that are read before their rows are put together; a table of a row takes 40 KB."""

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
        sparing: bool = False,
    ) -> None:
        """Prepare.

        Args:
            storage: of the store.
            check: raises when the store may not be written to any more.
            is_busy: whether a cell may still be writing; its files are left alone.
            sparing: make files of ROWS_SPARING, and leave merged files alone that have much more
                rows than what is merged: who compacts again and again does not read all each time.
        """
        self._storage, self._check, self._is_busy = storage, check, is_busy
        self._sparing, self._rows = sparing, ROWS_SPARING if sparing else ROWS

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
        small = [name for name in names if self._is_small(name)]
        merged = {name: self._count(name) for name in names if is_merged(name)}
        merged = {name: n_rows for name, n_rows in merged.items() if n_rows < self._rows // 2}
        if len(small) + len(merged) >= at_least:
            left = deque(sorted(merged, key=merged.__getitem__))
            for group in self._groups(table, small, found):
                together = self._take(table, group, left, merged, found)
                self._merge(table, together, stamps, found)
            while left and not self._sparing:
                self._merge(table, self._take(table, [], left, merged, found), stamps, found)
        return found

    def _is_small(self, name: str) -> bool:
        """Whether a file is one of a cell, and of one that does not run."""
        return not is_merged(name) and not self._is_busy(owner_of(name))

    def _count(self, name: str) -> int:
        """Return how many rows a merged file says that it has; 0 when it does not say."""
        try:
            path, filesystem = self._storage.path(name), self._storage.filesystem
            return int(pq.read_metadata(path, filesystem=filesystem).num_rows)
        except (OSError, ValueError, pa.ArrowException):
            return 0  # to be named when it is read

    def _take(
        self,
        table: str,
        group: list[_Files],
        left: deque[str],
        n_rows: Mapping[str, int],
        found: Compaction,
    ) -> list[_Files]:
        """Take merged files to a group of small ones until it is full; they come first.

        Whoever is sparing takes none that has more than twice as many rows as the group by then.

        Args:
            table: its name.
            group: of small files, or nothing.
            left: the merged ones, those with the fewest rows first; what is taken goes.
            n_rows: how many rows they have.
            found: is told of damage.
        """
        taken: list[_Files] = []
        has = sum(files.rows.num_rows for files in group)
        while left and has < self._rows and not (self._sparing and n_rows[left[0]] > 2 * has):
            name = left.popleft()
            taken += self._read(table, [name], found)
            has += n_rows[name]
        return [*taken, *group]

    def _groups(
        self, table: str, names: Sequence[str], found: Compaction
    ) -> Iterator[list[_Files]]:
        """Read files and yield them in groups, full but the last; a cell's files are together."""
        group: list[_Files] = []
        for owned in _in_runs(names):
            group += self._read(table, owned, found)
            if sum(files.rows.num_rows for files in group) >= self._rows:
                yield group
                group = []
        if group:
            yield group

    def _read(self, table: str, names: Sequence[str], found: Compaction) -> list[_Files]:
        def read(some: Sequence[str]) -> dict[str, pa.Table]:
            files, damage, _ = read_each(self._storage, table, some, encoded=True)
            found.damage |= damage
            return files

        batches = [names[i : i + BATCH] for i in range(0, len(names), BATCH)]
        each = {n: rows for files in self._at_once(read, batches) for n, rows in files.items()}
        merged = {name: rows for name, rows in each.items() if is_merged(name)}  # they come first
        small = {name: rows for name, rows in each.items() if not is_merged(name)}
        files = [_Files([name], [rows.num_rows], rows) for name, rows in merged.items()]
        if small:
            # Together: ten thousand tables of a row each would take hundreds of MB.
            rows = pa.concat_tables(small.values(), promote_options="default").combine_chunks()
            counts = [one.num_rows for one in small.values()]
            files.append(_Files(list(small), counts, to_dictionaries(rows)))
        return files

    def _merge(
        self, table: str, group: Sequence[_Files], stamps: Mapping[str, Stamp], found: Compaction
    ) -> None:
        """Write one file of some, and delete those."""
        if not group:
            return
        rows, contradictions = _together(table, group)
        found.contradictions += contradictions
        parts = [name for files in group for name in files.names if name not in contradictions]
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
        keys = KEYS[table]
        try:
            there = read_columns(self._storage, table, name, keys)
        except (DamagedTableError, FileNotFoundError) as error:
            raise StorageError(f"{name} was written and does not read back: {error}") from error
        if not there.equals(to_strings(rows.select(keys))):
            raise StorageError(f"{name} was written and has other rows when it is read back")

    def _delete(self, table: str, names: Sequence[str], stamps: Mapping[str, Stamp]) -> list[str]:
        """Delete files, save those that were written again since."""
        now = self._storage.stamps(table)
        lasts = {name: name.rpartition("/")[2] for name in names}
        same = [name for name, last in lasts.items() if now.get(last) == stamps[last]]
        self._at_once(self._storage.delete, same)
        return same

    def _at_once(self, call: Callable[[S], T], things: Iterable[S]) -> list[T]:
        return list(readers_of(self._storage).map(call, things))


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


@dataclass(frozen=True)
class _Files:
    """Files that were read, and their rows one after another."""

    names: list[str]
    counts: list[int]
    """How many rows each has."""
    rows: pa.Table
    """With dictionaries for strings."""


def _together(table: str, group: Sequence[_Files]) -> tuple[pa.Table, list[str]]:
    """Put files' rows together, and name those that contradict one before them and are left out."""
    parts = [files.rows for files in group]
    rows = pa.concat_tables(parts, promote_options="default").unify_dictionaries()
    rows = rows.combine_chunks()
    wrong = contradicting(rows, table)
    if not wrong:
        return rows, []
    names = [name for files in group for name in files.names]
    counts = [count for files in group for count in files.counts]
    file = np.repeat(np.arange(len(names)), counts)
    left_out = np.unique(file[wrong])
    kept = rows.filter(pa.array(~np.isin(file, left_out)))
    return kept, [names[place] for place in left_out]


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
