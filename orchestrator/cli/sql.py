"""`rib sql`: ask DuckDB about a store."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.printing import (
    JsonOption,
    OutOption,
    RowsFormat,
    check_place,
    print_document,
    tell,
)

app = typer.Typer()

SHOWN = 100
"""Rows that are shown where nobody asked for all."""


@app.command()
def sql(
    store: Annotated[str, typer.Argument(metavar="STORE", help="A store.")],
    query: Annotated[str, typer.Argument(metavar="QUERY", help='As in "select * from final".')],
    output: Annotated[RowsFormat, typer.Option("--format")] = RowsFormat.TABLE,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask DuckDB about the views of a store. It can read the store and nothing else.

    accuracy, predictions, attempts, history, tuning and distances are the store's tables; final and
    curves are the rows of accuracy of finished cells and of epochs; accuracies has percents by cell
    and set.
    Exit 1 when rows are missing since a file is damaged.
    """
    from orchestrator.report.queries import written
    from orchestrator.sql import query as ask
    from workers.store import open_store

    form = RowsFormat.JSON if as_json else output
    check_place(form, out)
    is_bounded = form is RowsFormat.TABLE and out is None
    answer = ask(open_store(store), query, SHOWN if is_bounded else None)
    print_document(written(answer.table, form), out)
    if answer.is_cut:
        tell(f"rib: only the first {SHOWN} rows are shown; all with --out, or --format csv")
    for name, why in answer.damage.items():
        tell(f"rib: {name} is damaged, and its rows are not in this: {why}")
    if answer.damage:
        raise typer.Exit(1)
