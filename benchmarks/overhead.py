"""What a cell costs besides its own work: N no-op cells through the whole path.

Beside each other, on one machine and for each N in one Ray session: whole no-op cells (planned,
driven, run by Ray, their row and their tries durable in Parquet, read back) and bare Ray tasks that
do nothing. Once, for comparison: no-op trials of Ray Tune, and jobs of Snakemake that write an
empty file each, where PATH has a `snakemake`.

    python -m benchmarks.overhead [--cells 100,1000,10000] [--tune 100] [--snakemake 300,2000]
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from benchmarks.peak import peak_bytes
from orchestrator.compacting import Compacting
from orchestrator.demands import Demands
from orchestrator.driver import Driver, Steering
from orchestrator.executor import Executor
from orchestrator.grid import Grid, MethodEntry
from orchestrator.grid_file import ModelEntry, Resources
from orchestrator.lease import Lease
from orchestrator.plan import make_plan
from orchestrator.ray_executor import RayExecutor
from orchestrator.session import Terms, close_stale_attempts, driving
from orchestrator.sweep import take_up
from orchestrator.watch import Unwatched, watching
from workers.cell import Model
from workers.job import Job, Site
from workers.labels import LabelSpace
from workers.methods import methods
from workers.outcome import Outcome
from workers.recipe import Recipe
from workers.rows import describe, versions
from workers.run import execute
from workers.store import Store
from workers.suites import DatasetSpec, Suite

WARM_UP = 32
"""Cells, and bare tasks, that are run before the clock starts: Ray's workers are then up."""

SUITE = Suite(
    name="overhead",
    version="1",
    space=LabelSpace(("zero", "one")),
    id=DatasetSpec("val", "val", n_images=1),
    ood=(DatasetSpec("ood", "ood", n_images=1),),
    parameters={"warm-up": 1, "cold": 1},  # known, as in ImageNet-RIB: nothing is built to know it
)


@dataclass(frozen=True)
class Measurement:
    """One run of N cells and of N bare tasks, in seconds."""

    plan: float
    drive: float
    read_back: float
    bare: float
    peak_rss: int
    """Bytes, of the driver's process since it started."""

    @property
    def durable(self) -> float:
        return self.plan + self.drive + self.read_back


def grid_of(n_cells: int, store: str, architecture: str) -> Grid:
    """Return a grid of a baseline and enough seeds of fine-tuning to make N cells."""
    ft = methods()["ft"]
    return Grid(
        name="overhead",
        suite=SUITE,
        data_root=Path(store),
        store=store,
        models=(Model(name=architecture, architecture=architecture, weights="timm:none"),),
        downstream=("ood",),
        methods=(MethodEntry("ft", ft, ft.Config()),),
        seeds=tuple(range(n_cells - 1)),
        recipe=Recipe(),
        evaluate=("val",),
        resources=Resources(),
        entries=(ModelEntry(name=architecture),),
    )


def commit_one_row(job: Job, site: Site, store: Store) -> int:
    """Do a cell's least: one accuracy row for each set."""
    for name in job.evaluate:
        row = {
            **describe(job.cell),
            "eval_dataset": name,
            "n_correct": 1,
            "n_correct_unmasked": 1,
            "n_total": 1,
            "n_expected": 1,
            "loss": 0.0,
            **versions(site),
            "attempt": job.attempt,
        }
        store.commit_accuracy(job.cell.cell_id, name, [row])
    return len(job.evaluate)


def no_op_cell(job: Job, site: Site) -> Outcome:
    return execute(job, site, perform=commit_one_row)


def no_op() -> None:
    pass


def tell(text: str) -> None:
    print(text, file=sys.stderr)


def measure(n_cells: int, folder: Path) -> Measurement:
    """Run N cells, then N bare tasks, in a Ray session of their own."""
    store = Store(str(folder / f"store-{n_cells}"))
    lease = Lease(store.storage)
    site = Site(store=store.uri, data_root=".", driver=lease.driver)
    workers = RayExecutor(site, Demands(), work=no_op_cell)
    warm_up = grid_of(WARM_UP, store.uri, "warm-up")
    with driving(store, warm_up, lease, workers, Terms(), tell) as steering:
        run_cells(warm_up, store, workers, steering)
        cold = grid_of(n_cells, store.uri, "cold")
        plan, drive, read_back = run_cells(cold, store, workers, steering)
        peak_rss = peak_bytes()
        check(store, n_cells + WARM_UP)
        run_bare_tasks(WARM_UP)
        bare = run_bare_tasks(n_cells)
    return Measurement(plan, drive, read_back, bare, peak_rss)


def run_cells(
    grid: Grid, store: Store, executor: Executor, steering: Steering
) -> tuple[float, float, float]:
    """Do what `orchestrator.sweep.run` does; return the seconds of its three parts."""
    start = time.perf_counter()
    committed = store.committed()
    plan = make_plan(grid, committed)
    assert len(plan.todo) == len(plan.nodes)
    planned = time.perf_counter()
    take_up(store, grid, committed)
    tries = close_stale_attempts(store)
    watcher = watching(grid.name, plan, executor, store, Unwatched)
    driver = Driver(plan, executor, store, watcher.see, tries, steering=steering)
    driver.look_round = watcher.look_round
    compacting = Compacting(store, steering.check, driver.is_running)
    driver.on_done = compacting.done
    summary = driver.run()
    assert summary.ok, summary
    assert not compacting.now()
    driven = time.perf_counter()
    del plan, committed, driver, watcher, compacting  # as they are gone there
    gc.collect()
    left = make_plan(grid, store.committed()).todo
    assert not left, f"{len(left)} cells are not in the store"
    return planned - start, driven - planned, time.perf_counter() - driven


