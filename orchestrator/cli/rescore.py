"""`rib rescore` and `rib agreement`: what kept predictions say, without a model or a GPU."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.printing import (
    JsonOption,
    OutOption,
    RowsFormat,
    check_place,
    print_document,
)

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer()

StoreUri = Annotated[str, typer.Argument(metavar="STORE", help="A store.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SET", help="Only this evaluation set. May be repeated."),
]
FormatOption = Annotated[RowsFormat, typer.Option("--format")]


class By(StrEnum):
    """What there is a row for."""

    CELL = "cell"
    SPLIT = "split"
    CLASS = "class"
    CONFIDENCE = "confidence"


@app.command()
def rescore(
    store: StoreUri,
    mask: Annotated[
        str,
        typer.Option(
            "--mask",
            help="Classes that a prediction may be: own, all, those of another set, or a file "
            "that lists some, one a line.",
        ),
    ] = "own",
    by: Annotated[By, typer.Option("--by", help="What there is a row for.")] = By.CELL,
    sets: SetOption = None,
    only: Annotated[
        str | None, typer.Option("--only", help="Which cells, as in 'method=ft,downstream=v2'.")
    ] = None,
    output: FormatOption = RowsFormat.TABLE,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score the cells whose predictions are kept anew: over other classes, or in more detail."""
    from orchestrator.only import parse_only
    from orchestrator.rescoring import kept_of, mask_of, rescored
    from orchestrator.results import stored_grid
    from workers.store import open_store

    opened = open_store(store)
    grid = stored_grid(opened)
    kept = kept_of(opened, grid, sets or (), parse_only(only, grid))
    found = rescored(opened, grid, kept, mask_of(mask, grid, opened), by.value)
    _print(found, RowsFormat.JSON if as_json else output, out)


@app.command(name="agreement")
def agree(
    store: StoreUri,
    first: Annotated[
        str, typer.Argument(metavar="A", help="model:method, or a part that no other has.")
    ],
    second: Annotated[str, typer.Argument(metavar="B", help="The other.")],
    sets: SetOption = None,
    downstream: Annotated[
        str | None, typer.Option("--downstream", help="Only what was fine-tuned on this set.")
    ] = None,
    output: FormatOption = RowsFormat.TABLE,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say of how many images two entries predict the same, cell by cell, with Cohen's kappa."""
    from orchestrator.rescoring import agreements
    from orchestrator.results import stored_grid
    from workers.store import open_store

    opened = open_store(store)
    grid = stored_grid(opened)
    found = agreements(opened, grid, (first, second), sets or (), downstream)
    _print(found, RowsFormat.JSON if as_json else output, out)


def _print(found: pd.DataFrame, form: RowsFormat, out: Path | None) -> None:
    import pyarrow as pa

    from orchestrator.report.queries import written
    from orchestrator.report.rescorings import rescored_table

    check_place(form, out)
    if form is RowsFormat.TABLE:
        print_document([rescored_table(found)], out)
    else:
        print_document(written(pa.Table.from_pandas(found, preserve_index=False), form), out)
