"""`rib models`: the weights of a grid's models on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.printing import JsonOption, err, print_json, print_table, tell

if TYPE_CHECKING:
    from rich.table import Table

    from orchestrator.model_files import ModelFile

app = typer.Typer(
    help="Look after the weights of a grid's models.", no_args_is_help=True, rich_markup_mode=None
)

GridPath = Annotated[Path, typer.Argument(metavar="GRID", help="A grid file (YAML).")]


@app.callback()
def group() -> None:
    """Look after the weights of a grid's models."""


@app.command("fetch")
def models_fetch(grid: GridPath, as_json: JsonOption = False) -> None:
    """Download the published weights that a grid needs, once. Exit 1 when some do not come."""
    from orchestrator.grid import load_grid
    from orchestrator.model_files import fetch_models

    if not err.is_terminal:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # read when the hub is imported
    _exit(_show(fetch_models(load_grid(grid), tell), as_json))


@app.command("list")
def models_list(grid: GridPath, as_json: JsonOption = False) -> None:
    """Show where the weights of a grid's models are. Exit 1 when some are missing."""
    from orchestrator.grid import load_grid
    from orchestrator.model_files import list_models

    found = _show(list_models(load_grid(grid)), as_json)
    if n := sum(row.to_fetch for row in found):
        command = f"where there is a network: rib models fetch {grid}"
        tell(f"rib: {n} of {len(found)} are not here; {command}")
    _exit(found)


def _show(rows: Iterable[ModelFile], as_json: bool) -> list[ModelFile]:
    found = list(rows)
    if as_json:
        print_json([asdict(row) for row in found])
        return found
    print_table(_table(found))
    for note in dict.fromkeys(_note(row) for row in found if row.note and not row.to_fetch):
        tell(f"rib: {note}")
    return found


def _exit(found: list[ModelFile]) -> None:
    if not all(row.ok for row in found):
        raise typer.Exit(1)


def _note(row: ModelFile) -> str:
    return f"{row.model}: {row.note}" if row.ok else row.note


def _table(rows: Iterable[ModelFile]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title="weights on this machine", title_justify="left", box=SIMPLE_HEAD)
    for column in ("model", "weights", "file", "MB", "sha256"):
        table.add_column(column, overflow="fold", justify="right" if column == "MB" else "left")
    for row in rows:
        name = "" if row.path is None else Path(row.path).name
        size = "" if row.size is None else f"{row.size / 1e6:,.1f}"
        digest = (row.digest or "").removeprefix("sha256:")[:12]
        table.add_row(row.model, row.state.value, name, size, digest)
    return table
