"""`rib retry`: have the next run try again what has failed."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.grids import OnlyOption, StoreUri, load_stored
from orchestrator.cli.printing import JsonOption, print_json, tell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.clearing import Failure

app = typer.Typer()


@app.command()
def retry(
    store: StoreUri,
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", metavar="KIND", help="Only failures of this kind; repeatable."),
    ] = None,
    only: OnlyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Clear failures, so that the next run tries their cells afresh. Runs nothing itself."""
    from orchestrator.clearing import clear_failures, parse_choice
    from workers.store import Store

    loaded = load_stored(store)
    kinds, chosen = parse_choice(kind or [], only, loaded)
    cleared = clear_failures(Store(store), loaded, kinds, chosen, tell=tell)
    following = f"rib resume {shlex.quote(store)}"
    if as_json:
        print_json(
            {"store": store, "cleared": [_record(one) for one in cleared], "next": following}
        )
    else:
        for line in _lines(cleared, following):
            print(line)


def _lines(cleared: Sequence[Failure], following: str) -> list[str]:
    if not cleared:
        return ["nothing to clear: no such cell has failed"]
    count = "1 failure is" if len(cleared) == 1 else f"{len(cleared)} failures are"
    named = [f"  {one.cell.cell_id}  {one.cell}: {one.kind}" for one in cleared]
    return [f"{count} cleared:", *named, f"to try them again: {following}"]


def _record(one: Failure) -> dict[str, Any]:
    return {
        "cell_id": one.cell.cell_id,
        "model": one.cell.model.name,
        "method": one.cell.label,
        "downstream": one.cell.downstream,
        "seed": one.cell.seed,
        "error_kind": one.kind,
        "attempts": one.tries.number,
        "message": one.tries.last_failure["message"],
    }
