"""`rib verify`: is everything in a store whole, and can it be right."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.printing import JsonOption, print_json, print_table, tell
from workers.errors import Problem, UserError

app = typer.Typer()


@app.command()
def verify(
    store: Annotated[str, typer.Argument(metavar="STORE", help="A store.")],
    quick: Annotated[
        bool, typer.Option("--quick", help="Look at checkpoints' sizes only, not at their tensors.")
    ] = False,
    set_aside: Annotated[
        bool,
        typer.Option(
            "--set-aside", help="Move what is wrong to damaged/: the next run makes it anew."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check every file, key, count, digest and checkpoint. Exit 1 when anything is wrong."""
    from orchestrator.lease import current_driver
    from orchestrator.report.verification import (
        faults_table,
        verification_line,
        verification_record,
    )
    from orchestrator.verify import verify as look
    from workers.store import open_store

    opened = open_store(store)
    if set_aside and (driver := current_driver(opened.storage)).may_run:
        problem = Problem("--set-aside", f"{store} is {driver}", "wait for it to end")
        raise UserError([problem])
    found = look(opened, quick)
    if as_json:
        print_json(verification_record(found))
    elif found.ok:
        print(verification_line(found))
    else:
        print_table(faults_table(found))
    for note in found.notes:
        tell(f"rib: note: {note}")
    if set_aside:
        opened.set_aside(found.files, found.cells)
        tell(f"rib: {len(found.files)} files are set aside; run the grid again")
    if not found.ok:
        raise typer.Exit(1)