def check(store: Store, n_cells: int) -> None:
    """Check that the store really holds a row and a finished try of every cell."""
    rows = store.scan("accuracy").table
    states = store.scan("attempts").table.column("state").to_pylist()
    files = store.storage.names("accuracy")
    assert rows.num_rows == n_cells == len(set(rows.column("cell_id").to_pylist())), rows.num_rows
    assert states == ["done"] * n_cells, f"{len(states)} tries"
    assert all(name.count(".") == 1 for name in files), "not every cell is sealed"


def run_bare_tasks(n_tasks: int) -> float:
    import ray

    task = ray.remote(num_cpus=1, max_retries=0)(no_op)
    start = time.perf_counter()
    ray.get([task.remote() for _ in range(n_tasks)])
    return time.perf_counter() - start


def run_tune(n_trials: int, folder: Path) -> float:
    """Run no-op trials of Ray Tune, as many at a time as there are cores; return the seconds."""
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["AIR_VERBOSITY"] = "0"
    import ray
    from ray import tune

    ray.init("local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        tuner = tune.Tuner(
            no_op_trial,
            param_space={"seed": tune.grid_search(list(range(n_trials)))},
            run_config=tune.RunConfig(storage_path=str(folder), verbose=0),
        )
        start = time.perf_counter()
        with contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
            results = tuner.fit()
        seconds = time.perf_counter() - start
        assert len(results) == n_trials
        assert not results.errors
    finally:
        ray.shutdown()
    return seconds


def no_op_trial(config: dict[str, Any]) -> dict[str, float]:
    return {"accuracy": 0.0, "seed": config["seed"]}


SNAKEFILE = """
rule all:
    input: expand("out/{{n}}", n=range({n_jobs}))

rule job:
    output: "out/{{n}}"
    shell: "touch {{output}}"
"""


def run_snakemake(n_jobs: int, folder: Path) -> float:
    """Run jobs that write an empty file each, as many at a time as there are cores."""
    folder.mkdir(parents=True)
    (folder / "Snakefile").write_text(SNAKEFILE.format(n_jobs=n_jobs))
    command = ["snakemake", "--cores", str(os.cpu_count()), "--quiet", "all"]
    start = time.perf_counter()
    subprocess.run(command, check=True, cwd=folder, capture_output=True)
    seconds = time.perf_counter() - start
    assert len(list((folder / "out").iterdir())) == n_jobs
    return seconds


def rows_of(results: dict[int, list[Measurement]], per_trial: float | None) -> Iterator[list[str]]:
    """Yield the table's rows: medians over the repeats, in milliseconds a cell."""
    for n, runs in results.items():

        def ms(name: str, n: int = n, runs: Sequence[Measurement] = runs) -> float:
            return 1000 * float(statistics.median(getattr(run, name) for run in runs)) / n

        yield [
            f"{n:,}",
            f"{ms('durable'):.2f}",
            f"{ms('plan'):.2f}",
            f"{ms('drive'):.2f}",
            f"{ms('read_back'):.2f}",
            f"{ms('bare'):.2f}",
            f"{ms('durable') / ms('bare'):.1f}",
            "" if per_trial is None else f"{1000 * per_trial / ms('durable'):.0f}",
            f"{runs[0].peak_rss / 2**20:.0f}",
        ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.overhead", description=__doc__)
    parser.add_argument("--cells", default="100,1000,10000", help="numbers of cells")
    parser.add_argument("--tune", type=int, default=100, help="Ray Tune trials; 0 for none")
    parser.add_argument("--snakemake", default="300,2000", help="numbers of its jobs; 0 for none")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each; medians are shown")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    results: dict[int, list[Measurement]] = {}
    with tempfile.TemporaryDirectory(prefix="rib-overhead-") as folder:
        for n in sorted(int(text) for text in options.cells.split(",")):
            for repeat in range(options.repeat):
                result = measure(n, Path(folder, f"{repeat}"))
                results.setdefault(n, []).append(result)
                ms = 1000 * result.durable / n
                console.print(f"{n:,} cells, run {repeat + 1}: {ms:.2f} ms a cell", highlight=False)
        per_trial = None
        if options.tune:
            seconds = run_tune(options.tune, Path(folder, "tune"))
            per_trial = seconds / options.tune
            console.print(f"{options.tune} Tune trials: {1000 * per_trial:.0f} ms a trial")
        snakemake = []
        for n in map(int, options.snakemake.split(",") if shutil.which("snakemake") else ()):
            if n:
                ms = 1000 * run_snakemake(n, Path(folder, f"snakemake-{n}")) / n
                snakemake.append(f"{n:,} jobs of Snakemake: {ms:.1f} ms each")
    table = Table(title=f"Milliseconds a no-op cell (median of {options.repeat})")
    for name in ("cells", "durable", "plan", "drive", "read back", "bare task", "ratio"):
        table.add_column(name, justify="right")
    table.add_column("Tune trial / cell", justify="right")
    table.add_column("driver peak MiB", justify="right")
    for row in rows_of(results, per_trial):
        table.add_row(*row)
    output = Console(width=110)
    output.print(table)
    output.print(f"ms a Tune trial: {1000 * per_trial:.0f}" if per_trial else "Tune: not run")
    for line in snakemake or ["no snakemake in PATH"]:
        output.print(line, highlight=False)
    output.print(machine("ray"), highlight=False)


if __name__ == "__main__":
    main()
