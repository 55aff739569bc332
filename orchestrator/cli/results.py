"""Reading results: `rib matrix`, `rib report` and `rib compare`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.printing import (
    JsonOption,
    OutOption,
    print_document,
    print_json,
    print_table,
    tell,
)
from workers.errors import Problem, UserError

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
    PARQUET = "parquet"
    LATEX = "latex"
    HTML = "html"


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


UnmaskedOption = Annotated[
    list[str] | None,
    typer.Option(
        "--unmasked",
        metavar="SET",
        help="Score this set over all classes, not only its own; or all. May be repeated.",
    ),
]


CountsOption = Annotated[
    bool,
    typer.Option("--counts", help="Look at counts alone, whatever predictions are kept."),
]


@app.command()
def matrix(
    source: SourceUri,
    model: Annotated[str | None, typer.Option("--model", help="Only this model's.")] = None,
    method: Annotated[str | None, typer.Option("--method", help="Only this method's.")] = None,
    id_name: IdOption = None,
    output: Annotated[Format, typer.Option("--format")] = Format.TABLE,
    out: OutOption = None,
    unmasked: UnmaskedOption = None,
    from_counts: CountsOption = False,
    mixed_data: MixedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Print the accuracy matrix of every model and method. Exit 1 when one has a hole."""
    from orchestrator.report.matrices import matrices, written
    from orchestrator.results import read_results

    chosen = _format(output, as_json, out)
    if chosen is Format.HTML:
        hint = "rib report --format html shows every matrix"
        raise UserError([Problem("--format html", "there is no such matrix", hint)])
    results = read_results(source, id_name, mixed_data, unmasked or (), from_counts)
    warn_of_mixed(results)
    found = matrices(results, model, method)
    print_document(written(found, chosen), out)
    if any(one.missing for one in found):
        raise typer.Exit(1)


@app.command()
def report(
    source: SourceUri,
    output: Annotated[Format, typer.Option("--format")] = Format.TABLE,
    out: OutOption = None,
    id_name: IdOption = None,
    unmasked: UnmaskedOption = None,
    from_counts: CountsOption = False,
    mixed_data: MixedOption = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Write an HTML page anew while a grid runs.")
    ] = False,
    every: Annotated[float, typer.Option("--every", min=1, help="How often, in seconds.")] = 30,
    as_json: JsonOption = False,
) -> None:
    """Print the leaderboard: mRI and every RI. Exit 1 when an entry is incomplete."""
    from orchestrator.results import read_results

    chosen = _format(output, as_json, out)
    if watch and chosen is not Format.HTML:
        raise UserError([Problem("--watch", "it is an HTML page that is watched", "--format html")])
    if chosen is Format.HTML:
        from orchestrator.cli import html

        page = html.Page(source, out, id_name, mixed_data, tuple(unmasked or ()), from_counts)
        data = html.watch(page, every) if watch else html.write_once(page)
        raise typer.Exit(0 if data.is_whole else 1)
    results = read_results(source, id_name, mixed_data, unmasked or (), from_counts)
    warn_of_mixed(results)
    board = results.leaderboard()
    print_board(results, board, chosen, out)
    if board["missing"].gt(0).any():
        raise typer.Exit(1)


@app.command()
def compare(
    source: SourceUri,
    first: Annotated[
        str, typer.Argument(metavar="A", help="model:method, or a part that no other has.")
    ],
    second: Annotated[str, typer.Argument(metavar="B", help="The other.")],
    downstream: Annotated[
        str | None, typer.Option("--downstream", help="Only what was fine-tuned on this set.")
    ] = None,
    unmasked: UnmaskedOption = None,
    from_counts: CountsOption = False,
    mixed_data: MixedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Test whether two entries differ, on each set and in mRI. Exit 1 when a number is missing."""
    from orchestrator.compare import compare as compare_entries
    from orchestrator.report.comparison import comparison_record, comparison_table
    from orchestrator.results import read_results

    results = read_results(source, None, mixed_data, unmasked or (), from_counts)
    warn_of_mixed(results)
    found = compare_entries(results, first, second, downstream)
    if as_json:
        print_json(comparison_record(found))
    else:
        print_table(comparison_table(found))
    if found.missing:
        raise typer.Exit(1)


def _format(output: Format, as_json: bool, out: Path | None) -> Format:
    """Return the format that was asked for; a binary one needs a file to go to."""
    chosen = Format.JSON if as_json else output
    if chosen is Format.PARQUET and out is None:
        raise UserError([Problem("--format parquet", "is no text", "name a file with --out")])
    return chosen


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


def print_board(results: Results, board: pd.DataFrame, form: Format, out: Path | None) -> None:
    """Print a leaderboard, or write it to a file."""
    from orchestrator.report.leaderboards import written

    print_document(written(results, board, form), out)
