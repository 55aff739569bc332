"""Reading the files of a table, each looked at: is it Parquet, with our columns and its own keys.

A file is named after the rows in it, and a merged one (`workers.compaction`) after its bytes. One
that is cut short, is no Parquet, has other columns or types, or has other rows or bytes than its
name says is damaged: it is named with the reason, and none of its rows are given out. Columns that
a file lacks since an older version wrote it are null; columns that only a later version knows are
kept where files are merged.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workers.readers import readers_of
from workers.schemas import KEYS, TABLES
from workers.storage import Storage

FILE = "__filename"
"""The column that says which file a row is from."""

FILES_AT_ONCE = 100
"""Small files that are looked at together: whether they are named after their rows."""

NEEDED: dict[str, list[str]] = {
    **KEYS,
    "accuracy": [
        *("cell_id", "epoch", "eval_dataset", "corruption", "severity"),
        *("n_correct", "n_total"),
    ],
    "attempts": [*KEYS["attempts"], "state"],
    "cleared": [*KEYS["cleared"], "attempt"],
    "predictions": [*KEYS["predictions"], "label", "targets", "top1", "correct"],
}
"""Columns without which a file is no file of a table."""

_MERGED = re.compile(r"(?:.*/)?merged-([0-9a-f]{32})\.parquet")
_DICTIONARY = pa.dictionary(pa.int32(), pa.string())


class DamagedTableError(Exception):
    """A file of a table cannot be read, or is not what its name says. Says why."""


@dataclass(frozen=True)
class Reading:
    """The rows of a table's files, with FILE beside the columns."""

    table: pa.Table
    damage: dict[str, str] = field(default_factory=dict)
    """The files that are damaged, by name, and why."""
    gone: tuple[str, ...] = ()
    """Files that were not there any more: merged into others, or set aside."""


@dataclass(frozen=True)
class Scan:
    """A table as it could be read, and the files that could not be, with the reason."""

    table: pa.Table
    damage: Mapping[str, str] = field(default_factory=dict)

    @property
    def damaged(self) -> tuple[str, ...]:
        return tuple(self.damage)


def merged_name(table: str, data: pa.Buffer | bytes) -> str:
    """Return what a merged file of these bytes is called."""
    return f"{table}/merged-{_digest(data)}.parquet"


def is_merged(name: str) -> bool:
    """Whether a file, by its name, holds the rows of many cells."""
    return _MERGED.fullmatch(name) is not None


