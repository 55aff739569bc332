"""`rib data`: a suite's images and models on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workers.errors import Problem, UserError, nearest

app = typer.Typer(help="Make a suite's data.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Make a suite's data."""


@app.command("make")
def data_make(
    suite: Annotated[str, typer.Argument(metavar="SUITE")],
    root: Annotated[Path, typer.Option("--root", help="An empty or new folder.")],
) -> None:
    """Make the data and the pre-trained models of an embedded suite."""
    from workers.suites import suites

    makeable = {name: found for name, found in suites().items() if found.make is not None}
    if suite not in makeable:
        raise UserError([Problem("SUITE", f"cannot make {suite!r}", nearest(suite, makeable))])
    if root.exists() and not root.is_dir():
        raise UserError([Problem("--root", f"{root} is a file, not a folder")])
    make = makeable[suite].make
    assert make is not None
    make(root)
    print(root)
