"""What `rib distance` does: how far a grid's downstream sets are from the ID set, by OTDD.

A distance is a cell that trains nothing (`workers.distance.run`). Those of a grid are a plan of
their own, which the same driver runs on the same executors as any other: what is done is not done
again, tries are recorded, and one that failed does not stop the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from orchestrator.cluster.reach import check_reachable
from orchestrator.cluster.requirements import admission_of
from orchestrator.driver import Driver
from orchestrator.executor import Outcome, Work
from orchestrator.expansion import baselines
from orchestrator.grid import Grid
from orchestrator.lease import Lease, refuse_if_held
from orchestrator.plan import Node, Plan
from orchestrator.preflight import preflight
from orchestrator.session import Terms, close_stale_attempts, driving
from orchestrator.sweep import check_store, make_data, open_executor, site_of, take_up
from orchestrator.watch import MakeWatch, Unwatched, watching
from workers.cell import Cell, Model
from workers.distance.run import check_solver, execute_distance
from workers.distance.settings import METHOD, VERSION
from workers.errors import Problem, UserError
from workers.job import Job, Site
from workers.store import Store

_MIXED = "they must not be compared: measure them in another store"


def measure(
    grid: Grid,
    *,
    executor: str = "ray",
    address: str | None = None,
    num_cpus: int | None = None,
    mixed_data: bool = False,
    terms: Terms | None = None,
    watch: MakeWatch = Unwatched,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Measure the distances of a grid that its store does not have.

    Args:
        grid: whose downstream sets are measured.
        executor: `ray` or `inline`.
        address: of a Ray cluster; None for one embedded in this process.
        num_cpus: of the embedded cluster; None for all of this machine's.
        mixed_data: measure although accuracies in the store are of other copies of the data.
        terms: how to behave towards another driver of the store, and when stopped.
        watch: makes what watches the distances, once it is known which are to be measured.
        tell: is told in words of what happens before the first distance.

    Raises:
        UserError: when anything is wrong with what was asked for, or somebody else drives the
            store; nothing has then been written.
        LeaseLostError: when another driver has taken this one's place.
        KeyboardInterrupt: after Ctrl-C; the store can be gone on with.
    """
    terms = terms or Terms()
    store = Store(grid.store)
    check_store(store, grid)
    plan = plan_of(grid, _done(store))
    if plan.todo:
        check_solver()
        if not terms.take_over:
            refuse_if_held(store.storage)
    grid = make_data(grid, tell)
    plan = plan_of(grid, _done(store))
    if not plan.todo:
        return
    check_reachable(address)
    with_rows = None if mixed_data else store
    digests = preflight(grid, _what_is_read(grid, plan), with_rows, is_lean=executor != "inline")
    check_same_data(read_distances(store, grid), digests)
    tell(f"{len(plan.todo)} of {len(plan.nodes)} distances to measure")
    lease = Lease(store.storage, terms.times, tell)
    work = _work(grid.distance.max_iterations)
    ask = None
    if address is not None:
        ask = admission_of(grid, plan, site_of(grid).store, digests, tell)
    cells = [plan.nodes[cell_id].cell for cell_id in plan.todo]
    workers = open_executor(executor, grid, cells, address, num_cpus, lease.driver, work, ask)
    with driving(store, grid, lease, workers, terms, tell) as steering:
        take_up(store, grid, store.committed())
        store.set_aside(store.scan("distances").damaged)
        plan = plan_of(grid, _done(store))  # another driver may have been here meanwhile
        attempts = close_stale_attempts(store)
        watcher = watching(grid.name, plan, workers, store, watch)
        driver = Driver(plan, workers, store, watcher.see, attempts, steering=steering)
        driver.look_round = watcher.look_round
        driver.run()
        if steering.is_draining:
            raise KeyboardInterrupt


def _work(max_iterations: int) -> Work:
    """Return what a job is on a worker."""

    def work(job: Job, site: Site) -> Outcome:
        return execute_distance(job, site, max_iterations)

    return work


# ---------------------------------------------------------------------------- cells and the plan


def model_of(grid: Grid) -> Model:
    """Return the model in whose features a grid's distances are measured."""
    name = grid.distance.model
    return next(model for model in grid.models if name in (None, model.name))


def cells_of(grid: Grid) -> list[Cell]:
    """Return the distances of a grid: one for each downstream set."""
    reference = grid.suite.id.name
    return [
        Cell(
            suite=grid.suite.name,
            suite_version=grid.suite.version,
            model=model_of(grid),
            method=METHOD,
            method_version=VERSION,
            label=METHOD,
            downstream=name,
            hyperparameters={
                **grid.distance.settings(reference).as_hyperparameters(),
                **_data_choices(grid, (reference, name)),
            },
            seed=grid.distance.seed,
        )
        for name in grid.downstream
    ]


def _data_choices(grid: Grid, pair: tuple[str, str]) -> dict[str, Any]:
    """Return what was asked for about the images of two sets, if anything was."""
    skipping = [name for name in pair if name in grid.skip_undecodable]
    accepted = {name: grid.accept_images[name] for name in pair if name in grid.accept_images}
    choices: dict[str, Any] = {"skip_undecodable": skipping, "accept_images": accepted}
    return {key: value for key, value in choices.items() if value}


