"""Distances between data sets: `rib distance`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from orchestrator.cli.grids import (
    AddressOption,
    CpusOption,
    ExecutorName,
    ExecutorOption,
    GridPath,
    StoreOption,
    TakeOverOption,
    load,
)
from orchestrator.cli.printing import JsonOption, print_json, print_table, steady_err, tell
from orchestrator.cli.results import MixedOption

if TYPE_CHECKING:
    import pandas as pd

    from orchestrator.distance_points import EntryCorrelation
    from orchestrator.grid import Grid

app = typer.Typer()


@app.command()
def distance(
    grid: GridPath,
    store: StoreOption = None,
    address: AddressOption = None,
    executor: ExecutorOption = ExecutorName.RAY,
    cpus: CpusOption = None,
    mixed_data: MixedOption = False,
    take_over: TakeOverOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure how far each downstream set is from the ID set (OTDD), and what goes with it.

    Exit 1 when a distance failed or is missing.
    """
    from orchestrator.distances import distance_frame, measure
    from orchestrator.progress import Display
    from orchestrator.session import Terms
    from workers.store import Store

    loaded = load(grid, store)
    with steady_err() as console:
        display = Display(console)
        with display.watching():
            measure(
                loaded,
                executor=executor.value,
                address=address,
                num_cpus=cpus,
                mixed_data=mixed_data,
                terms=Terms(take_over=take_over),
                watch=display.watch,
                tell=display.tell,
            )
    frame = distance_frame(Store(loaded.store), loaded)
    _print(loaded, frame, _correlations(loaded, frame, mixed_data), as_json)
    if (frame["state"] != "done").any():
        raise typer.Exit(1)


def _correlations(grid: Grid, frame: pd.DataFrame, mixed_data: bool) -> list[EntryCorrelation]:
    """Correlate a grid's distances with what its cells lose on the ID set, as far as they are."""
    from orchestrator.distance_points import correlations, points_of
    from orchestrator.results import results_of
    from workers.store import Store

    results = results_of(Store(grid.store), grid, mixed_data)
    points = points_of(results, frame)
    return list(correlations(points)) if points["id_drop"].notna().any() else []


def _print(grid: Grid, frame: pd.DataFrame, found: list[EntryCorrelation], as_json: bool) -> None:
    from orchestrator.report.distances import (
        correlations_table,
        distances_record,
        distances_table,
    )

    if as_json:
        print_json(distances_record(frame, found))
        return
    reference = grid.suite.id.name
    drawn_from = [spec.name for spec in grid.suite.ood if spec.derived_from == reference]
    title = f"{grid.store}: OTDD from {reference} in the features of {frame['model'].iloc[0]}"
    print_table(distances_table(frame, title, drawn_from))
    if found:
        print()
        print_table(correlations_table(found, "OTDD and the drop on the ID set, over the sets"))
    else:
        tell(f"rib: no cell of the grid has been scored on {reference}; see: rib run")
