"""What a worker process keeps of the cells that it has run: memory, threads, open files.

Hundreds of real cells of the embedded suite, of both models and several methods, go through real
Ray one after another, in as few processes as Ray uses. After each the process looks at itself.

    python -m benchmarks.reuse [--cells 300] [--data data/digits-rib] [--gpus 0]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from orchestrator.demands import Demands
from orchestrator.driver import Driver, Event
from orchestrator.grid import Grid, load_grid
from orchestrator.grid_file import Resources
from orchestrator.plan import make_plan
from orchestrator.ray_executor import RayExecutor
from orchestrator.sweep import make_data, site_of
from workers.job import Job, Site
from workers.outcome import Outcome
from workers.run import execute
from workers.store import Store

METHODS = ("ft", "lp", "l2sp", "lwf", "soup")

WARM = 0.2
"""Part of the cells before which nothing is compared: caches fill, memory pools grow."""

MIB = 2**20


@dataclass(frozen=True)
class Usage:
    """What a worker process holds after a cell."""

    pid: int
    rss: int
    """Bytes of its memory that are in use."""
    threads: int
    files: int
    """Open file descriptors."""
    gpu: int
    """Bytes that PyTorch holds on the GPU, its cache included."""


def usage_here() -> Usage:
    """Look at this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Usage(
        pid=os.getpid(),
        rss=pages * os.sysconf("SC_PAGE_SIZE"),
        threads=sum(1 for _ in Path("/proc/self/task").iterdir()),
        files=sum(1 for _ in Path("/proc/self/fd").iterdir()),
        gpu=_gpu_bytes(),
    )


def _gpu_bytes() -> int:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return 0
    return int(torch.cuda.memory_reserved())


def run_and_look(job: Job, site: Site) -> Outcome:
    """Run a cell as ever, and say what the process holds then."""
    outcome = execute(job, site)
    if not outcome.ok:
        return outcome
    return replace(outcome, message=json.dumps(asdict(usage_here())))


def grid_of(n_cells: int, data_root: Path, folder: Path) -> Grid:
    """Return a grid of that many short cells: one downstream set, and as many seeds as it takes."""
    models = ("vit_digits", "resnet_digits")
    value = {
        "name": "reuse",
        "suite": "digits-rib",
        "data_root": str(data_root.resolve()),
        "store": str(folder / "store"),
        "models": models,
        "downstream": ["v2"],
        "evaluate": ["val"],
        "methods": [*METHODS[:-1], {"method": METHODS[-1], "members": ["ft", "l2sp"]}],
        "seeds": list(range(max(1, round(n_cells / (len(models) * len(METHODS)))))),
        "recipe": {"epochs": 1, "batch_size": 64, "precision": "fp32", "warmup_steps": 0},
    }
    path = folder / "grid.yaml"
    path.write_text(json.dumps(value))  # YAML has JSON in it
    return load_grid(path)


def measure(
    n_cells: int, data_root: Path, folder: Path, gpus: float = 0.0, n_workers: int = 1
) -> list[Usage]:
    """Run about that many cells; return what their processes held, in the order of their ends."""
    grid = make_data(grid_of(n_cells, data_root, folder))
    store = Store(grid.store)
    store.create(grid.suite.name, grid.suite.version)
    found: list[Usage] = []

    def observe(event: Event) -> None:
        if event.kind == "done" and event.outcome is not None:
            found.append(Usage(**json.loads(event.outcome.message)))

    demands = Demands(Resources(gpus=gpus))
    workers = RayExecutor(site_of(grid), demands, num_cpus=n_workers, work=run_and_look)
    try:
        summary = Driver(make_plan(grid, store.committed()), workers, store, observe).run()
    finally:
        workers.close()
    assert summary.ok, summary
    return found


def growth(values: Sequence[float]) -> float:
    """Return by how much values grow in a hundred of them, by a straight line through them."""
    return 100 * float(statistics.linear_regression(range(len(values)), values).slope)


def warm(usages: Sequence[Usage]) -> dict[int, list[Usage]]:
    """Return what each process held once it was warm, by its id."""
    by_process: dict[int, list[Usage]] = {}
    for usage in usages:
        by_process.setdefault(usage.pid, []).append(usage)
    return {pid: mine[int(WARM * len(mine)) :] for pid, mine in by_process.items()}


def rows_of(usages: Sequence[Usage]) -> Iterator[list[str]]:
    """Yield the table's rows, one for each process."""
    for pid, mine in warm(usages).items():
        cells = sum(usage.pid == pid for usage in usages)
        first, last = mine[0], mine[-1]
        rss = [usage.rss / MIB for usage in mine]
        per_hundred = f"{growth(rss):+.1f}" if len(rss) > 1 else "—"
        yield [
            str(cells),
            f"{first.rss / MIB:.0f}",
            f"{last.rss / MIB:.0f}",
            per_hundred,
            f"{first.threads} → {last.threads}",
            f"{first.files} → {last.files}",
            f"{first.gpu / MIB:.0f} → {last.gpu / MIB:.0f}",
        ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.reuse", description=__doc__)
    parser.add_argument("--cells", type=int, default=300)
    parser.add_argument("--data", type=Path, default=Path("data/digits-rib"))
    parser.add_argument("--gpus", type=float, default=0.0, help="of each cell")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="rib-reuse-") as folder:
        usages = measure(options.cells, options.data, Path(folder), options.gpus)
    table = Table(title=f"{len(usages)} cells; a process once it is warm, and after its last cell")
    for name in (
        "cells",
        "MiB then",
        "MiB at last",
        "MiB / 100 cells",
        "threads",
        "files",
        "GPU MiB",
    ):
        table.add_column(name, justify="right")
    for row in rows_of(usages):
        table.add_row(*row)
    output = Console(width=110)
    output.print(table)
    output.print(machine("ray", "torch"), highlight=False)


if __name__ == "__main__":
    main()
