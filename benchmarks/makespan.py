"""How long the paper's grid takes on many GPUs, beside the least that is possible. Simulated.

The driver runs the real plan of a grid, with its edges and its order, on an executor whose clock
is a number: a cell ends when its images have gone by at the speed of its model. Nothing can be
quicker than max(all work / GPUs, the longest chain of cells that start from each other). `rib run`
takes the longest chains first, in seconds where it is given speeds, by the size of weights where it
is not. Beside that: by images alone; and what a script would do, the grid's order or any order.

    python -m benchmarks.makespan [--grid grids/paper.yaml] [--gpus 8,64,256,1000]
"""

from __future__ import annotations

import argparse
import heapq
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from orchestrator.driver import Driver
from orchestrator.estimate import make_estimates
from orchestrator.executor import Job, Outcome
from orchestrator.grid import Grid, load_grid
from orchestrator.keep import order_of
from orchestrator.plan import Node, Plan, make_plan
from workers.cell import Cell
from workers.store import Committed, Store

GMACS = {
    "vit_large_patch16_224": 61.6,
    "vit_base_patch16": 17.6,
    "vit_base_patch32": 4.4,
    "vit_small_patch16": 4.6,
    "vit_small_patch32": 1.2,
    "resnet50": 4.1,
    "resnet18": 1.8,
}
"""Of a forward pass of one image of 224 px, by how a model's name begins: for its speed relative to
others, which is all that counts here."""

IMAGES_PER_S = 900.0
"""Assumed of vit_base_patch16 in evaluation; hours are in proportion to it, ratios are not."""


class Clockwork:
    """An executor of so many GPUs, on which a cell takes the seconds that it is said to take."""

    has_queue = False
    instruments: Any = None

    def __init__(self, n_gpus: int, seconds: Mapping[str, float]) -> None:
        self.now = 0.0
        self._n_gpus, self._seconds = n_gpus, seconds
        self._running: list[tuple[float, str, Job]] = []

    def lane(self, cell: Cell) -> str:  # noqa: ARG002
        return ""

    def capacity(self, lane: str) -> int:  # noqa: ARG002
        return self._n_gpus

    def submit(self, job: Job) -> None:
        cell_id = job.cell.cell_id
        heapq.heappush(self._running, (self.now + self._seconds[cell_id], cell_id, job))

    def wait_any(self, timeout_s: float | None = None) -> tuple[Job, Outcome] | None:  # noqa: ARG002
        self.now, cell_id, job = heapq.heappop(self._running)
        return job, Outcome(seconds=self._seconds[cell_id], recorded=True)

    def cancel(self, job: Job) -> None: ...

    def why_waiting(self, lane: str) -> str:  # noqa: ARG002
        return ""

    def close(self) -> None: ...


class Nowhere(Store):
    """A store that no cell has written to."""

    def seal(self, cell_id: str, eval_datasets: Any) -> None: ...


def per_image(model: str) -> float:
    """Return the seconds of a forward pass of one image."""
    own = next(gmacs for start, gmacs in GMACS.items() if model.startswith(start))
    return own / GMACS["vit_base_patch16"] / IMAGES_PER_S


def seconds_of(node: Node) -> float:
    return node.cost * per_image(node.cell.model.name)


def bound(plan: Plan, seconds: Mapping[str, float], n_gpus: int) -> float:
    """Return the seconds below which nothing can get the plan done."""
    chain = max(plan.priority_by(seconds_of).values())
    return max(sum(seconds.values()) / n_gpus, chain)


def makespan(
    plan: Plan, priority: Mapping[str, float], seconds: Mapping[str, float], n_gpus: int
) -> float:
    """Return the simulated seconds in which the driver gets a plan done."""
    executor = Clockwork(n_gpus, seconds)
    driver = Driver(plan, executor, Nowhere("."))
    driver.priority = priority
    summary = driver.run()
    assert len(summary.done) == len(plan.todo), summary
    return executor.now


def in_any_order(plan: Plan) -> dict[str, float]:
    draw = random.Random(0)
    return {cell_id: draw.random() for cell_id in plan.nodes}


def orders(grid: Grid, plan: Plan) -> dict[str, Mapping[str, float]]:
    """Return the priorities that are compared, by name."""
    slowness = make_estimates(grid, {}).slowness(plan.nodes.values())
    return {
        "rib run, speeds given": plan.priority_by(seconds_of),
        "rib run, else": plan.priority_by(lambda n: n.cost * slowness[n.cell.model.name]),
        "by images alone": plan.priority,
        "the grid's order": order_of(plan),
        "any order": in_any_order(plan),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.makespan", description=__doc__)
    parser.add_argument("--grid", type=Path, default=Path("grids/paper.yaml"))
    parser.add_argument("--gpus", default="8,64,256,1000", help="numbers of GPUs")
    options = parser.parse_args(arguments)
    grid = load_grid(options.grid)
    plan = make_plan(grid, Committed())
    seconds = {cell_id: seconds_of(plan.nodes[cell_id]) for cell_id in plan.todo}
    table = Table(title=f"{grid.name}: {len(plan.todo)} cells; time / the least possible")
    compared = orders(grid, plan)
    for head in ("GPUs", "least, h", *compared):
        table.add_column(head, justify="right")
    started = time.perf_counter()
    for n_gpus in (int(text) for text in options.gpus.split(",")):
        least = bound(plan, seconds, n_gpus)
        took = [makespan(plan, order, seconds, n_gpus) for order in compared.values()]
        table.add_row(str(n_gpus), f"{least / 3600:.1f}", *(f"{t / least:.3f}" for t in took))
    n_runs = len(options.gpus.split(",")) * len(compared)
    per_cell = 1000 * (time.perf_counter() - started) / n_runs / len(plan.todo)
    output = Console(width=100)
    output.print(table)
    output.print(
        f"{sum(seconds.values()) / 3600:,.0f} GPU-hours at {IMAGES_PER_S:.0f} images/s of "
        f"vit_base_patch16; the driver itself: {per_cell:.2f} ms a cell; {machine()}",
        highlight=False,
    )


if __name__ == "__main__":
    main()
