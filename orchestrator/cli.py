"""`rib`: wiring and printing. Nothing else in this project prints.

Results go to standard output, progress and complaints to standard error. Exit codes: 0 everything
asked for is done; 1 some cells failed or something is missing; 2 the input is wrong; 130
interrupted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console

from workers.errors import Problem, UserError, nearest

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from orchestrator.grid import Grid
    from orchestrator.plan import Only
    from orchestrator.results import Results
    from orchestrator.sweep import Result

app = typer.Typer(
    name="rib",
    help="Run ImageNet-RIB grids on Ray and read their results.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data = typer.Typer(help="Make a suite's data.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data, name="data")

err = Console(stderr=True)


class ExecutorName(StrEnum):
    """Where cells run."""

    RAY = "ray"
    INLINE = "inline"


class Format(StrEnum):
    """What a report is written as."""

    TABLE = "table"
    MD = "md"
    CSV = "csv"
    JSON = "json"


GridPath = Annotated[Path, typer.Argument(metavar="GRID", help="A grid file (YAML).")]
StoreUri = Annotated[str, typer.Argument(metavar="STORE", help="A store.")]
SourceUri = Annotated[
    str,
    typer.Argument(metavar="STORE", help="A store, or a CSV or Parquet file of accuracies."),
]
StoreOption = Annotated[str | None, typer.Option("--store", help="Where the results go.")]
OnlyOption = Annotated[
    str | None,
    typer.Option("--only", help="Run only these cells: 'method=ft,downstream=v2,downstream=a'."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AddressOption = Annotated[
    str | None, typer.Option("--address", help="A Ray cluster; without it, one is started here.")
]
ExecutorOption = Annotated[ExecutorName, typer.Option("--executor", help="Where cells run.")]
CpusOption = Annotated[
    int | None, typer.Option("--cpus", min=1, help="CPUs of the Ray that is started here.")
]
IdOption = Annotated[
    str | None, typer.Option("--id", help="Which set of a table is the in-distribution one.")
]


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    try:
        app(standalone_mode=True)
    except UserError as error:
        for problem in error.problems:
            _tell(f"rib: {problem}")
        sys.exit(2)
    except KeyboardInterrupt:
        _tell("rib: interrupted; run the same command again to go on")
        sys.exit(130)
    except Exception as error:
        from workers.storage import StorageError

        if not isinstance(error, StorageError):
            raise
        _tell(f"rib: {error}")
        sys.exit(1)
    sys.exit(0)


@data.command("make")
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


@app.command()
def plan(
    grid: GridPath,
    store: StoreOption = None,
    only: OnlyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a grid is: its cells, its edges, what is done and what is left."""
    from orchestrator.report.plans import plan_summary, plan_table
    from orchestrator.sweep import read_plan

    loaded = _load(grid, store)
    made = read_plan(loaded, _parse_only(only, loaded))
    if as_json:
        _print_json(plan_summary(loaded, made))
    else:
        _print_table(plan_table(loaded, made))


