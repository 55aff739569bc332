"""Running grids: `rib plan`, `rib run`, `rib resume` and `rib status`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.printing import JsonOption, err, print_json, print_table, tell
from orchestrator.cli.results import (
    Format,
    MixedOption,
    leaderboard_of,
    print_board,
    warn_of_mixed,
)
from workers.errors import Problem, UserError, nearest

if TYPE_CHECKING:
    from orchestrator.grid import Grid
    from orchestrator.plan import Only
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


GridPath = Annotated[Path, typer.Argument(metavar="GRID", help="A grid file (YAML).")]
StoreUri = Annotated[str, typer.Argument(metavar="STORE", help="A store.")]
StoreOption = Annotated[str | None, typer.Option("--store", help="Where the results go.")]
OnlyOption = Annotated[
    str | None,
    typer.Option("--only", help="Run only these cells: 'method=ft,downstream=v2,downstream=a'."),
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
    from orchestrator.report.plans import plan_summary, plan_table
    from orchestrator.sweep import read_estimates, read_plan

    loaded = load(grid, store)
    made = read_plan(loaded, _parse_only(only, loaded))
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
    as_json: JsonOption = False,
) -> None:
    """Run what is missing of a grid, and print the leaderboard."""
    loaded = acknowledging(load(grid, store), acknowledge)
    options = RunOptions(executor, address, cpus, canary, mixed_data, take_over)
    _run(loaded, _parse_only(only, loaded), options, as_json)


@app.command()
def resume(
    store: StoreUri,
    address: AddressOption = None,
    executor: ExecutorOption = ExecutorName.RAY,
    cpus: CpusOption = None,
    canary: CanaryOption = False,
    acknowledge: AcknowledgeOption = None,
    mixed_data: MixedOption = False,
    take_over: TakeOverOption = False,
    as_json: JsonOption = False,
) -> None:
    """Go on with the grid of a store; needs nothing but the store."""
    loaded = acknowledging(load_stored(store), acknowledge)
    options = RunOptions(executor, address, cpus, canary, mixed_data, take_over)
    _run(loaded, None, options, as_json)


@app.command()
def status(store: StoreUri, as_json: JsonOption = False) -> None:
    """Show how far a store's grid is, and what failed. Exit 1 while anything is missing."""
    from orchestrator.lease import current_driver
    from orchestrator.plan import make_plan
    from orchestrator.report.plans import status_tables
    from orchestrator.report.tables import to_json
    from orchestrator.results import remarks_of
    from orchestrator.status import cell_states, with_remarks
    from workers.store import Store

    opened = Store(store)
    loaded = load_stored(store)
    committed = opened.committed()
    attempts = opened.scan("attempts")
    driver = current_driver(opened.storage)
    plan_now = make_plan(loaded, committed)
    states = cell_states(plan_now, attempts.table.to_pandas(), driver.may_run)
    remarks = remarks_of(opened, loaded)
    if as_json:
        print(to_json(with_remarks(states, remarks)))
        tell(f"rib: {driver}")
    else:
        for table in status_tables(loaded, states, remarks, str(driver)):
            print_table(table)
    damaged = (*committed.damaged, *attempts.damaged)
    for name in damaged:
        tell(f"rib: {store}/{name} is damaged; its rows count as missing")
    for name in opened.storage.names("damaged"):
        tell(f"rib: damaged/{name} was not whole and is set aside; what needs it makes it anew")
    if damaged or (states["state"] != "done").any():
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


def _run(grid: Grid, only: Only | None, options: RunOptions, as_json: bool) -> None:
    from orchestrator.progress import Display
    from orchestrator.session import Terms
    from orchestrator.sweep import run as run_grid

    display = Display(err)
    with display.watching():
        result = run_grid(
            grid,
            executor=options.executor.value,
            address=options.address,
            num_cpus=options.cpus,
            only=only,
            with_canary=options.canary,
            mixed_data=options.mixed_data,
            terms=Terms(take_over=options.take_over),
            observe=display.observer,
            tell=display.tell,
        )
    _report_run(result, options.mixed_data, as_json)
    if not result.ok:
        raise typer.Exit(1)


def _report_run(result: Result, mixed_data: bool, as_json: bool) -> None:
    from orchestrator.results import results_of
    from workers.store import Store

    for line in result.complaints:
        tell(f"rib: {line}")
    if result.complaints:
        tell(f"stopped: nothing more is fine-tuned; see: rib status {result.grid.store}")
    elif result.n_run == 0:
        tell(f"nothing left to do: {result.grid.store} holds all of it")
    elif result.ok:
        tell(f"{result.n_run} cells done; results in {result.grid.store}")
    else:
        counts = f"{len(result.summary.failed)} failed, {len(result.summary.blocked)} blocked"
        tell(f"{counts}; see: rib status {result.grid.store}")
    results = results_of(Store(result.grid.store), result.grid, mixed_data)
    warn_of_mixed(results)
    chosen = Format.JSON if as_json else Format.TABLE
    print_board(results, leaderboard_of(results), chosen, None)


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
