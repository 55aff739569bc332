"""What the commands do, as functions: plan a grid, run it, and look at how it stands."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.driver import Driver, Observer, Summary
from orchestrator.executor import Executor, InlineExecutor
from orchestrator.grid import Grid, with_digests
from orchestrator.grid_file import Resources
from orchestrator.plan import Only, Plan, make_plan
from orchestrator.preflight import preflight
from workers.errors import Problem, UserError
from workers.job import Site
from workers.store import Committed, Store


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    grid: Grid
    plan: Plan
    """As it stands now: what is still to do is what failed, or was blocked."""
    summary: Summary
    n_run: int
    """Cells that were to do when the run started."""

    @property
    def ok(self) -> bool:
        return self.summary.ok and not self.plan.todo


def read_plan(grid: Grid, only: Only | None = None) -> Plan:
    """Plan a grid against what its store holds.

    Raises:
        UserError: when the store cannot hold this grid's rows.
    """
    store = Store(grid.store)
    store.check(grid.suite.name, grid.suite.version)
    return make_plan(grid, store.committed(), only)


def make_data(grid: Grid, tell: Callable[[str], None] = lambda _: None) -> Grid:
    """Make the suite's data when the suite can be made and its root is empty."""
    root = grid.data_root
    is_empty = not root.exists() or not any(root.iterdir())
    if grid.suite.make is not None and is_empty:
        tell(f"making the suite {grid.suite.name} in {root}")
        grid.suite.make(root)
    return with_digests(grid)


def run(
    grid: Grid,
    *,
    executor: str = "ray",
    address: str | None = None,
    num_cpus: int | None = None,
    only: Only | None = None,
    observe: Callable[[Plan], Observer] = lambda _: lambda _: None,
    tell: Callable[[str], None] = lambda _: None,
) -> Result:
    """Run what is missing of a grid: expand, subtract what is done, run the rest.

    Args:
        grid: what to run.
        executor: `ray` or `inline`.
        address: of a Ray cluster; None for one embedded in this process.
        num_cpus: of the embedded cluster; None for all of this machine's.
        only: which cells to run.
        observe: makes the driver's observer once the plan is known.
        tell: is told in words of what happens before the first cell.

    Raises:
        UserError: when anything is wrong with what was asked for; nothing has then been written.
    """
    store = Store(grid.store)
    store.check(grid.suite.name, grid.suite.version)
    grid = make_data(grid, tell)
    committed = store.committed()
    plan = make_plan(grid, committed, only)
    if not plan.todo:
        return Result(grid, plan, Summary(), 0)
    preflight(grid, plan)
    tell(f"{len(plan.todo)} of {len(plan.nodes)} cells to run")
    workers = open_executor(executor, grid, address, num_cpus)
    try:
        take_up(store, grid, committed)
        attempts = close_stale_attempts(store)
        summary = Driver(plan, workers, store, observe(plan), attempts).run()
    finally:
        workers.close()
    # What counts is not what the workers said but what can be read back.
    return Result(grid, make_plan(grid, store.committed(), only), summary, len(plan.todo))


def open_executor(
    kind: str, grid: Grid, address: str | None = None, num_cpus: int | None = None
) -> Executor:
    """Return an executor that has what the grid's cells ask for."""
    resources = grid.resources
    store = grid.store if "://" in grid.store else str(Path(grid.store).resolve())
    site = Site(
        store=store,
        data_root=str(grid.data_root),
        threads=max(1, int(resources.cpus) - resources.loader_workers),
        loader_workers=resources.loader_workers,
        git_commit=git_commit(),
    )
    if kind == "inline":
        check_machine(resources)
        return InlineExecutor(site)
    from orchestrator.ray_executor import RayExecutor

    return RayExecutor(site, resources, address, num_cpus)


def check_machine(resources: Resources) -> None:
    """Check that this machine has what a cell asks for.

    Raises:
        UserError: naming each thing that it has too few of.
    """
    has = {"cpus": os.cpu_count() or 1, "gpus": 0}
    if resources.gpus:
        import torch

        has["gpus"] = torch.cuda.device_count() if torch.cuda.is_available() else 0
    asked = {"cpus": resources.cpus, "gpus": resources.gpus}
    problems = [
        Problem(
            f"resources.{name}", f"a cell asks for {n:g}, this machine has {has[name] or 'none'}"
        )
        for name, n in asked.items()
        if n > has[name]
    ]
    if problems:
        raise UserError(problems)


def take_up(store: Store, grid: Grid, committed: Committed) -> None:
    """Make the store ready for rows: its grid, and nothing left over from what died."""
    store.create(grid.suite.name, grid.suite.version)
    store.write_grid(grid.to_yaml())
    store.set_aside(committed.damaged)
    store.sweep()


def close_stale_attempts(store: Store) -> dict[str, int]:
    """End the tries that an earlier driver left running; return how many each cell has had.

    Their workers ended with that driver, since Ray stops the tasks of a driver that dies.
    """
    attempts: dict[str, int] = {}
    for row in store.scan("attempts").table.to_pylist():
        attempts[row["cell_id"]] = max(row["attempt"], attempts.get(row["cell_id"], 0))
        if row["state"] == "running":
            store.commit_attempt(
                {
                    **row,
                    "state": "failed",
                    "error_kind": "preempted",
                    "message": "the driver stopped before this try ended",
                    "finished_at": datetime.now(UTC),
                }
            )
    return attempts


def git_commit() -> str:
    """Return the commit of this project's checkout, empty outside one."""
    place = Path(__file__).resolve().parent
    command = ["git", "-C", str(place), "rev-parse", "HEAD"]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        found = subprocess.run(
            command, capture_output=True, text=True, check=True, env=environment, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()
