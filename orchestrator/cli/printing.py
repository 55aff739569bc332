"""How commands print: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from rich.console import Console

from workers.errors import Problem, UserError

if TYPE_CHECKING:
    from rich.table import Table

    Document = str | bytes | Sequence[Table]

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="Write it to this file.")]

err = Console(stderr=True)


class RowsFormat(StrEnum):
    """What plain rows are written as."""

    TABLE = "table"
    MD = "md"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


@contextmanager
def steady_err() -> Iterator[Console]:
    """Give out a console on what is standard error now, whatever goes there meanwhile.

    What cells print in this process is kept in their logs; what is said of them is not to be.
    """
    try:
        descriptor = os.dup(sys.stderr.fileno())
    except (AttributeError, OSError):  # no file of its own, as in a notebook
        yield Console(file=sys.stderr)
        return
    with os.fdopen(descriptor, "w", encoding=sys.stderr.encoding, errors="replace") as stream:
        yield Console(file=stream)


def tell(text: str) -> None:
    """Print a line to standard error as it is, however long."""
    err.print(text, markup=False, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, indent=2))


def print_table(table: Table) -> None:
    """Print a table as wide as the terminal, or 100 columns where there is none."""
    print_document([table])


def print_document(document: Document, out: Path | None = None) -> None:
    """Print what a report was written as: text, tables, or, to a file alone, bytes."""
    if isinstance(document, bytes):
        if out is None:
            raise ValueError("bytes are not printed: they need a file")
        with _told(out):
            out.write_bytes(document)
    elif isinstance(document, str):
        write(out, document.rstrip("\n") + "\n")
    else:
        with output_to(out) as stream:
            is_terminal = out is None and sys.stdout.isatty()
            console = Console(file=stream) if is_terminal else Console(file=stream, width=100)
            for table in document:
                console.print(table)


def check_place(form: RowsFormat, out: Path | None) -> None:
    """Check that rows can go where they should.

    Raises:
        UserError: when they are binary, and no file is named.
    """
    if form is RowsFormat.PARQUET and out is None:
        raise UserError([Problem("--format parquet", "needs a file", "name one with --out")])


@contextmanager
def output_to(out: Path | None) -> Iterator[TextIO]:
    """Open a file to write to, or standard output."""
    if out is None:
        yield sys.stdout
        return
    with _told(out), out.open("w", encoding="utf-8") as stream:
        yield stream


def write(out: Path | None, text: str) -> None:
    """Write text to a file, or to standard output."""
    with output_to(out) as stream:
        stream.write(text)


@contextmanager
def _told(out: Path) -> Iterator[None]:
    """Make a user's mistake of a file that cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError([Problem("--out", f"cannot write {out}: {error.strerror}")]) from error
