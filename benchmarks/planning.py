"""Planning and resuming large grids, and how long commands take to start.

A grid of digits-rib with many seeds is planned against a store that holds nothing, half, or all of
it, compacted as a driver leaves it: read the grid, read what is done, and say what is left. Beside
it, `rib plan`, `rib status` and `rib --help` as a user waits for them, each a new process.

    python -m benchmarks.planning [--cells 10000,100000] [--repeat 3] [--root data/digits-rib]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from benchmarks.store import Unflushed, median_s
from orchestrator.grid import load_grid
from orchestrator.plan import make_plan
from workers.attempts import begun_row, ended_row
from workers.cell import Cell
from workers.job import Job, Site
from workers.outcome import Outcome
from workers.rows import describe
from workers.store import Store

GRID = """
name: planning
suite: digits-rib
data_root: {root}
store: {store}
models: [resnet_digits, vit_digits]
downstream: all
methods: [ft, l2sp, lwf]
evaluate: [val]
seeds: {seeds}
"""
PER_SEED = 2 * 8 * 3

err = Console(stderr=True)


def write_grid(folder: Path, root: Path, n_cells: int) -> Path:
    path = folder / f"grid-{n_cells}.yaml"
    seeds = list(range(max(1, round(n_cells / PER_SEED))))
    path.write_text(
        GRID.format(root=root.resolve(), store=folder / f"store-{n_cells}", seeds=seeds)
    )
    return path


def fill(store: Store, cells: Sequence[Cell]) -> None:
    """Write the row and the try of each cell, as workers and the driver do."""
    site = Site(store=store.uri, data_root=".")
    for cell in cells:
        row = {
            **describe(cell),
            "eval_dataset": "val",
            "n_correct": 1,
            "n_correct_unmasked": 1,
            "n_total": 200,
            "n_expected": 200,
            "loss": 1.0,
        }
        store.commit_accuracy(cell.cell_id, "val", [row])
        store.seal(cell.cell_id, ["val"])
        attempt = begun_row(Job(cell, ("val",)), site)
        store.commit_attempt(ended_row(attempt, Outcome(rows=1, seconds=1.0)))


def resume(path: Path, n_left: int) -> None:
    """Do what a run does before it starts a cell."""
    grid = load_grid(path)
    store = Store(grid.store)
    plan = make_plan(grid, store.committed())
    assert len(plan.todo) == n_left, f"{len(plan.todo)} left, not {n_left}"


def command(*arguments: object) -> Callable[[], object]:
    line = [sys.executable, "-m", "orchestrator", *map(str, arguments)]
    return lambda: subprocess.run(line, check=False, capture_output=True)


def peak_mib(*arguments: object) -> float:
    """Return the most memory that a command of `rib` takes."""
    line = [sys.executable, "-m", "benchmarks.peak", "orchestrator", *map(str, arguments)]
    done = subprocess.run(line, check=False, capture_output=True, text=True)
    return int(done.stderr.splitlines()[-1]) / 2**20


def measure(n_cells: int, folder: Path, root: Path, repeat: int) -> list[str]:
    """Return a row of the table: seconds with nothing, half and all done, and of two commands."""
    path = write_grid(folder, root, n_cells)
    grid = load_grid(path)
    store = Store(grid.store)
    cells = [node.cell for node in make_plan(grid, store.committed()).nodes.values()]
    took = [median_s(lambda: resume(path, len(cells)), repeat)]
    store.create(grid.suite.name, grid.suite.version)
    store.write_grid(grid.to_yaml())
    store.storage = Unflushed(store.uri)
    half = len(cells) // 2
    for part, left in ((cells[:half], len(cells) - half), (cells[half:], 0)):
        fill(store, part)
        store.compact()
        took.append(median_s(partial(resume, path, left), repeat))
        err.print(f"{len(cells) - left:,} of {len(cells):,} cells done", highlight=False)
    commands = (("plan", path), ("status", store.uri))
    took += [median_s(command(*words), repeat) for words in commands]
    peak = max(peak_mib(*words) for words in commands)
    return [f"{len(cells):,}", *(f"{seconds:.2f}" for seconds in took), f"{peak:.0f}"]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.planning", description=__doc__)
    parser.add_argument("--cells", default="10000,100000", help="numbers of cells")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each; medians are shown")
    parser.add_argument("--root", type=Path, default=Path("data/digits-rib"))
    options = parser.parse_args(arguments)
    if not options.root.is_dir():
        parser.error(f"{options.root} is not there: rib data make digits-rib --root {options.root}")
    table = Table(title="Seconds to plan a grid, by what of it is done; and whole commands")
    heads = ("nothing", "half", "all", "rib plan", "rib status", "peak MiB of either")
    for head in ("cells", *heads):
        table.add_column(head, justify="right")
    with tempfile.TemporaryDirectory(prefix="rib-planning-") as folder:
        for n_cells in sorted(int(text) for text in options.cells.split(",")):
            table.add_row(*measure(n_cells, Path(folder), options.root, options.repeat))
    help_s = median_s(command("--help"), max(3, options.repeat))
    output = Console(width=100)
    output.print(table)
    output.print(f"rib --help: {help_s:.2f} s; {machine('ray', 'pyarrow')}", highlight=False)


if __name__ == "__main__":
    main()
