"""`rib export`: results in the forms of other tools."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.printing import JsonOption, print_json, tell

app = typer.Typer()


class Tool(StrEnum):
    """What results are exported to."""

    TENSORBOARD = "tensorboard"
    WANDB = "wandb"
    MLFLOW = "mlflow"
    MODEL_CARD = "model-card"


@app.command()
def export(
    store: Annotated[str, typer.Argument(metavar="STORE", help="A store.")],
    to: Annotated[Tool, typer.Option("--to", help="Which tool.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write below.")],
    incomplete: Annotated[
        bool, typer.Option("--incomplete", help="Export cells that are not finished, too.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a grid's cells for another tool. Nothing is sent anywhere.

    Exporting again replaces what was exported before. Exit 1 when cells are left out because they
    are not finished.
    """
    from orchestrator.export import export as write
    from workers.store import open_store

    done = write(open_store(store), to.value, out, incomplete)
    if as_json:
        print_json({"store": store, "to": to.value, "out": str(out), **asdict(done)})
    else:
        print(f"{out}: {done.n_cells} {'cell' if done.n_cells == 1 else 'cells'} for {to.value}")
    if done.n_left_out:
        tell(f"rib: {done.n_left_out} cells are left out: they are not finished (--incomplete)")
        raise typer.Exit(1)
