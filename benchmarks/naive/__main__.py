"""A whole grid beside the same cells as one process each: wall time, CPU time, and the numbers.

Both run two cells at a time, a thread each, on the same data; the rival's processes begin with
those that others start from, as its checkpoints allow. CPU time is the whole machine's, from
/proc/stat: let nothing else run. The number of right images has to be the same of every cell and
set, but for predictions that rounding turns: where work is shared, it is done in other batches. Of
`rib run` it is also said how near its cells came, once the first had begun, to the least time in
which they could have been done.

    python -m benchmarks.naive [--models vit_digits,resnet_digits] [--downstream all]
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from benchmarks.real_makespan import makespan
from orchestrator.grid import Grid, load_grid
from orchestrator.plan import every_cell
from workers.cell import Cell
from workers.store import Store, open_store

SCRIPT = Path(__file__).with_name("cell.py")
AT_A_TIME = 2
EPOCHS = 3

GRID = """
name: naive
suite: digits-rib
data_root: {root}
models: [{models}]
downstream: {downstream}
methods: [ft, l2sp, lwf, lp, lp-ft, wise-ft, {{method: soup, members: [pretrained, ft, l2sp, lwf]}}]
recipe: {{warmup_steps: 5, epochs: {epochs}, batch_size: 32, precision: fp32}}
"""

err = Console(stderr=True)


@dataclass(frozen=True)
class Cost:
    """What a contender took, in seconds."""

    wall: float
    cpu: float


class Stopwatch:
    """Measures wall time, and the CPU time of the whole machine."""

    def __enter__(self) -> Stopwatch:
        self._wall, self._cpu = time.monotonic(), busy_seconds()
        return self

    def __exit__(self, *_: object) -> None:
        self.cost = Cost(time.monotonic() - self._wall, busy_seconds() - self._cpu)


def busy_seconds() -> float:
    """Return the CPU time of all processes since the machine started."""
    user, nice, system, _idle, _wait, irq, soft, *_ = (
        int(text) for text in Path("/proc/stat").read_text().split("\n")[0].split()[1:]
    )
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


def run_grid(path: Path, store: Path) -> Cost:
    """Run the grid as a user does."""
    command = [sys.executable, "-m", "orchestrator", "run", str(path), "--store", str(store)]
    with Stopwatch() as watch:
        subprocess.run([*command, "--cpus", str(AT_A_TIME)], check=True, stdout=subprocess.DEVNULL)
    return watch.cost


def run_processes(grid: Grid, cells: Sequence[Cell], folder: Path) -> Cost:
    """Run each cell in a process of its own."""
    folder.mkdir()
    ready = [cell for cell in cells if all(p.is_baseline for p in cell.parents)]
    later = [cell for cell in cells if cell not in ready]
    with Stopwatch() as watch, ThreadPoolExecutor(AT_A_TIME) as pool:
        for stage in (ready, later):
            list(pool.map(lambda cell: run_process(grid, cell, folder), stage))
    return watch.cost


def run_process(grid: Grid, cell: Cell, folder: Path) -> None:
    options = ["--root", grid.data_root, "--model", cell.model.name, "--method", cell.label]
    options += ["--epochs", EPOCHS, "--seed", cell.derive_seed("train")]
    options += ["--out", folder / f"{cell.cell_id}.csv", "--evaluate", *grid.evaluate]
    if cell.downstream is not None:
        options += ["--downstream", cell.downstream]
        options += ["--save", folder / f"{cell.cell_id}.safetensors"]
    starts = [p for p in cell.parents if not p.is_baseline]
    options += ["--start", *(folder / f"{p.cell_id}.safetensors" for p in starts)]
    subprocess.run([sys.executable, str(SCRIPT), *map(str, options)], check=True)


def compare(store: Path, folder: Path) -> tuple[int, int, int]:
    """Return the rows that both have, those that differ, and by how many images at most."""
    rows = open_store(str(store)).scan("accuracy").table.to_pandas()
    name = rows["eval_dataset"].where(
        rows["corruption"].isna(),
        "c/" + rows["corruption"] + "/" + rows["severity"].astype("Int64").astype(str),
    )
    ours = dict(zip(zip(rows["cell_id"], name, strict=True), rows["n_correct"], strict=True))
    theirs = {}
    for path in folder.glob("*.csv"):
        with path.open(newline="") as file:
            for set_name, correct, _total in csv.reader(file):
                theirs[(path.stem, set_name)] = int(correct)
    assert ours.keys() == theirs.keys(), sorted(ours.keys() ^ theirs.keys())[:10]
    gaps = pd.Series([abs(ours[key] - theirs[key]) for key in ours])
    return len(gaps), int((gaps > 0).sum()), int(gaps.max())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.naive", description=__doc__)
    parser.add_argument("--models", default="vit_digits,resnet_digits")
    parser.add_argument("--downstream", default="all", help="all, or names with commas")
    parser.add_argument("--root", type=Path, default=Path("data/digits-rib"))
    options = parser.parse_args(arguments)
    if not options.root.is_dir():
        parser.error(f"{options.root} is not there: rib data make digits-rib --root {options.root}")
    names = options.downstream
    with tempfile.TemporaryDirectory(prefix="rib-naive-") as temporary:
        folder = Path(temporary)
        path = folder / "grid.yaml"
        path.write_text(
            GRID.format(
                root=options.root.resolve(),
                models=options.models,
                downstream="all" if names == "all" else f"[{names}]",
                epochs=EPOCHS,
            )
        )
        grid = load_grid(path, str(folder / "store"))
        cells = list(every_cell(grid).values())
        err.print(f"{len(cells)} cells, {AT_A_TIME} at a time", highlight=False)
        ours = run_grid(path, folder / "store")
        err.print(f"rib run: {ours.wall:.0f} s", highlight=False)
        theirs = run_processes(grid, cells, folder / "processes")
        err.print(f"a process per cell: {theirs.wall:.0f} s", highlight=False)
        spread, least = makespan(Store(str(folder / "store")), cells, AT_A_TIME)
        n_rows, n_different, most = compare(folder / "store", folder / "processes")
    table = Table(title=f"{len(cells)} cells of digits-rib")
    for head in ("", "wall s", "CPU s", "s a cell"):
        table.add_column(head, justify="right" if head else "left")
    for name, cost in (("rib run", ours), ("a process per cell", theirs)):
        per_cell = cost.wall / len(cells)
        table.add_row(name, f"{cost.wall:.0f}", f"{cost.cpu:.0f}", f"{per_cell:.2f}")
    ratios = (theirs.wall / ours.wall, theirs.cpu / ours.cpu)
    table.add_row("ratio", *(f"{ratio:.1f}" for ratio in ratios), "")
    output = Console(width=100)
    output.print(table)
    output.print(
        f"rib run's cells took {spread:.1f} s from the first start to the last end, "
        f"{spread / least:.3f} of the least possible, {least:.1f} s",
        highlight=False,
    )
    output.print(
        f"{n_rows} rows: {n_different} differ, by {most} images at most; "
        + machine("ray", "torch"),
        highlight=False,
    )


if __name__ == "__main__":
    main()
