"""The store: how long a commit takes, reading before and after compaction, and a leaderboard.

Beside this project, on the same files: pandas, pyarrow and DuckDB, which read the same columns and
check nothing; and DuckDB's own group-by beside the leaderboard.

    python -m benchmarks.store [--cells 10000,100000] [--repeat 3] [--folder DIR]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from orchestrator.grid import Grid, MethodEntry
from orchestrator.grid_file import ModelEntry, Resources
from orchestrator.plan import expand
from orchestrator.results import results_of
from workers.cell import Cell, Model
from workers.labels import LabelSpace
from workers.methods import methods
from workers.recipe import Recipe
from workers.rows import describe
from workers.schemas import KEYS
from workers.storage import Storage
from workers.store import Store
from workers.suites import DatasetSpec, Suite

N_OOD, N_MODELS, METHODS = 9, 10, ("ft", "l2sp", "lwf")

PATIENCE_S = 60.0
"""A measurement that has taken this long is not repeated."""

COLUMNS = [*KEYS["accuracy"], "model", "method", "downstream", "seed", "n_correct", "n_total"]
"""What is read: of a million rows, what a leaderboard is made from."""

SUITE = Suite(
    name="store-benchmark",
    version="1",
    space=LabelSpace(("zero", "one")),
    id=DatasetSpec("val", "val", n_images=1000),
    ood=tuple(DatasetSpec(f"ood{i}", f"ood{i}", n_images=1000) for i in range(N_OOD)),
)

GROUP_BY = """
    select model, method, downstream, eval_dataset, avg(100.0 * n_correct / n_total) as accuracy
    from '{files}' where epoch is null group by all
"""

err = Console(stderr=True)


def grid_of(n_cells: int, store: str) -> Grid:
    """Return a grid of about so many cells, ten rows each."""
    kinds = methods()
    per_seed = N_MODELS * N_OOD * len(METHODS)
    models = tuple(Model(f"model{i}", f"model{i}", f"sha256:{i:064x}") for i in range(N_MODELS))
    return Grid(
        name="store-benchmark",
        suite=SUITE,
        data_root=Path(store),
        store=store,
        models=models,
        downstream=SUITE.ood_names,
        methods=tuple(MethodEntry(name, kinds[name], kinds[name].Config()) for name in METHODS),
        seeds=tuple(range(max(1, round(n_cells / per_seed)))),
        recipe=Recipe(),
        evaluate=tuple(SUITE.evaluation_sets),
        resources=Resources(),
        entries=tuple(ModelEntry(name=model.name) for model in models),
    )


def rows_of(cell: Cell, number: int) -> list[dict[str, object]]:
    """Return rows as a worker commits them, with digests, versions and times."""
    moment = pd.Timestamp(number, unit="s", tz="UTC")
    return [
        {
            **describe(cell),
            "eval_dataset": name,
            "n_correct": 600 + (number + k) % 300,
            "n_correct_unmasked": 590 + (number + k) % 300,
            "n_total": 1000,
            "n_expected": 1000,
            "loss": 1.0 + (number % 1000) / 1000,
            "dataset_digest": f"{k:064x}",
            "transform_digest": f"{0:064x}",
            "weights_digest": cell.model.weights,
            "precision": "fp32",
            "device": "NVIDIA H100 80GB HBM3",
            "torch_version": "2.9.0",
            "timm_version": "1.0.22",
            "ray_version": "2.60.0",
            "rib_version": "0.1.0",
            "git_commit": f"{0:040x}",
            "attempt": 1,
            "started_at": moment,
            "finished_at": moment,
        }
        for k, name in enumerate(SUITE.evaluation_sets)
    ]


class Unflushed(Storage):
    """Writes without waiting for the disk: what is written is thrown away at the end."""

    def write(self, name: str, data: bytes | pa.Buffer, flush: bool = True) -> None:  # noqa: ARG002
        super().write(name, data, flush=False)


def fill(store: Store, grid: Grid) -> int:
    """Fill a store with one file per cell, as a driver leaves them; return the number of cells."""
    store.create(SUITE.name, SUITE.version)
    store.storage = Unflushed(store.uri)
    n_cells = 0
    for cell in expand(grid):
        store._commit("accuracy", cell.cell_id, rows_of(cell, n_cells))
        n_cells += 1
    return n_cells


def commit_latency(folder: Path, n_commits: int = 300) -> list[float]:
    """Return the milliseconds of each of some commits of a set's rows, flushed to the disk."""
    store = Store(str(folder / "commits"))
    store.create(SUITE.name, SUITE.version)
    cell = next(expand(grid_of(1, store.uri)))
    rows = rows_of(cell, 0)[:1]
    took = []
    for number in range(n_commits):
        start = time.perf_counter()
        store.commit_accuracy(f"{number:016x}", "val", [{**rows[0], "cell_id": f"{number:016x}"}])
        took.append(1000 * (time.perf_counter() - start))
    return took