def _digest(data: pa.Buffer | bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def read_table(
    storage: Storage, table: str, columns: Sequence[str], encoded: bool = False
) -> Reading:
    """Read some columns of all of a table's files, whatever is merged meanwhile.

    A file that is gone when its turn comes is in another one by then, which is looked for. Of rows
    of the same key the one that counts comes first: of a merged file, then of a sealed one, then of
    a part.

    Args:
        storage: of the store.
        table: its name.
        columns: of it.
        encoded: give out strings as dictionaries, which takes a fraction of the memory.

    Raises:
        StorageError: when the storage does not give out a file.
    """
    tried: set[str] = set()
    names = list_files(storage, table)
    readings = []
    while names:
        readings.append(read_files(storage, table, names, columns, encoded))
        tried.update(names)
        gone = readings[-1].gone
        names = _successors(list_files(storage, table), tried, gone) if gone else []
    rows = pa.concat_tables([_nothing(table, columns, encoded), *(r.table for r in readings)])
    damage = {name: why for reading in readings for name, why in reading.damage.items()}
    return Reading(rows.unify_dictionaries(), damage)


def list_files(storage: Storage, table: str) -> list[str]:
    """List a table's files: merged ones, then sealed ones, then parts of cells.

    A listing is not atomic: of a file that is merged while it is made, it may show neither the file
    nor the merged one. So the folder is listed twice.
    """
    found = {name for _ in range(2) for name in storage.names(table, ".parquet")}
    names = sorted(found, key=lambda name: (not is_merged(name), name.count("."), name))
    return [f"{table}/{name}" for name in names]


def _successors(listed: list[str], tried: set[str], gone: Sequence[str]) -> list[str]:
    """Return the files that may have the rows of those that are gone."""
    sealed = {f"{name.removesuffix('.parquet').partition('.')[0]}.parquet" for name in gone}
    return [name for name in listed if name not in tried or name in sealed.difference(gone)]


def read_files(
    storage: Storage,
    table: str,
    names: Sequence[str],
    columns: Sequence[str],
    encoded: bool = False,
) -> Reading:
    """Read some columns of some of a table's files; see `read_table`.

    Raises:
        StorageError: when the storage does not give out a file.
    """
    wanted = list(dict.fromkeys([*columns, *KEYS[table]]))
    small = [name for name in names if not is_merged(name)]
    batches = [[name] for name in names if is_merged(name)]
    batches += [small[i : i + FILES_AT_ONCE] for i in range(0, len(small), FILES_AT_ONCE)]

    def read(batch: list[str]) -> Reading:
        return _read_batch(storage, table, batch, wanted, encoded)

    readings = list(readers_of(storage).map(read, batches))
    tables = [reading.table.select([*columns, FILE]) for reading in readings]
    return Reading(
        pa.concat_tables([_nothing(table, columns, encoded), *tables]),
        {name: why for reading in readings for name, why in reading.damage.items()},
        tuple(itertools.chain.from_iterable(reading.gone for reading in readings)),
    )


def read_file(storage: Storage, table: str, name: str) -> pa.Table:
    """Read a file whole, columns that this version does not know included, after those it does.

    Raises:
        FileNotFoundError: when it is not there.
        DamagedTableError: when it is damaged.
        StorageError: when the storage does not give it out.
    """
    found, damage, gone = read_each(storage, table, [name])
    if gone:
        raise FileNotFoundError(name)
    if damage:
        raise DamagedTableError(damage[name])
    return found[name]


def read_columns(storage: Storage, table: str, name: str, columns: Sequence[str]) -> pa.Table:
    """Read some columns of a file; whether its rows are those of its name is not looked at.

    Raises:
        FileNotFoundError: when it is not there.
        DamagedTableError: when it is damaged.
        StorageError: when the storage does not give it out.
    """
    return _rows_of(storage, table, name, list(columns), encoded=False)


def to_strings(rows: pa.Table) -> pa.Table:
    """Turn dictionaries into what they are of."""
    return _with_strings(rows, pa.types.is_dictionary, lambda column: column.cast(pa.string()))


def to_dictionaries(rows: pa.Table) -> pa.Table:
    """Turn strings into dictionaries."""
    return _with_strings(rows, pa.types.is_string, lambda column: column.dictionary_encode())


def _with_strings(
    rows: pa.Table,
    is_meant: Callable[[pa.DataType], bool],
    change: Callable[[pa.ChunkedArray], pa.ChunkedArray],
) -> pa.Table:
    columns = [change(column) if is_meant(column.type) else column for column in rows.columns]
    return pa.table(columns, rows.column_names)


def read_each(
    storage: Storage,
    table: str,
    names: Sequence[str],
    columns: list[str] | None = None,
    encoded: bool = False,
) -> tuple[dict[str, pa.Table], dict[str, str], tuple[str, ...]]:
    """Read some files, one after another; see `read_file`.

    Args:
        storage: of the store.
        table: its name.
        names: of its files.
        columns: of it, its keys among them; None: all, those that are not known here last.
        encoded: give out the strings of merged files as dictionaries.

    Returns:
        The rows of each file that is sound; the files that are damaged, and why; and those that are
        not there.
    """
    found: dict[str, pa.Table] = {}
    damage: dict[str, str] = {}
    gone: list[str] = []
    for name in names:
        try:
            found[name] = _rows_of(storage, table, name, columns, encoded)
        except FileNotFoundError:
            gone.append(name)
        except DamagedTableError as error:
            damage[name] = str(error)
    for stray in _strays(table, {n: rows for n, rows in found.items() if not is_merged(n)}):
        del found[stray]
        damage[stray] = "it has rows of other keys than its name says"
    return found, damage, tuple(gone)


def _read_batch(
    storage: Storage, table: str, names: Sequence[str], columns: list[str], encoded: bool
) -> Reading:
    """Read some small files, or a merged one."""
    found, damage, gone = read_each(storage, table, names, columns, encoded)
    if not found:
        return Reading(_nothing(table, columns, encoded), damage, gone)
    rows = pa.concat_tables(found.values())
    if not is_merged(names[0]):
        rows = rows.combine_chunks()
    rows = to_dictionaries(rows) if encoded else rows
    file = _repeated(list(found), [part.num_rows for part in found.values()])
    return Reading(rows.append_column(FILE, file), damage, gone)


def _rows_of(
    storage: Storage, table: str, name: str, columns: list[str] | None, encoded: bool
) -> pa.Table:
    try:
        return _parse(storage.read(name), table, name, columns, encoded)
    except DamagedTableError:
        # Replaced while it was read, an object store may have given out a part of the new one.
        return _parse(storage.read(name), table, name, columns, encoded)


def _parse(
    data: bytes, table: str, name: str, columns: list[str] | None, encoded: bool
) -> pa.Table:
    """Take some columns of a file's bytes, in that order; None: all, those unknown here last.

    Strings are dictionaries where that is asked for and the file is a merged one.
    """
    merged = _MERGED.fullmatch(name)
    if merged and merged[1] != _digest(data):
        raise DamagedTableError("its bytes are others than its name says, or cut short")
    schema = _encoded_schema(table) if merged and encoded else TABLES[table]
    strings = _strings(table) if merged and encoded else None
    try:
        file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=strings)
        found = file.schema_arrow
        is_ours = found.equals(schema)
        if not is_ours:
            check_columns(found, table, schema)
        rows = file.read(columns, use_threads=merged is not None)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DamagedTableError(f"no Parquet, or cut short: {error}") from error
    return rows if is_ours else _completed(rows, schema, columns)


