"""Running grids on a cluster from elsewhere: `rib submit`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.grids import (
    AcknowledgeOption,
    CanaryOption,
    OnlyOption,
    StoreOption,
    TakeOverOption,
)
from orchestrator.cli.printing import tell
from orchestrator.cli.results import MixedOption
from workers.errors import Problem, UserError

if TYPE_CHECKING:
    from orchestrator.cluster.jobs import Jobs

app = typer.Typer()


@app.command()
def submit(
    grid: Annotated[
        Path | None, typer.Argument(metavar="[GRID]", help="A grid file (YAML).")
    ] = None,
    address: Annotated[
        str, typer.Option("--address", help="Where the head takes jobs.")
    ] = "http://127.0.0.1:8265",
    store: StoreOption = None,
    only: OnlyOption = None,
    canary: CanaryOption = False,
    acknowledge: AcknowledgeOption = None,
    mixed_data: MixedOption = False,
    take_over: TakeOverOption = False,
    ship_code: Annotated[
        bool, typer.Option("--ship-code", help="Run this machine's code, not the nodes' own.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Print the job's id, and follow nothing.")
    ] = False,
    attach: Annotated[
        str | None, typer.Option("--attach", metavar="JOB", help="Follow a job, from its start.")
    ] = None,
    stop: Annotated[
        str | None, typer.Option("--stop", metavar="JOB", help="Stop a job as Ctrl-C stops a run.")
    ] = None,
) -> None:
    """Run a grid on a cluster as a job of its head, and follow it; exit with the job's code.

    Ctrl-C ends the following, and not the job.
    """
    if sum(what is not None for what in (grid, attach, stop)) != 1:
        message = "takes one of these: GRID, --attach JOB, --stop JOB"
        raise UserError([Problem("rib submit", message)])
    options = [
        *_given("--store", store),
        *_given("--only", only),
        *(["--canary"] if canary else []),
        *(part for clause in acknowledge or [] for part in ("--acknowledge", clause)),
        *(["--mixed-data"] if mixed_data else []),
        *(["--take-over"] if take_over else []),
    ]
    if attach is not None:
        _follow(_jobs(address), attach, address)
    elif stop is not None:
        _jobs(address).stop(stop)
        tell(f"{stop} is asked to stop; follow it with: {_attach(stop, address)}")
    elif grid is not None:
        _submit(grid, store, options, address, ship_code, detach)


def _submit(
    grid: Path, store: str | None, options: list[str], address: str, ship_code: bool, detach: bool
) -> None:
    from orchestrator.cluster.package import entrypoint, job_id_of, pack, read_for_elsewhere
    from orchestrator.sweep import GIT_COMMIT, git_commit

    file = read_for_elsewhere(grid, store)
    jobs = _jobs(address)
    environment = {GIT_COMMIT: git_commit()} if ship_code else {}
    with tempfile.TemporaryDirectory(prefix="rib-submit-") as folder:
        pack(grid, Path(folder), ship_code)
        command = entrypoint(options, ship_code)
        job = jobs.submit(command, job_id_of(str(file.name)), Path(folder), environment)
    if detach:
        print(job)
        tell(f"follow it with: {_attach(job, address)}")
    else:
        tell(f"the job {job} runs on {address}; Ctrl-C here leaves it running")
        _follow(jobs, job, address)


def _jobs(address: str) -> Jobs:
    from orchestrator.cluster.start import has_jobs

    if not has_jobs():
        hint = "pip install 'rib-orchestrator[cluster]'"
        raise UserError([Problem("rib submit", "the Jobs API is not installed here", hint)])
    from orchestrator.cluster.jobs import Jobs

    return Jobs(address)


def _follow(jobs: Jobs, job: str, address: str) -> None:
    """Print a job's log until it ends, and exit with its code."""
    try:
        code = jobs.follow(job, _print)
        told = jobs.message(job)
    except KeyboardInterrupt:
        tell(f"the job {job} goes on; follow it again with: {_attach(job, address)}")
        tell(f"stop it with: rib submit --stop {job} --address {address}")
        raise typer.Exit(1) from None
    if code:
        tell(f"rib: the job {job} ended with exit code {code} ({told})")
        raise typer.Exit(code)


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _attach(job: str, address: str) -> str:
    return f"rib submit --attach {job} --address {address}"


def _given(option: str, value: str | None) -> list[str]:
    return [] if value is None else [option, value]
