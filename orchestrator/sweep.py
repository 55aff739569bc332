"""What the commands do, as functions: plan a grid, run it, and look at how it stands."""

from __future__ import annotations

import gc
import os
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator import canary, licence
from orchestrator.cluster.reach import check_reachable
from orchestrator.cluster.requirements import admission_of
from orchestrator.compacting import Compacting
from orchestrator.demands import Demand, fitted
from orchestrator.driver import Driver, Steering, Summary
from orchestrator.estimate import Estimates, make_estimates, measured_speeds
from orchestrator.executor import Executor, InlineExecutor, Work
from orchestrator.extensions import check_unchanged, stored_declaration
from orchestrator.grid import Grid, with_digests
from orchestrator.keep import Keeper, order_of
from orchestrator.lease import Lease, refuse_if_held
from orchestrator.plan import Only, Plan, make_plan
from orchestrator.preflight import preflight
from orchestrator.remarks import Remarks
from orchestrator.results import verdicts_of
from orchestrator.retry import decide, try_once
from orchestrator.session import Terms, close_stale_attempts, driving, needs_of, tidy
from orchestrator.tries import Standing, Tries, read_tries, set_apart
from orchestrator.watch import MakeWatch, Unwatched, watching
from workers.cell import BASELINE, Cell
from workers.errors import Problem, UserError
from workers.job import Site
from workers.run import debug, execute
from workers.store import Committed, Store

if TYPE_CHECKING:
    from orchestrator.cluster.admission import Admission

GIT_COMMIT = "RIB_GIT_COMMIT"
"""Says which commit this code is of where it has been copied out of its checkout."""

BASELINES: Only = {"method": frozenset({BASELINE})}


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    grid: Grid
    plan: Plan
    """As it stands now: what is still to do is what failed, or was blocked."""
    summary: Summary
    n_run: int
    """Cells that were to be tried when the run started."""
    standing: Standing = field(default_factory=Standing)
    """Cells that the next run will not try either: they stand failed, or need one that does."""
    complaints: tuple[str, ...] = ()
    """What the canary says against fine-tuning; the run has then stopped before it."""

    @property
    def ok(self) -> bool:
        return self.summary.ok and not self.plan.todo and not self.complaints


def check_store(store: Store, grid: Grid) -> None:
    """Check that a store, if it is there, is of a grid's suite as the grid has it.

    Raises:
        UserError: when it cannot hold this grid's rows.
    """
    store.check(grid.suite.name, grid.suite.version)
    check_unchanged(grid.suite, stored_declaration(store))


def read_plan(grid: Grid, only: Only | None = None) -> Plan:
    """Plan a grid against what its store holds.

    Raises:
        UserError: when the store cannot hold this grid's rows.
    """
    store = Store(grid.store)
    check_store(store, grid)
    return make_plan(grid, store.committed(), only)