def median_s(work: Callable[[], object], repeat: int) -> float:
    """Run something a few times, or once if it is slow; return the median in seconds."""
    took: list[float] = []
    while len(took) < repeat and sum(took) < PATIENCE_S:
        start = time.perf_counter()
        work()
        took.append(time.perf_counter() - start)
    return statistics.median(took)


def readers(store: Store) -> dict[str, Callable[[], int]]:
    """Return what reads the rows, by name; each returns how many it found."""
    folder = store.storage.path("accuracy")
    names = ", ".join(COLUMNS)
    return {
        "rib": lambda: store.scan("accuracy", COLUMNS).table.num_rows,
        "rib: what is done": lambda: len(store.committed().splits),
        "pandas": lambda: len(pd.read_parquet(folder, columns=COLUMNS)),
        "pyarrow": lambda: ds.dataset(folder).to_table(COLUMNS).num_rows,
        "DuckDB": lambda: in_duckdb(f"select {names} from '{folder}/*.parquet'").num_rows,
    }


def in_duckdb(query: str) -> pa.Table:
    found = duckdb.sql(query)
    assert found is not None
    return found.to_arrow_table()


def read_all(store: Store, n_cells: int, repeat: int) -> Iterator[tuple[str, float]]:
    """Yield how long each reader takes."""
    n_rows = n_cells * (1 + N_OOD)
    for name, read in readers(store).items():
        found = read() if n_cells < 50_000 else None  # warms the page cache, too
        assert found in (None, n_rows, n_cells), f"{name} found {found} rows"
        seconds = median_s(read, repeat)
        err.print(f"  {name}: {seconds:.2f} s", highlight=False)
        yield name, seconds


def measure(n_cells: int, folder: Path, repeat: int) -> tuple[list[list[str]], list[str]]:
    """Return the rows of the reading table, and that of the leaderboard."""
    store = Store(str(folder / f"store-{n_cells}"))
    grid = grid_of(n_cells, store.uri)
    start = time.perf_counter()
    n_cells = fill(store, grid)
    err.print(f"{n_cells:,} cells written in {time.perf_counter() - start:.0f} s", highlight=False)
    before = dict(read_all(store, n_cells, repeat))
    start = time.perf_counter()
    store.compact()
    compacted = time.perf_counter() - start
    err.print(f"compacted in {compacted:.0f} s", highlight=False)
    after = dict(read_all(store, n_cells, repeat))
    reading = [
        [f"{n_cells:,}", name, f"{before[name]:.2f}", f"{after[name]:.3f}"] for name in before
    ]
    reading.append([f"{n_cells:,}", "rib compact", f"{compacted:.1f}", ""])
    files = f"{store.storage.path('accuracy')}/*.parquet"
    seconds = [
        median_s(lambda: results_of(store, grid).leaderboard(), repeat),
        median_s(lambda: len(list(expand(grid))), repeat),
        median_s(lambda: in_duckdb(GROUP_BY.format(files=files)), repeat),
    ]
    board = [f"{n_cells:,}", f"{n_cells * (1 + N_OOD):,}", *(f"{s:.2f}" for s in seconds)]
    return reading, board


def table_of(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title)
    for name in head:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.store", description=__doc__)
    parser.add_argument("--cells", default="10000,100000", help="numbers of cells")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each; medians are shown")
    parser.add_argument("--folder", help="where to make the stores; some GB for 100,000 cells")
    options = parser.parse_args(arguments)
    readings, boards = [], []
    with tempfile.TemporaryDirectory(prefix="rib-store-", dir=options.folder) as folder:
        commits = commit_latency(Path(folder))
        for n_cells in (int(text) for text in options.cells.split(",")):
            reading, board = measure(n_cells, Path(folder), options.repeat)
            readings += reading
            boards.append(board)
    output = Console(width=100)
    p50, p99 = statistics.median(commits), statistics.quantiles(commits, n=100)[98]
    output.print(
        f"commit of a set's rows, flushed: median {p50:.2f} ms, 99th percentile {p99:.2f} ms"
    )
    head = ["cells", "reader", "a file per cell, s", "compacted, s"]
    output.print(table_of("Reading the accuracy table", head, readings))
    head = ["cells", "rows", "leaderboard, s", "of it: the grid's cells, s", "DuckDB group-by, s"]
    output.print(table_of("Leaderboard of a compacted store", head, boards))
    output.print(machine("pyarrow", "pandas", "duckdb"), highlight=False)


if __name__ == "__main__":
    main()
