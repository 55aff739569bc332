"""Reading the files of a table, each looked at: is it Parquet, with our columns and its own keys.

A file is named after the rows in it. One that is cut short, is no Parquet, has other columns or
types, or has rows of other keys than its name says is damaged: it is named with the reason, and
none of its rows are given out. Columns that a file lacks since an older version wrote it are null;
columns that only a later version knows are kept where files are merged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from workers.schemas import KEYS, TABLES
from workers.storage import Storage

FILE = "__filename"
"""The column that says which file a row is from; pyarrow's own name for it."""

FILES_AT_ONCE = 500
"""Files in one pyarrow data set: it holds on to the footers of all, about 0.1 MB each."""

READERS = 8
"""Files that are read at the same time where each is read by itself."""

NEEDED: dict[str, list[str]] = {
    **KEYS,
    "accuracy": [*KEYS["accuracy"], "n_correct", "n_total"],
    "attempts": [*KEYS["attempts"], "state"],
}
"""Columns without which a file is no file of a table."""


class DamagedTableError(Exception):
    """A file of a table cannot be read, or is not what its name says. Says why."""


@dataclass(frozen=True)
class Reading:
    """The rows of a table's files, with FILE beside the columns, and the files that are damaged."""

    table: pa.Table
    damage: dict[str, str] = field(default_factory=dict)
    """By name, why."""


def read_files(
    storage: Storage, table: str, names: Sequence[str], columns: Sequence[str]
) -> Reading:
    """Read some columns of a table's files.

    Raises:
        StorageError: when the storage does not give out a file.
    """
    readings = [
        _read_chunk(storage, table, names[start : start + FILES_AT_ONCE], list(columns))
        for start in range(0, len(names), FILES_AT_ONCE)
    ]
    tables = [_nothing(table, columns), *(reading.table for reading in readings)]
    damage = {name: why for reading in readings for name, why in reading.damage.items()}
    return Reading(pa.concat_tables(tables), damage)


def read_file(storage: Storage, table: str, name: str) -> pa.Table:
    """Read a file whole, columns that this version does not know included, after those it does.

    Raises:
        FileNotFoundError: when it is not there.
        DamagedTableError: when it is damaged.
        StorageError: when the storage does not give it out.
    """
    try:
        return _parse(storage.read(name), table, name)
    except DamagedTableError:
        # Replaced while it was read, an object store may have given out a part of the new one.
        return _parse(storage.read(name), table, name)


def _read_chunk(storage: Storage, table: str, names: Sequence[str], columns: list[str]) -> Reading:
    """Read files together, which is quick, or one by one if something is wrong with one of them."""
    try:
        rows = _read_together(storage, table, names, columns)
    except (OSError, ValueError, pa.ArrowException, DamagedTableError):
        return _read_one_by_one(storage, table, names, columns)
    return Reading(rows)


def _read_together(
    storage: Storage, table: str, names: Sequence[str], columns: list[str]
) -> pa.Table:
    paths = [storage.path(name) for name in names]
    data = ds.dataset(paths, schema=TABLES[table], format="parquet", filesystem=storage.filesystem)
    for fragment in data.get_fragments():
        _check_columns(fragment.physical_schema, table)
    rows = data.to_table(columns=list(dict.fromkeys([*columns, *KEYS[table], FILE])))
    _check_names(rows, table)
    return rows.select([*columns, FILE])


def _read_one_by_one(
    storage: Storage, table: str, names: Sequence[str], columns: list[str]
) -> Reading:
    def read(name: str) -> pa.Table | str | None:
        try:
            rows = read_file(storage, table, name)
        except FileNotFoundError:
            return None  # sealed into another file since the listing
        except DamagedTableError as error:
            return str(error)
        path = pa.repeat(storage.path(name), rows.num_rows)
        return rows.select(columns).append_column(FILE, path)

    with ThreadPoolExecutor(READERS) as readers:
        found = dict(zip(names, readers.map(read, names), strict=True))
    tables = [rows for rows in found.values() if isinstance(rows, pa.Table)]
    damage = {name: why for name, why in found.items() if isinstance(why, str)}
    return Reading(pa.concat_tables([_nothing(table, columns), *tables]), damage)


def _nothing(table: str, columns: Sequence[str]) -> pa.Table:
    empty = TABLES[table].empty_table().select(list(columns))
    return empty.append_column(FILE, pa.array([], pa.string()))


def _parse(data: bytes, table: str, name: str) -> pa.Table:
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        _check_columns(file.schema_arrow, table)
        rows = file.read()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DamagedTableError(f"no Parquet, or cut short: {error}") from error
    rows = _completed(rows, TABLES[table])
    _check_names(rows.append_column(FILE, pa.repeat(name, rows.num_rows)), table)
    return rows


def _completed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Put a file's columns into the table's order and types; what it lacks is null."""
    known = {
        column.name: rows.column(column.name).cast(column.type)
        if column.name in rows.column_names
        else pa.nulls(rows.num_rows, column.type)
        for column in schema
    }
    others = {name: rows.column(name) for name in rows.column_names if name not in known}
    return pa.table({**known, **others})


def _check_columns(found: pa.Schema, table: str) -> None:
    """Check that a file's columns are a table's, of this version, an older or a later one.

    Raises:
        DamagedTableError: when they are not.
    """
    for name in NEEDED[table]:
        if name not in found.names:
            raise DamagedTableError(f"it has no column {name!r}")
    for wanted in TABLES[table]:
        places = found.get_all_field_indices(wanted.name)
        if len(places) > 1:
            raise DamagedTableError(f"it has the column {wanted.name!r} twice")
        kinds = {found.field(place).type for place in places}
        if kinds - {wanted.type, pa.null()}:
            raise DamagedTableError(f"{wanted.name!r} is {kinds.pop()}, not {wanted.type}")


def _check_names(rows: pa.Table, table: str) -> None:
    """Check that rows are in the files that are named after them.

    Raises:
        DamagedTableError: when one is not.
    """
    stems = pc.replace_substring_regex(rows[FILE], r"^.*/|\.parquet$", "")
    matches = [pc.fill_null(pc.equal(stems, name), False) for name in _NAMES[table](rows)]
    fits = matches[0]
    for other in matches[1:]:
        fits = pc.or_(fits, other)
    if not pc.all(fits, min_count=0).as_py():
        raise DamagedTableError("it has rows of other keys than its name says")


def _padded(numbers: pa.ChunkedArray, width: int) -> pa.ChunkedArray:
    return pc.utf8_lpad(pc.cast(numbers, pa.string()), width, "0")


def _joined(rows: pa.Table, first: str, second: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(rows[first], second, ".")


_NAMES: dict[str, Callable[[pa.Table], list[pa.ChunkedArray]]] = {
    "accuracy": lambda r: [r["cell_id"], _joined(r, "cell_id", r["eval_dataset"])],
    "attempts": lambda r: [_joined(r, "cell_id", _padded(r["attempt"], 4))],
    "history": lambda r: [r["cell_id"]],
    "tuning": lambda r: [_joined(r, "search", _padded(r["trial"], 5))],
}
"""How a file that has a row may be called, without its ending."""