def read_estimates(grid: Grid, plan: Plan) -> Estimates:
    """Return what is known of how long a plan's cells take and how large their checkpoints are."""
    store = Store(grid.store)
    if not store.exists:
        return make_estimates(grid, {})
    history = store.scan("history", ["cell_id", "n_total", "seconds"], encoded=True).table
    timed = ["cell_id", "n_total", "started_at", "finished_at"]
    accuracy = store.scan("accuracy", timed, encoded=True).table
    return make_estimates(grid, measured_speeds(plan, history.to_pandas(), accuracy.to_pandas()))


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
    with_canary: bool = False,
    mixed_data: bool = False,
    terms: Terms | None = None,
    watch: MakeWatch = Unwatched,
    tell: Callable[[str], None] = lambda _: None,
) -> Result:
    """Run what is missing of a grid: expand, subtract what is done, run the rest.

    Args:
        grid: what to run.
        executor: `ray` or `inline`.
        address: of a Ray cluster; None for one embedded in this process.
        num_cpus: of the embedded cluster; None for all of this machine's.
        only: which cells to run.
        with_canary: run the baselines first, and nothing else when one of them does not agree
            with what is published of it.
        mixed_data: run although the data are another copy than rows in the store were made on.
        terms: how to behave towards another driver of the store, and when stopped.
        watch: makes what watches the cells, once it is known which are to run.
        tell: is told in words of what happens before the first cell.

    Raises:
        UserError: when anything is wrong with what was asked for, or somebody else drives the
            store; nothing has then been written.
        LeaseLostError: when another driver has taken this one's place.
        KeyboardInterrupt: after Ctrl-C; the store can be gone on with.
    """
    terms = terms or Terms()
    store = Store(grid.store)
    check_store(store, grid)
    committed = store.committed()
    # Before anything is written; only its data's being made changes what this looks at.
    plan = make_plan(grid, committed, only)
    licence.check_acknowledged(grid, plan)
    if plan.todo and not terms.take_over:
        refuse_if_held(store.storage)
    grid = make_data(grid, tell)
    whole = make_plan(grid, committed, only)
    plan, standing = to_try(whole, read_tries(store) if whole.todo else {}, terms)
    n_run = len(plan.todo)
    if not plan.todo:
        tidy(store, grid, committed, terms, tell)
        complaints = canary_complaints(store, grid, tell) if with_canary else ()
        return Result(grid, whole, Summary(), n_run, standing, complaints)
    check_reachable(address)
    digests = preflight(grid, plan, None if mixed_data else store, is_lean=executor != "inline")
    tell(f"{n_run} of {len(plan.nodes)} cells to run")
    lease = Lease(store.storage, terms.times, tell)
    work = debug if terms.debug else execute
    ask = None if address is None else admission_of(grid, plan, site_of(grid).store, digests, tell)
    cells = [plan.nodes[cell_id].cell for cell_id in plan.todo]
    workers = open_executor(executor, grid, cells, address, num_cpus, lease.driver, work, ask)
    complaints = ()
    with driving(store, grid, lease, workers, terms, tell) as steering:
        committed = store.committed()  # another driver may have been here meanwhile
        committed = take_up(store, grid, committed)
        if with_canary:
            baselines = make_plan(grid, committed, BASELINES)
            summary = drive(grid, baselines, workers, store, watch, steering, terms)
            complaints = canary_complaints(store, grid, tell)
        if not complaints:
            plan = make_plan(grid, store.committed() if with_canary else committed, only)
            summary = drive(grid, plan, workers, store, watch, steering, terms)
        if steering.is_draining:
            raise KeyboardInterrupt
        if trouble := Compacting(store, steering.check).now():
            tell(trouble)
    # What counts is not what the workers said but what can be read back.
    del plan, whole, committed, cells  # of a large grid it would take hundreds of MB twice
    gc.collect()  # the driver is in a circle with what looks after its files
    left = make_plan(grid, store.committed(), only)
    _, standing = set_apart(left, read_tries(store) if left.todo else {})
    return Result(grid, left, summary, n_run, standing, complaints)


def to_try(plan: Plan, tries: Mapping[str, Tries], terms: Terms) -> tuple[Plan, Standing]:
    """Leave out of a plan what stands failed, unless somebody wants to see it fail."""
    return (plan, Standing()) if terms.debug else set_apart(plan, tries)


def drive(
    grid: Grid,
    plan: Plan,
    workers: Executor,
    store: Store,
    watch: MakeWatch,
    steering: Steering,
    terms: Terms,
) -> Summary:
    """Run what is to be tried of a grid's plan, whatever an earlier driver left running."""
    if not plan.todo:
        return Summary()
    tries = close_stale_attempts(store)
    plan, _ = to_try(plan, tries, terms)
    watcher = watching(grid.name, plan, workers, store, watch)
    driver = Driver(
        plan,
        workers,
        store,
        watcher.see,
        tries,
        steering=steering,
        decide=try_once if terms.debug else decide,
    )
    driver.look_round = watcher.look_round
    driver.priority = priority_of(grid, plan)
    driver.score_together = grid.score_together
    compacting = Compacting(store, steering.check, driver.is_running)
    driver.on_done = compacting.done
    if grid.keep != "all":
        keeper = Keeper(needs_of(grid, store.committed()), store)
        keeper.clear()
        driver.on_done = lambda cell_id: keeper.done(cell_id) or compacting.done(cell_id)
        driver.priority = order_of(plan)
    return driver.run()


