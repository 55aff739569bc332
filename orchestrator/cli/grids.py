"""Running grids: `rib plan`, `rib run`, `rib resume` and `rib status`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.printing import JsonOption, print_json, print_table, steady_err, tell
from orchestrator.cli.results import (
    Format,
    MixedOption,
    print_board,
    warn_of_mixed,
)
from workers.errors import Problem, UserError

if TYPE_CHECKING:
    from orchestrator.grid import Grid
    from orchestrator.sweep import Result

app = typer.Typer()


class ExecutorName(StrEnum):
    """Where cells run."""

    RAY = "ray"
    INLINE = "inline"


@dataclass(frozen=True)
class RunOptions:
    """How a grid is run: what `rib run` and `rib resume` share."""

    executor: ExecutorName
    address: str | None
    cpus: int | None
    canary: bool
    mixed_data: bool
    take_over: bool
    debug: bool = False


GridPath = Annotated[Path, typer.Argument(metavar="GRID", help="A grid file (YAML).")]
StoreUri = Annotated[str, typer.Argument(metavar="STORE", help="A store.")]
StoreOption = Annotated[str | None, typer.Option("--store", help="Where the results go.")]
OnlyOption = Annotated[
    str | None,
    typer.Option(
        "--only", help="Only these cells: 'method=ft,downstream=v2,downstream=a' or 'cell=ID'."
    ),
]
AddressOption = Annotated[
    str | None, typer.Option("--address", help="A Ray cluster; without it, one is started here.")
]
ExecutorOption = Annotated[ExecutorName, typer.Option("--executor", help="Where cells run.")]
CpusOption = Annotated[
    int | None, typer.Option("--cpus", min=1, help="CPUs of the Ray that is started here.")
]
CanaryOption = Annotated[
    bool,
    typer.Option("--canary", help="Stop before any fine-tuning if a baseline is not as published."),
]
TakeOverOption = Annotated[
    bool,
    typer.Option("--take-over", help="Take the place of whoever drives the store, at once."),
]
DebugOption = Annotated[
    bool,
    typer.Option("--debug", help="Try each cell once, and open a debugger where it fails."),
]
AcknowledgeOption = Annotated[
    list[str] | None,
    typer.Option("--acknowledge", metavar="CLAUSE", help="A licence clause that you know of."),
]


@app.command()
def plan(
    grid: GridPath,
    store: StoreOption = None,
    only: OnlyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a grid is: its cells, its edges, what is done and what is left."""
    from orchestrator.only import parse_only
    from orchestrator.report.plans import plan_summary, plan_table
    from orchestrator.sweep import read_estimates, read_plan

    loaded = load(grid, store)
    made = read_plan(loaded, parse_only(only, loaded))
    estimates = read_estimates(loaded, made)
    if as_json:
        print_json(plan_summary(loaded, made, estimates))
    else:
        print_table(plan_table(loaded, made, estimates))


