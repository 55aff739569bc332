"""Figures for papers: `rib figures`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.printing import tell
from orchestrator.cli.results import IdOption, MixedOption, SourceUri, UnmaskedOption, warn_of_mixed

app = typer.Typer()


@app.command()
def figures(
    source: SourceUri,
    out: Annotated[Path, typer.Option("--out", help="The folder that figures are written to.")],
    model: Annotated[
        list[str] | None, typer.Option("--model", help="Only this model. May be repeated.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option("--method", help="Only this method. May be repeated.")
    ] = None,
    id_name: IdOption = None,
    unmasked: UnmaskedOption = None,
    mixed_data: MixedOption = False,
) -> None:
    """Draw bars, radars, epoch curves and OTDD scatters as PDF and PNG, with captions.

    Exit 1 when something was left out for being incomplete.
    """
    from orchestrator.report.figures.write import CAPTIONS, write_figures
    from orchestrator.report_data import gather

    data = gather(source, id_name, mixed_data, unmasked or ())
    warn_of_mixed(data.results)
    drawn = write_figures(data, out, model or (), method or ())
    for one in drawn:
        print(out / f"{one.name}.pdf")
        print(out / f"{one.name}.png")
        for line in one.left_out:
            tell(f"rib: {one.name}: not drawn: {line}")
    print(out / CAPTIONS)
    if data.run is not None and data.distances is None:
        tell("rib: no OTDD scatter: no distance was measured; see rib distance")
    if any(one.left_out for one in drawn):
        raise typer.Exit(1)