def priority_of(grid: Grid, plan: Plan) -> Mapping[str, float]:
    """Return which cells go first: those that begin the longest chains, as far as is known.

    What the store has seen of speeds is not read: the size of weights does as well
    (benchmarks/makespan.py), and reading 100,000 cells takes a while.
    """
    if len(grid.models) == 1:
        return plan.priority
    todo = [plan.nodes[cell_id] for cell_id in plan.todo]
    slowness = make_estimates(grid, {}).slowness(todo)
    return plan.priority_by(lambda node: slowness.get(node.cell.model.name, 1.0))


def canary_complaints(store: Store, grid: Grid, tell: Callable[[str], None]) -> tuple[str, ...]:
    """Tell how the baselines compare with what is published; return what speaks against them."""
    verdicts = verdicts_of(store, grid)
    for note in Remarks(verdicts).canary_notes():
        tell(note)
    return tuple(canary.complaints(verdicts, grid.suite))


def open_executor(
    kind: str,
    grid: Grid,
    cells: Iterable[Cell],
    address: str | None = None,
    num_cpus: int | None = None,
    driver: str = "",
    work: Work = execute,
    admission: Admission | None = None,
) -> Executor:
    """Return an executor that has what the grid's cells ask for, for a driver of this name.

    Args:
        kind: `ray` or `inline`.
        grid: that says what each cell asks for.
        cells: those that are to run.
        address: of a Ray cluster; None for one embedded in this process.
        num_cpus: of the embedded cluster; None for all of this machine's.
        driver: who may ask the jobs to stop.
        work: what a job is.
        admission: asks the machines of a cluster whether they are alike.

    Raises:
        UserError: when there is nowhere that has what a cell asks for, or the cluster is not there.
    """
    expected = list(grid.demands.distinct(cells).values())
    if kind == "inline":
        check_machine(expected)
        return InlineExecutor(site_of(grid, driver), work, grid.demands)
    from orchestrator.ray_executor import RayExecutor

    site = site_of(grid, driver, address)
    return RayExecutor(site, grid.demands, address, num_cpus, work, admission, expected)


def site_of(grid: Grid, driver: str = "", address: str | None = None) -> Site:
    """Return what a worker is told of where things are, and of what a cell usually may use.

    The workers of a cluster, which has an `address`, fill in paths on their own machines.
    """
    store = grid.store if "://" in grid.store else str(Path(grid.store).resolve())
    site = Site(
        store=store,
        data_root=str(grid.data_root) if address is None else grid.data_on_nodes,
        skip_undecodable=grid.skip_undecodable,
        accept_images=grid.accept_images,
        predictions=grid.predictions,
        top=grid.top_classes,
        image_cache="" if grid.image_cache is None else grid.image_cache.folder,
        image_cache_bytes=0 if grid.image_cache is None else grid.image_cache.max_size,
        suite=None if grid.suite.declaration is None else grid.suite,
        method_files=grid.method_files,
        driver=driver,
        git_commit=git_commit(),
    )
    return fitted(site, grid.resources)


def check_machine(demands: Sequence[Demand]) -> None:
    """Check that this machine has what cells ask for.

    Raises:
        UserError: naming each thing that it has too few of.
    """
    has = {"cpus": os.cpu_count() or 1, "gpus": 0}
    if any(demand.resources.gpus for demand in demands):
        import torch

        has["gpus"] = torch.cuda.device_count() if torch.cuda.is_available() else 0
    problems = []
    for demand in demands:
        asked = {"cpus": demand.resources.cpus, "gpus": demand.resources.gpus}
        for name, n in asked.items():
            if n > has[name]:
                message = f"{demand.a_cell} asks for {n:g}, this machine has {has[name] or 'none'}"
                problems.append(Problem(f"resources.{name}", message))
    if problems:
        raise UserError(problems)


def take_up(store: Store, grid: Grid, committed: Committed) -> Committed:
    """Make the store ready for rows: its grid, and nothing left over from what died.

    Returns:
        What it holds then: of a merged file that is damaged, some rows may have been kept.
    """
    store.create(grid.suite.name, grid.suite.version)
    store.write_grid(grid.to_yaml())
    store.set_aside(committed.damaged)
    store.sweep()
    return store.committed() if committed.damaged else committed


def git_commit() -> str:
    """Return the commit of this project's code, as its image or checkout says; else nothing."""
    if told := os.environ.get(GIT_COMMIT):
        return told
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
