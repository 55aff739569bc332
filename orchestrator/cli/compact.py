"""`rib compact`: few large files in place of many small ones."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from orchestrator.cli.printing import JsonOption, print_json, tell

app = typer.Typer()


@app.command()
def compact(
    store: Annotated[str, typer.Argument(metavar="STORE", help="A store.")],
    as_json: JsonOption = False,
) -> None:
    """Merge a store's small files. Exit 1 when some are damaged or contradict others.

    A driver does so by itself where there are many. Nobody may drive the store meanwhile.
    """
    from orchestrator.compacting import complaints
    from orchestrator.lease import Lease
    from workers.store import open_store

    opened = open_store(store)
    lease = Lease(opened.storage, tell=tell)
    lease.acquire()
    try:
        lease.wait_until_safe()
        found = opened.compact(check=lease.check)
    finally:
        lease.release()
    if as_json:
        tables = {one.table: asdict(one) | {"n_after": one.n_after} for one in found}
        print_json({"store": store, "tables": tables})
    else:
        counts = [f"{x.table} {x.n_before:,} -> {x.n_after:,}" for x in found if x.n_before]
        print(f"{store}: files of {', '.join(counts)}" if counts else f"{store}: it has no files")
    wrong = [line for one in found for line in complaints(one)]
    for line in wrong:
        tell(f"rib: left as it is: {line}")
    if wrong:
        raise typer.Exit(1)
