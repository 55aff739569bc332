"""`rib data`: a suite's images and models on disk."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.printing import JsonOption, err, print_json, print_table, tell
from workers.errors import Problem, UserError, nearest

if TYPE_CHECKING:
    from orchestrator.data_check import DataCheck

app = typer.Typer(help="Make or check a suite's data.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Make or check a suite's data."""


@app.command("make")
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


@app.command("check")
def data_check(
    suite: Annotated[str, typer.Argument(metavar="SUITE")],
    root: Annotated[Path, typer.Option("--root", help="The folder that the sets lie in.")],
    sets: Annotated[
        str | None, typer.Option("--sets", help="Only these sets, with commas between.")
    ] = None,
    decode: Annotated[bool, typer.Option("--decode", help="Decode every image, too.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Decode what an earlier check decoded already, too.")
    ] = False,
    cpus: Annotated[
        int | None, typer.Option("--cpus", min=1, help="Processes that decode; all CPUs if absent.")
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option("--manifest", help="Where what was found is kept, if not ROOT/.rib."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check that a suite's data is all there. Exit 1 when something is missing or wrong."""
    from concurrent.futures import BrokenExecutor

    from orchestrator.data_check import Decoding, check_data, specs_of
    from orchestrator.data_decode import decoders
    from orchestrator.data_progress import DecodeDisplay
    from orchestrator.extensions import find_suite

    if again and not decode:
        raise UserError([Problem("--again", "is about decoding", "add --decode")])
    found = find_suite(suite)
    specs = specs_of(found, None if sets is None else [one.strip() for one in sets.split(",")])
    display = DecodeDisplay(err)
    pool = decoders(cpus or os.cpu_count() or 1) if decode else nullcontext()
    try:
        with display.watching(), pool as processes:
            how = Decoding(processes, again, display.observe) if processes else None
            check = check_data(found, root, specs, manifest, how, display.tell)
    except BrokenExecutor as error:
        tell("rib: a process that decodes was killed, perhaps for want of memory (see --cpus)")
        tell("rib: run the same command again to go on")
        raise typer.Exit(1) from error
    _print_check(check, as_json)
    if not check.ok:
        raise typer.Exit(1)


def _print_check(check: DataCheck, as_json: bool) -> None:
    from orchestrator.report.checks import check_record, check_tables

    if as_json:
        print_json(check_record(check))
    else:
        for table in check_tables(check):
            print_table(table)
    if check.not_written:
        tell(f"rib: no manifest: {check.not_written}")