@app.command()
def run(
    grid: GridPath,
    store: StoreOption = None,
    only: OnlyOption = None,
    address: AddressOption = None,
    executor: ExecutorOption = ExecutorName.RAY,
    cpus: CpusOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run what is missing of a grid, and print the leaderboard."""
    loaded = _load(grid, store)
    _run(loaded, _parse_only(only, loaded), address, executor, cpus, as_json)


@app.command()
def resume(
    store: StoreUri,
    address: AddressOption = None,
    executor: ExecutorOption = ExecutorName.RAY,
    cpus: CpusOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with the grid of a store; needs nothing but the store."""
    _run(_load_stored(store), None, address, executor, cpus, as_json)


@app.command()
def status(store: StoreUri, as_json: JsonOption = False) -> None:
    """Show how far a store's grid is, and what failed. Exit 1 while anything is missing."""
    from orchestrator.plan import make_plan
    from orchestrator.report.plans import status_tables
    from orchestrator.report.tables import to_json
    from orchestrator.status import cell_states
    from workers.store import Store

    opened = Store(store)
    loaded = _load_stored(store)
    committed = opened.committed()
    attempts = opened.scan("attempts")
    states = cell_states(make_plan(loaded, committed), attempts.table.to_pandas())
    if as_json:
        print(to_json(states))
    else:
        for table in status_tables(loaded, states):
            _print_table(table)
    damaged = (*committed.damaged, *attempts.damaged)
    for name in damaged:
        _tell(f"rib: {store}/{name} is damaged; its rows count as missing")
    if damaged or (states["state"] != "done").any():
        raise typer.Exit(1)


@app.command()
def matrix(
    source: SourceUri,
    model: Annotated[str | None, typer.Option("--model", help="Only this model's.")] = None,
    method: Annotated[str | None, typer.Option("--method", help="Only this method's.")] = None,
    id_name: IdOption = None,
    output: Annotated[Format, typer.Option("--format")] = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Print the accuracy matrix of every model and method. Exit 1 when one has a hole."""
    from orchestrator.report.matrices import matrices
    from orchestrator.results import read_results

    results = read_results(source, id_name)
    found = matrices(results, model, method)
    chosen = Format.JSON if as_json else output
    if chosen is Format.JSON:
        _print_json([one.record() for one in found])
    elif chosen is Format.CSV:
        print(found[0].header() + "".join(one.csv() for one in found), end="")
    else:
        for one in found:
            if chosen is Format.MD:
                print(one.markdown())
            else:
                _print_table(one.table())
    if any(one.missing for one in found):
        raise typer.Exit(1)


@app.command()
def report(
    source: SourceUri,
    output: Annotated[Format, typer.Option("--format")] = Format.TABLE,
    out: Annotated[Path | None, typer.Option("--out", help="Write it to this file.")] = None,
    id_name: IdOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the leaderboard: mRI and every RI. Exit 1 when an entry is incomplete."""
    from orchestrator.results import read_results

    results = read_results(source, id_name)
    board = _leaderboard(results)
    _print_board(results, board, Format.JSON if as_json else output, out)
    if board["missing"].gt(0).any():
        raise typer.Exit(1)


# ---------------------------------------------------------------------------------- helpers


def _load(grid: Path, store: str | None) -> Grid:
    from orchestrator.grid import load_grid

    return load_grid(grid, store)


def _load_stored(store: str) -> Grid:
    from orchestrator.results import stored_grid
    from workers.store import Store

    return stored_grid(Store(store))


def _run(
    grid: Grid,
    only: Only | None,
    address: str | None,
    executor: ExecutorName,
    cpus: int | None,
    as_json: bool,
) -> None:
    from orchestrator.progress import Display
    from orchestrator.sweep import run as run_grid

    display = Display(err)
    with display.watching():
        result = run_grid(
            grid,
            executor=executor.value,
            address=address,
            num_cpus=cpus,
            only=only,
            observe=display.observer,
            tell=display.tell,
        )
    _report_run(result, as_json)
    if not result.ok:
        raise typer.Exit(1)


def _report_run(result: Result, as_json: bool) -> None:
    from orchestrator.results import results_of
    from workers.store import Store

    if result.n_run == 0:
        _tell(f"nothing left to do: {result.grid.store} holds all of it")
    elif result.ok:
        _tell(f"{result.n_run} cells done; results in {result.grid.store}")
    else:
        counts = f"{len(result.summary.failed)} failed, {len(result.summary.blocked)} blocked"
        _tell(f"{counts}; see: rib status {result.grid.store}")
    results = results_of(Store(result.grid.store), result.grid)
    chosen = Format.JSON if as_json else Format.TABLE
    _print_board(results, _leaderboard(results), chosen, None)


def _leaderboard(results: Results) -> pd.DataFrame:
    from orchestrator.reduce import leaderboard

    return leaderboard(results.accuracies, results.sets, results.expected)


def _print_board(results: Results, board: pd.DataFrame, form: Format, out: Path | None) -> None:
    from orchestrator.report import tables

    if form is Format.TABLE:
        table = tables.leaderboard_table(board, results.sets, f"{results.source}: mRI in points")
        _print_table(table, out)
        return
    writers: dict[Format, Callable[[], str]] = {
        Format.MD: lambda: tables.leaderboard_markdown(board, results.sets),
        Format.CSV: lambda: tables.to_csv(board),
        Format.JSON: lambda: tables.to_json(board),
    }
    text = writers[form]()
    if out is None:
        print(text.rstrip("\n"))
    else:
        _write(out, text.rstrip("\n") + "\n")


def _parse_only(text: str | None, grid: Grid) -> Only | None:
    """Parse 'method=ft,downstream=v2,downstream=a'; the values of one key are alternatives."""
    from workers.cell import BASELINE

    if text is None:
        return None
    allowed = {
        "model": [model.name for model in grid.models],
        "downstream": list(grid.downstream),
        "method": list(dict.fromkeys([BASELINE, *(entry.label for entry in grid.methods)])),
        "seed": [str(seed) for seed in grid.seeds],
    }
    chosen: dict[str, set[str]] = {}
    problems = []
    for part in text.split(","):
        key, _, value = (piece.strip() for piece in part.partition("="))
        if key not in allowed:
            problems.append(Problem("--only", f"unknown key {key!r}", nearest(key, allowed)))
        elif value not in allowed[key]:
            hint = nearest(value, allowed[key])
            problems.append(Problem("--only", f"the grid has no {key} {value!r}", hint))
        chosen.setdefault(key, set()).add(value)
    if problems:
        raise UserError(problems)
    return {key: frozenset(values) for key, values in chosen.items()}


def _tell(text: str) -> None:
    """Print a line to standard error as it is, however long."""
    err.print(text, markup=False, highlight=False, soft_wrap=True)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


def _print_table(table: Table, out: Path | None = None) -> None:
    """Print a table as wide as the terminal, or 100 columns where there is none."""
    with _output(out) as stream:
        is_terminal = out is None and sys.stdout.isatty()
        console = Console(file=stream) if is_terminal else Console(file=stream, width=100)
        console.print(table)


@contextmanager
def _output(out: Path | None) -> Iterator[Any]:
    if out is None:
        yield sys.stdout
        return
    try:
        with out.open("w", encoding="utf-8") as stream:
            yield stream
    except OSError as error:
        raise UserError([Problem("--out", f"cannot write {out}: {error.strerror}")]) from error


def _write(out: Path, text: str) -> None:
    with _output(out) as stream:
        stream.write(text)
