"""Reading results: `rib matrix` and `rib report`."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.printing import JsonOption, print_json, print_table, tell, write

if TYPE_CHECKING:
    import pandas as pd

    from orchestrator.results import Results

app = typer.Typer()


class Format(StrEnum):
    """What a report is written as."""

    TABLE = "table"
    MD = "md"
    CSV = "csv"
    JSON = "json"


SourceUri = Annotated[
    str,
    typer.Argument(metavar="STORE", help="A store, or a CSV or Parquet file of accuracies."),
]
IdOption = Annotated[
    str | None, typer.Option("--id", help="Which set of a table is the in-distribution one.")
]
MixedOption = Annotated[
    bool,
    typer.Option("--mixed-data", help="Compare rows of different copies of a set all the same."),
]


@app.command()
def matrix(
    source: SourceUri,
    model: Annotated[str | None, typer.Option("--model", help="Only this model's.")] = None,
    method: Annotated[str | None, typer.Option("--method", help="Only this method's.")] = None,
    id_name: IdOption = None,
    output: Annotated[Format, typer.Option("--format")] = Format.TABLE,
    mixed_data: MixedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Print the accuracy matrix of every model and method. Exit 1 when one has a hole."""
    from orchestrator.report.matrices import matrices
    from orchestrator.results import read_results

    results = read_results(source, id_name, mixed_data)
    warn_of_mixed(results)
    found = matrices(results, model, method)
    chosen = Format.JSON if as_json else output
    if chosen is Format.JSON:
        print_json([one.record() for one in found])
    elif chosen is Format.CSV:
        print(found[0].header() + "".join(one.csv() for one in found), end="")
    else:
        for one in found:
            if chosen is Format.MD:
                print(one.markdown())
            else:
                print_table(one.table())
    if any(one.missing for one in found):
        raise typer.Exit(1)


@app.command()
def report(
    source: SourceUri,
    output: Annotated[Format, typer.Option("--format")] = Format.TABLE,
    out: Annotated[Path | None, typer.Option("--out", help="Write it to this file.")] = None,
    id_name: IdOption = None,
    mixed_data: MixedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Print the leaderboard: mRI and every RI. Exit 1 when an entry is incomplete."""
    from orchestrator.results import read_results

    results = read_results(source, id_name, mixed_data)
    warn_of_mixed(results)
    board = leaderboard_of(results)
    print_board(results, board, Format.JSON if as_json else output, out)
    if board["missing"].gt(0).any():
        raise typer.Exit(1)


def warn_of_mixed(results: Results) -> None:
    """Say what was compared although it is of different data, weights or numbers of images."""
    for problem in results.mixed:
        tell(f"rib: mixed: {problem.where}: {problem.message}")
    if results.n_short:
        rows = "row was" if results.n_short == 1 else "rows were"
        tell(
            f"rib: {results.n_short} {rows} scored on fewer images than their set has: those that "
            "do not decode were left out (n_total is below n_expected)"
        )


def leaderboard_of(results: Results) -> pd.DataFrame:
    """Rank what was read."""
    from orchestrator.reduce import leaderboard

    return leaderboard(results.accuracies, results.sets, results.expected)


def print_board(results: Results, board: pd.DataFrame, form: Format, out: Path | None) -> None:
    """Print a leaderboard, or write it to a file."""
    from orchestrator.report import tables

    if form is Format.TABLE:
        title = f"{results.source}: mRI in points"
        print_table(tables.leaderboard_table(board, results.sets, title, results.remarks), out)
        return
    frame = tables.leaderboard_frame(board, results.remarks)
    writers: dict[Format, Callable[[], str]] = {
        Format.MD: lambda: tables.leaderboard_markdown(board, results.sets, results.remarks),
        Format.CSV: lambda: tables.to_csv(frame),
        Format.JSON: lambda: tables.to_json(frame),
    }
    text = writers[form]()
    if out is None:
        print(text.rstrip("\n"))
    else:
        write(out, text.rstrip("\n") + "\n")
