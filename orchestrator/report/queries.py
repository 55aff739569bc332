"""The rows that a query gave, as a table, Markdown, CSV, JSON or Parquet. Computes nothing.

Text may be anybody's: what a terminal or a browser would act on is shown, not done.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from datetime import date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from orchestrator.report.safe_text import inert, visible

LONGEST = 200
"""Characters of a value that a table shows."""


def written(rows: pa.Table, form: str) -> str | bytes | list[Table]:
    """Write rows in one of the forms of `rib sql`.

    Raises:
        pa.ArrowInvalid: when the form cannot hold a column's type.
    """
    if form == "table":
        return [_table(rows)]
    if form == "md":
        return _markdown(rows)
    if form == "csv":
        return _csv(rows)
    if form == "json":
        records = [{k: _plain(v) for k, v in row.items()} for row in rows.to_pylist()]
        return json.dumps(records, indent=2, ensure_ascii=False)
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd")
    return bytes(sink.getvalue())


def _table(rows: pa.Table) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for column in rows.schema:
        is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
        table.add_column(
            Text(visible(column.name)), justify="right" if is_number else "left", overflow="fold"
        )
    for values in _texts(rows):
        table.add_row(*(Text(visible(value)) for value in values))
    return table


def _markdown(rows: pa.Table) -> str:
    def line(values: Iterable[str]) -> str:
        return "| " + " | ".join(map(inert, values)) + " |"

    names = rows.column_names
    return "\n".join([line(names), "|" + "-|" * len(names), *map(line, _texts(rows))])


def _texts(rows: pa.Table) -> Iterable[list[str]]:
    for row in zip(*(column.to_pylist() for column in rows.columns), strict=True):
        yield [_text(value) for value in row]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds")
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _csv(rows: pa.Table) -> str:
    """Write CSV; what it has no form for (lists, structures) is written as JSON."""
    columns = [
        pa.array([None if v is None else json.dumps(_plain(v)) for v in column.to_pylist()])
        if pa.types.is_nested(column.type)
        else column
        for column in rows.columns
    ]
    sink = io.BytesIO()
    pyarrow.csv.write_csv(pa.table(columns, rows.column_names), sink)
    return sink.getvalue().decode()


def _plain(value: Any) -> Any:
    """Return what JSON has a form for."""
    if isinstance(value, float):
        return value if value - value == 0 else None  # neither NaN nor infinite
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)