@app.command()
def run(
    grid: GridPath,
    store: StoreOption = None,
    only: OnlyOption = None,
    address: AddressOption = None,
    executor: ExecutorOption = ExecutorName.RAY,
    cpus: CpusOption = None,
    canary: CanaryOption = False,
    acknowledge: AcknowledgeOption = None,
    mixed_data: MixedOption = False,
    take_over: TakeOverOption = False,
    debug: DebugOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run what is missing of a grid, and print the leaderboard."""
    loaded = acknowledging(load(grid, store), acknowledge)
    options = RunOptions(executor, address, cpus, canary, mixed_data, take_over, debug)
    _run(loaded, only, options, as_json)


@app.command()
def resume(
    store: StoreUri,
    only: OnlyOption = None,
    address: AddressOption = None,
    executor: ExecutorOption = ExecutorName.RAY,
    cpus: CpusOption = None,
    canary: CanaryOption = False,
    acknowledge: AcknowledgeOption = None,
    mixed_data: MixedOption = False,
    take_over: TakeOverOption = False,
    debug: DebugOption = False,
    as_json: JsonOption = False,
) -> None:
    """Go on with the grid of a store; needs nothing but the store."""
    loaded = acknowledging(load_stored(store), acknowledge)
    options = RunOptions(executor, address, cpus, canary, mixed_data, take_over, debug)
    _run(loaded, only, options, as_json)


@app.command()
def status(store: StoreUri, as_json: JsonOption = False) -> None:
    """Show how far a store's grid is, and what failed. Exit 1 while anything is missing."""
    from orchestrator.lease import current_driver
    from orchestrator.plan import make_plan
    from orchestrator.report.frames import to_json
    from orchestrator.report.plans import failure_lines, status_table
    from orchestrator.results import remarks_of
    from orchestrator.status import ATTEMPT_COLUMNS, cell_states, with_remarks, with_ways_to_look
    from workers.logs import LOGS
    from workers.store import Store

    opened = Store(store)
    loaded = load_stored(store)
    committed = opened.committed()
    attempts, cleared = opened.scan("attempts", ATTEMPT_COLUMNS), opened.scan("cleared")
    driver = current_driver(opened.storage)
    plan_now = make_plan(loaded, committed)
    tried, uncounted = attempts.table.to_pandas(), cleared.table.to_pandas()
    states = cell_states(plan_now, tried, driver.may_run, uncounted)
    states = with_ways_to_look(states, store, opened.storage.names(LOGS))
    remarks = remarks_of(opened, loaded)
    if as_json:
        print(to_json(with_remarks(states, remarks)))
        tell(f"rib: {driver}")
    else:
        print_table(status_table(loaded, plan_now, states, remarks, str(driver)))
        for line in failure_lines(states, store):
            print(line)
    damaged = (*committed.damaged, *attempts.damaged, *cleared.damaged)
    for name in damaged:
        tell(f"rib: {store}/{name} is damaged; its rows count as missing")
    for name in opened.storage.names("damaged"):
        tell(f"rib: damaged/{name} was not whole and is set aside; what needs it makes it anew")
    is_whole = (states["state"] == "done").all() and not plan_now.lacks_what_cannot_be_made
    if damaged or not is_whole:
        raise typer.Exit(1)


def load(grid: Path, store: str | None) -> Grid:
    """Read a grid file."""
    from orchestrator.grid import load_grid

    return load_grid(grid, store)


def load_stored(store: str) -> Grid:
    """Read the grid that a store was last filled by."""
    from orchestrator.results import stored_grid
    from workers.store import Store

    return stored_grid(Store(store))


def acknowledging(grid: Grid, clauses: list[str] | None) -> Grid:
    """Return a grid with the clauses that the command line acknowledges."""
    from orchestrator.grid import with_acknowledged

    return with_acknowledged(grid, clauses or [])


def _run(grid: Grid, only: str | None, options: RunOptions, as_json: bool) -> None:
    from orchestrator.only import parse_only
    from orchestrator.progress import Display
    from orchestrator.session import Terms
    from orchestrator.sweep import run as run_grid

    if options.debug and options.executor is not ExecutorName.INLINE:
        hint = "add --executor inline"
        raise UserError([Problem("--debug", "cells are debugged in this process", hint)])
    chosen = parse_only(only, grid)
    with steady_err() as console:
        display = Display(console, is_live=False if options.debug else None)
        with display.watching():
            result = run_grid(
                grid,
                executor=options.executor.value,
                address=options.address,
                num_cpus=options.cpus,
                only=chosen,
                with_canary=options.canary,
                mixed_data=options.mixed_data,
                terms=Terms(take_over=options.take_over, debug=options.debug),
                watch=display.watch,
                tell=display.tell,
            )
    _report_run(result, options.mixed_data, as_json)
    if not result.ok or result.plan.lacks_what_cannot_be_made:
        raise typer.Exit(1)


def _report_run(result: Result, mixed_data: bool, as_json: bool) -> None:
    from orchestrator.report.plans import lost_notes
    from orchestrator.results import results_of
    from workers.store import Store

    for line in result.complaints:
        tell(f"rib: {line}")
    if result.complaints:
        tell(f"stopped: nothing more is fine-tuned; see: rib status {result.grid.store}")
    elif result.ok and result.n_run == 0:
        all_ = "all that can be made" if result.plan.lacks_what_cannot_be_made else "all"
        tell(f"nothing left to do: {result.grid.store} holds {all_} of it")
    elif result.ok:
        tell(f"{result.n_run} cells done; results in {result.grid.store}")
    else:
        what = _of_unfinished(result) if result.n_run else "nothing left to try"
        tell(f"{what}; see: rib status {result.grid.store}")
    if result.standing:
        tell(_of_standing(result))
    for line in lost_notes(result.plan):
        tell(f"rib: {line}")
    try:
        results = results_of(Store(result.grid.store), result.grid, mixed_data)
    except UserError as error:
        if result.ok:
            raise
        tell(str(error))  # rows were damaged while it ran, so that there is more to run
        return
    warn_of_mixed(results)
    chosen = Format.JSON if as_json else Format.TABLE
    print_board(results, results.leaderboard(), chosen, None)


def _of_unfinished(result: Result) -> str:
    """Count what is not done after a run."""
    summary, standing = result.summary, result.standing
    counted = {*summary.failed, *summary.blocked, *standing.failed, *standing.blocked}
    others = len(result.plan.todo - counted)
    unfinished = f", {others} unfinished" if others else ""
    return f"{len(summary.failed)} failed, {len(summary.blocked)} blocked{unfinished}"


def _of_standing(result: Result) -> str:
    """Say what is not tried again, and what to type so that it is."""
    failed, blocked = len(result.standing.failed), len(result.standing.blocked)
    count = "1 cell stands" if failed == 1 else f"{failed} cells stand"
    others = f" and block {blocked} others" if blocked else ""
    return f"{count} as failed{others}; to try them again: rib retry {result.grid.store}"