def _strings(table: str) -> list[str]:
    return [column.name for column in TABLES[table] if pa.types.is_string(column.type)]


@functools.cache
def _encoded_schema(table: str) -> pa.Schema:
    strings = set(_strings(table))
    return pa.schema([f.with_type(_DICTIONARY) if f.name in strings else f for f in TABLES[table]])


def _nothing(table: str, columns: Sequence[str], encoded: bool) -> pa.Table:
    schema = _encoded_schema(table) if encoded else TABLES[table]
    empty = schema.empty_table().select(list(columns))
    return empty.append_column(FILE, _repeated([], []))


def _completed(rows: pa.Table, schema: pa.Schema, columns: Sequence[str] | None) -> pa.Table:
    """Put a file's columns into an order and the table's types; what it lacks is null."""

    def column(name: str) -> pa.ChunkedArray | pa.Array:
        if name not in schema.names:
            return rows[name]
        kind = schema.field(name).type
        there = name in rows.column_names
        return rows[name].cast(kind) if there else pa.nulls(rows.num_rows, kind)

    wanted = columns or dict.fromkeys([*schema.names, *rows.column_names])
    return pa.table({name: column(name) for name in wanted})


def check_columns(found: pa.Schema, table: str, schema: pa.Schema | None = None) -> None:
    """Check that a file's columns are a table's, of this version, an older or a later one.

    Args:
        found: what the file has.
        table: its name.
        schema: of the table; None: as it is declared.

    Raises:
        DamagedTableError: when they are not.
    """
    for name in NEEDED[table]:
        if name not in found.names:
            raise DamagedTableError(f"it has no column {name!r}")
    for wanted in schema or TABLES[table]:
        places = found.get_all_field_indices(wanted.name)
        if len(places) > 1:
            raise DamagedTableError(f"it has the column {wanted.name!r} twice")
        kinds = {found.field(place).type for place in places}
        if kinds - {wanted.type, pa.null()}:
            raise DamagedTableError(f"{wanted.name!r} is {kinds.pop()}, not {wanted.type}")


def _strays(table: str, files: Mapping[str, pa.Table]) -> list[str]:
    """Return the files, by name, that have rows of other keys than they are named after."""
    if not files:
        return []
    rows = pa.concat_tables(rows.select(KEYS[table]) for rows in files.values())
    rows = rows.combine_chunks()
    counts = [part.num_rows for part in files.values()]
    stems = [name.rpartition("/")[2].removesuffix(".parquet") for name in files]
    stem = _repeated(stems, counts).cast(pa.string())
    fits = [pc.fill_null(pc.equal(stem, name), False) for name in _NAMES[table](rows)]
    is_stray = pc.invert(functools.reduce(pc.or_, fits))
    if not pc.any(is_stray, min_count=0).as_py():
        return []
    strays: list[str] = _repeated(list(files), counts).filter(is_stray).unique().to_pylist()
    return strays


def _repeated(values: Sequence[str], counts: Sequence[int]) -> pa.ChunkedArray:
    """Repeat each value so many times."""
    indices = np.repeat(np.arange(len(values), dtype=np.int32), counts)
    return pa.chunked_array(
        [pa.DictionaryArray.from_arrays(indices, pa.array(values, pa.string()))]
    )


def _padded(numbers: pa.ChunkedArray, width: int) -> pa.ChunkedArray:
    return pc.utf8_lpad(pc.cast(numbers, pa.string()), width, "0")


def _joined(rows: pa.Table, first: str, second: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(rows[first], second, ".")


_NAMES: dict[str, Callable[[pa.Table], list[pa.ChunkedArray]]] = {
    "accuracy": lambda r: [
        r["cell_id"],
        part := _joined(r, "cell_id", r["eval_dataset"]),
        pc.binary_join_element_wise(part, _padded(r["epoch"], 5), ".e"),
    ],
    "attempts": lambda r: [_joined(r, "cell_id", _padded(r["attempt"], 4))],
    "cleared": lambda r: [r["clearing"]],
    "history": lambda r: [r["cell_id"]],
    "tuning": lambda r: [_joined(r, "search", _padded(r["trial"], 5))],
    "distances": lambda r: [r["cell_id"]],
    "predictions": lambda r: [_joined(r, "cell_id", r["eval_dataset"])],
}
"""How a file that has a row may be called, without its ending."""
