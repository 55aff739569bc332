"""How commands print: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from workers.errors import Problem, UserError

if TYPE_CHECKING:
    from rich.table import Table

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

err = Console(stderr=True)


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


def print_table(table: Table, out: Path | None = None) -> None:
    """Print a table as wide as the terminal, or 100 columns where there is none."""
    with output_to(out) as stream:
        is_terminal = out is None and sys.stdout.isatty()
        console = Console(file=stream) if is_terminal else Console(file=stream, width=100)
        console.print(table)


@contextmanager
def output_to(out: Path | None) -> Iterator[Any]:
    """Open a file to write to, or standard output."""
    if out is None:
        yield sys.stdout
        return
    try:
        with out.open("w", encoding="utf-8") as stream:
            yield stream
    except OSError as error:
        raise UserError([Problem("--out", f"cannot write {out}: {error.strerror}")]) from error


def write(out: Path, text: str) -> None:
    """Write text to a file."""
    with output_to(out) as stream:
        stream.write(text)
