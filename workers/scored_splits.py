"""Rows of a running cell's splits, kept in the store before its set is done.

A set's rows come into the accuracy table together. Of a set with many splits, such as ImageNet-C,
each takes minutes: what is scored lies here until its cell is done, so that a worker that dies
loses a split and no set, and idle workers can score some of them (`workers.helping`). None of it
counts as done.

Files are only ever added, each under the name of its first split, and all go with their cell. They
are Parquet files behind a digest of their bytes.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workers.schemas import KEYS, TABLES
from workers.storage import Storage
from workers.tables import read_table

FOLDER = "splits"
ROWS = ".rows"
CLAIM = ".claim"

Row = Mapping[str, Any]
Place = tuple[str, int]
"""A split: its evaluation set, and its place among the splits of that."""


class ScoredSplits:
    """What is kept of one cell."""

    def __init__(self, storage: Storage, cell_id: str) -> None:
        self._storage, self._folder = storage, f"{FOLDER}/{cell_id}"
        self._rows: dict[Place, Row] = {}
        self._read: set[str] = set()
        self.claims: frozenset[Place] = frozenset()
        """The splits that somebody said to be scoring, when it was last looked."""
        self.looked_at = float("-inf")

    def look(self) -> None:
        """Read what others have added.

        Raises:
            StorageError: when the storage does not give it out.
        """
        names = self._storage.names(self._folder)
        for name in names:
            if name.endswith(ROWS) and name not in self._read:
                self._rows |= {_place(row): row for row in self._rows_in(name)}
                self._read.add(name)
        self.claims = frozenset(_place_in(name) for name in names if name.endswith(CLAIM))
        self.looked_at = time.monotonic()

    def find(self, place: Place) -> Row | None:
        """Return the row of a split, as far as was looked; None where there is none."""
        return self._rows.get(place)

    def keep(self, rows: Sequence[tuple[Place, Row]]) -> None:
        """Add rows, in one file.

        Raises:
            StorageError: when the storage does not take them.
        """
        columns = [{**row, _PLACE: place[1]} for place, row in rows]
        sink = pa.BufferOutputStream()
        table = pa.Table.from_pylist(columns, schema=_SCHEMA)
        pq.write_table(table, sink, store_schema=False)
        data = bytes(sink.getvalue())
        name = f"{_name(rows[0][0])}{ROWS}"
        self._storage.write(f"{self._folder}/{name}", _digest(data) + data, flush=False)
        self._rows |= dict(rows)
        self._read.add(name)

    def claim(self, place: Place, device: str) -> None:
        """Say that a split is being scored, and on what kind of device."""
        data = json.dumps({"device": device}).encode()
        self._storage.write(self._claim(place), data, flush=False)

    def is_claimed(self, place: Place) -> bool:
        """Whether that is said now."""
        return self._storage.exists(self._claim(place))

    def claimed_on(self, place: Place) -> str:
        """Return the kind of device that a split is said to be scored on, or ""."""
        with suppress(FileNotFoundError, ValueError):
            return str(json.loads(self._storage.read(self._claim(place)))["device"])
        return ""

    def withdraw(self) -> None:
        """Delete all claims: who made them may be dead."""
        for place in self.claims:
            self._storage.delete(self._claim(place))
        self.claims = frozenset()

    def clear(self) -> None:
        """Delete everything: the cell is done."""
        for name in self._storage.names(self._folder):
            self._storage.delete(f"{self._folder}/{name}")

    def _claim(self, place: Place) -> str:
        return f"{self._folder}/{_name(place)}{CLAIM}"

    def _rows_in(self, name: str) -> list[dict[str, Any]]:
        return _rows_of(self._storage, f"{self._folder}/{name}")


_PLACE = "place"
"""The column that says which of its set's splits a row is of."""

_SCHEMA = pa.schema([*TABLES["accuracy"], pa.field(_PLACE, pa.int32())])


_DIGEST_BYTES = 16


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()


def _name(place: Place) -> str:
    return f"{place[0]}.{place[1]:04d}"


def _place_in(name: str) -> Place:
    eval_dataset, number, _ = name.rsplit(".", 2)
    return eval_dataset, int(number)


def _place(row: dict[str, Any]) -> Place:
    """Take out of a row which split it is of."""
    number = row.pop(_PLACE)
    return row["eval_dataset"], number


def _rows_of(storage: Storage, name: str) -> list[dict[str, Any]]:
    """Return the rows of a file; none of one that is gone, or damaged, and so scored again."""
    try:
        data = storage.read(name)
        if data[:_DIGEST_BYTES] != _digest(data[_DIGEST_BYTES:]):
            return []
        table = pq.read_table(pa.BufferReader(data[_DIGEST_BYTES:]))
    except (ValueError, OSError, pa.ArrowException):
        return []
    if not table.schema.equals(_SCHEMA):
        return []
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def spent(storage: Storage) -> list[str]:
    """Return the files whose rows are all in the accuracy table, and every claim.

    Args:
        storage: of the store, of which nobody scores a cell now.

    Raises:
        StorageError: when it cannot be read.
    """
    names = list(storage.walk(FOLDER))
    if not names:
        return []
    keys = KEYS["accuracy"]
    accuracy = read_table(storage, "accuracy", keys).table
    there = set(zip(*(accuracy[key].to_pylist() for key in keys), strict=True))

    def is_spent(name: str) -> bool:
        rows = _rows_of(storage, name) if name.endswith(ROWS) else []
        return all(tuple(row[key] for key in keys) in there for row in rows)

    return [name for name in names if is_spent(name)]