def plan_of(grid: Grid, done: frozenset[str]) -> Plan:
    """Plan a grid's distances.

    Args:
        grid: whose.
        done: ids of cells whose distances are there.
    """
    nodes = {
        cell.cell_id: Node(
            cell=cell,
            wanted=(),
            missing=(),
            has_weights=False,
            training_images=0,
            evaluation_images=min(grid.distance.samples, _n_images(grid, cell)),
        )
        for cell in cells_of(grid)
    }
    return Plan(nodes, frozenset(nodes) - done)


def _n_images(grid: Grid, cell: Cell) -> int:
    return grid.suite.evaluation_sets[str(cell.downstream)].n_images or 0


def _what_is_read(grid: Grid, plan: Plan) -> Plan:
    """Return a plan that reads what these distances read: the model as it came, on their sets."""
    name = model_of(grid).name
    baseline = next(cell for cell in baselines(grid) if cell.model.name == name)
    todo = [str(plan.nodes[cell_id].cell.downstream) for cell_id in plan.todo]
    sets = (grid.suite.id.name, *sorted(todo))
    node = Node(baseline, sets, sets, has_weights=True, training_images=0, evaluation_images=0)
    return Plan({baseline.cell_id: node}, frozenset({baseline.cell_id}))


# ---------------------------------------------------------------------------- what is there


def _done(store: Store) -> frozenset[str]:
    scan = store.scan("distances", ["cell_id"])
    return frozenset(scan.table.column("cell_id").to_pylist())


def read_distances(store: Store, grid: Grid) -> pd.DataFrame:
    """Return the store's rows of a grid's distances, in the order of its downstream sets.

    Returns:
        The columns of `workers.schemas.DISTANCES`.

    Raises:
        UserError: when they are of several copies of the ID set, or several weights of the model.
    """
    rows: pd.DataFrame = store.scan("distances").table.to_pandas()
    order = {cell.cell_id: place for place, cell in enumerate(cells_of(grid))}
    own = rows[rows["cell_id"].isin(list(order))]
    own = own.sort_values("cell_id", key=lambda ids: ids.map(order), ignore_index=True)
    problems = [
        Problem("distances", f"they are of several {what}: {', '.join(sorted(found))}", _MIXED)
        for what, found in (
            ("copies of the ID set", set(own["reference_digest"])),
            ("weights of the model", set(own["weights_digest"])),
        )
        if len(found) > 1
    ]
    if problems:
        raise UserError(problems)
    return own


def check_same_data(rows: pd.DataFrame, digests: Mapping[str, str]) -> None:
    """Check that the data are those that earlier distances were measured on.

    Args:
        rows: as from `read_distances`.
        digests: of the data sets that are there now.

    Raises:
        UserError: naming each set that is another copy.
    """
    references = zip(rows["reference"], rows["reference_digest"], strict=True)
    downstream = zip(rows["downstream"], rows["dataset_digest"], strict=True)
    problems = {
        name: Problem(
            f"data set {name}",
            f"distances in the store are of another copy of it: {then} there, {digests[name]} here",
            _MIXED,
        )
        for name, then in (*references, *downstream)
        if name in digests and digests[name] != then
    }
    if problems:
        raise UserError(list(problems.values()))


def distance_frame(store: Store, grid: Grid) -> pd.DataFrame:
    """Say how each of a grid's distances stands, and what it is.

    Returns:
        The columns of `read_distances`, a row per downstream set in the grid's order, and

        - state: `done` when the distance is there, `failed` or `diverged` as the last try ended, or
          `waiting`
        - relative: the distance over the mean cost between two images of the ID set
        - error_kind, message: why the last try failed

    Raises:
        UserError: as `read_distances`.
    """
    cells = cells_of(grid)
    asked = pd.DataFrame({"cell_id": [cell.cell_id for cell in cells]})
    found = asked.merge(read_distances(store, grid), how="left", on="cell_id")
    found["downstream"] = [cell.downstream for cell in cells]
    found["model"] = model_of(grid).name
    found["reference"] = grid.suite.id.name
    found["relative"] = found["value"] / found["mean_cost"]
    last = _last_tries(store)
    tries = asked.merge(last, how="left", on="cell_id")
    is_done = found["value"].notna()
    is_failed = tries["state"].isin(["failed", "diverged"]) & (tries["error_kind"] != "preempted")
    waiting = tries["state"].where(is_failed, "waiting")
    found["state"] = waiting.mask(is_done, "done")
    for name in ("error_kind", "message"):
        told = tries[name].astype(object)
        found[name] = told.where(is_failed & ~is_done & told.notna(), None)
    return found


def _last_tries(store: Store) -> pd.DataFrame:
    columns = ["cell_id", "attempt", "state", "error_kind", "message"]
    attempts: pd.DataFrame = store.scan("attempts", columns).table.to_pandas()
    last = attempts.sort_values("attempt").drop_duplicates("cell_id", keep="last")
    return last.drop(columns="attempt")
