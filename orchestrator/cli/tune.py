"""Choosing hyper-parameters: `rib tune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.grids import (
    AcknowledgeOption,
    AddressOption,
    CpusOption,
    GridPath,
    StoreOption,
    TakeOverOption,
    acknowledging,
    load,
)
from orchestrator.cli.printing import JsonOption, print_json, print_table, tell, write

app = typer.Typer()


@app.command()
def tune(
    grid: GridPath,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the grid with what was chosen here.")
    ] = None,
    store: StoreOption = None,
    address: AddressOption = None,
    cpus: CpusOption = None,
    retry: Annotated[bool, typer.Option("--retry", help="Run failed trials once more.")] = False,
    acknowledge: AcknowledgeOption = None,
    take_over: TakeOverOption = False,
    as_json: JsonOption = False,
) -> None:
    """Choose hyper-parameters by held-out images of each downstream set, never by a test set.

    Exit 1 when a trial failed or a search found nothing.
    """
    from orchestrator.report.searches import search_records, search_table
    from orchestrator.tune import tune as search
    from orchestrator.tuned_grid import check_out, tuned_grid

    loaded = acknowledging(load(grid, store), acknowledge)
    if out is not None:
        check_out(out)
    findings = search(
        loaded, retry=retry, take_over=take_over, address=address, num_cpus=cpus, tell=tell
    )
    if as_json:
        print_json(search_records(findings))
    else:
        print_table(search_table(findings, f"{loaded.store}: accuracy on held-out images"))
    if out is not None:
        write(out, tuned_grid(grid.read_text(encoding="utf-8"), loaded, findings))
        tell(f"wrote {out}; run it with: rib run {out}")
    if any(one.best is None or one.count("failed") or not one.is_complete for one in findings):
        raise typer.Exit(1)
