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
import math
import random
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from orchestrator.driver import Driver, Unsteered
from orchestrator.estimate import make_estimates
from orchestrator.executor import Job, Outcome
from orchestrator.grid import Grid, load_grid
from orchestrator.helping import Helping
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

NO_HELP = "no help, rows first"

IMAGES_PER_S = 900.0
"""Assumed of vit_base_patch16 in evaluation; hours are in proportion to it, ratios are not."""


HELPER_S = 10.0
"""Assumed of a helper: seconds until it has read a cell's weights and scores its first split."""

LOOK_S = 60.0
"""How often the driver looks whom idle GPUs can help: six times less than it does, to save time."""


@dataclass
class Running:
    """A cell on a GPU: it is trained, then scored, split by split."""

    job: Job
    begun: float
    trained: float
    """When its weights are there."""
    splits: deque[float]
    """Seconds of the splits that nobody has begun to score."""
    at_work: int = 1
    """Who trains or scores it: its own worker and those that help."""
    waits: bool = False
    """Whether its own worker has nothing more to do, and others have."""


class Clockwork:
    """An executor of so many GPUs, on which cells take the seconds that they are said to take.

    A cell's worker takes its splits from the front, those that help take them from the back.
    """

    has_queue = True
    instruments: Any = None

    def __init__(self, n_gpus: int, work: Mapping[str, tuple[float, list[float]]]) -> None:
        """Start at 0 s.

        Args:
            n_gpus: how many jobs run at once.
            work: by cell: seconds to make it, and those of each of its splits.
        """
        self.now = 0.0
        self._n_gpus, self._work = n_gpus, work
        self._running: dict[str, Running] = {}
        self._events: list[tuple[float, int, Job, Running]] = []
        self._n_events = 0
        self._n_busy = 0

    def lane(self, cell: Cell) -> str:  # noqa: ARG002
        return ""

    def capacity(self, lane: str) -> int:  # noqa: ARG002
        return self._n_gpus

    def idle(self, lane: str) -> int:  # noqa: ARG002
        return self._n_gpus - self._n_busy

    def has_weights(self, cell_id: str) -> bool:
        """Whether a cell that runs is trained by now."""
        return cell_id in self._running and self._running[cell_id].trained <= self.now

    def submit(self, job: Job) -> None:
        cell_id = job.cell.cell_id
        self._n_busy += 1
        if job.helps:
            self._running[cell_id].at_work += 1
            self._at(self.now + HELPER_S, job, self._running[cell_id])
            return
        training, splits = self._work[cell_id]
        trained = self.now + training
        self._running[cell_id] = Running(job, self.now, trained, deque(splits))
        self._at(trained, job, self._running[cell_id])

    def _at(self, when: float, job: Job, running: Running) -> None:
        """Have a worker of a job look for its next split at a time."""
        heapq.heappush(self._events, (when, self._n_events, job, running))
        self._n_events += 1

    def wait_any(self, timeout_s: float | None = None) -> tuple[Job, Outcome] | None:
        until = math.inf if timeout_s is None else self.now + timeout_s
        while self._events and self._events[0][0] <= until:
            self.now, _, job, running = heapq.heappop(self._events)
            if running.splits:
                take = running.splits.pop if job.helps else running.splits.popleft
                self._at(self.now + take(), job, running)
            elif job.helps or running.at_work == 1:
                return self._ended(job, running)
            else:  # its own worker waits for those that help
                running.waits = True
        self.now = until
        return None

    def _ended(self, job: Job, running: Running) -> tuple[Job, Outcome]:
        running.at_work -= 1
        self._n_busy -= 1
        if not job.helps:
            del self._running[job.cell.cell_id]
        elif running.waits and running.at_work == 1:
            self._at(self.now, running.job, running)
        return job, Outcome(seconds=self.now - running.begun, recorded=True)

    def cancel(self, job: Job) -> None: ...

    def why_waiting(self, lane: str) -> str:  # noqa: ARG002
        return ""

    def close(self) -> None: ...


class Nowhere(Store):
    """A store that has the weights of the cells that are trained by the clock."""

    def __init__(self, clockwork: Clockwork) -> None:
        super().__init__(".")
        self._clockwork = clockwork

    def has_checkpoint(self, cell_id: str) -> bool:
        return self._clockwork.has_weights(cell_id)

    def seal(self, cell_id: str, parts: Any) -> None: ...


class Looking(Unsteered):
    """Has the driver look round every LOOK_S."""

    poll_s = LOOK_S


def per_image(model: str) -> float:
    """Return the seconds of a forward pass of one image."""
    own = next(gmacs for start, gmacs in GMACS.items() if model.startswith(start))
    return own / GMACS["vit_base_patch16"] / IMAGES_PER_S


def seconds_of(node: Node) -> float:
    return node.cost * per_image(node.cell.model.name)


def work_of(grid: Grid, node: Node) -> tuple[float, list[float]]:
    """Return the seconds that making a cell takes, and those of each split that it is scored on."""
    sets = grid.suite.evaluation_sets
    pace = per_image(node.cell.model.name)
    splits = [
        pace * (sets[name].n_images or 0) / len(sets[name].splits)
        for name in node.missing
        for _ in sets[name].splits
    ]
    return seconds_of(node) - sum(splits), splits


def bound(plan: Plan, work: Mapping[str, tuple[float, list[float]]], n_gpus: int) -> float:
    """Return the seconds below which nothing can get the plan done.

    They are the larger of all work over all GPUs and of the longest chain: of cells that are made
    from one another, and a split of the last, since no split is divided.
    """
    chain: dict[str, float] = {}
    for cell_id in reversed(plan.nodes):
        making, splits = work.get(cell_id, (0.0, []))
        below = max((chain[child] for child in plan.waiting[cell_id]), default=0.0)
        chain[cell_id] = making + max(below, max(splits, default=0.0))
    total = sum(making + sum(splits) for making, splits in work.values())
    return max(total / n_gpus, *chain.values())


def makespan(
    plan: Plan,
    priority: Mapping[str, float],
    work: Mapping[str, tuple[float, list[float]]],
    n_gpus: int,
    helps: bool = True,
) -> float:
    """Return the simulated seconds in which the driver gets a plan done."""
    executor = Clockwork(n_gpus, work)
    store = Nowhere(executor)
    driver = Driver(plan, executor, store, steering=Looking() if helps else None)
    look_s = LOOK_S if helps else math.inf
    driver.helping = Helping(plan, store, look_s, clock=lambda: executor.now)
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
        "rib run, speeds given": plan.priority_by(lambda n: per_image(n.cell.model.name)),
        "rib run, else": plan.priority_by(lambda n: slowness[n.cell.model.name]),
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
    work = {cell_id: work_of(grid, plan.nodes[cell_id]) for cell_id in plan.todo}
    table = Table(title=f"{grid.name}: {len(plan.todo)} cells; time / the least possible")
    compared = orders(grid, plan)
    for head in ("GPUs", "least, h", *compared, NO_HELP):
        table.add_column(head, justify="right")
    started = time.perf_counter()
    for n_gpus in (int(text) for text in options.gpus.split(",")):
        least = bound(plan, work, n_gpus)
        took = [makespan(plan, order, work, n_gpus) for order in compared.values()]
        took.append(makespan(plan, next(iter(compared.values())), work, n_gpus, helps=False))
        table.add_row(str(n_gpus), f"{least / 3600:.1f}", *(f"{t / least:.3f}" for t in took))
    n_runs = len(options.gpus.split(",")) * (len(compared) + 1)
    per_cell = 1000 * (time.perf_counter() - started) / n_runs / len(plan.todo)
    output = Console(width=100)
    output.print(table)
    total = sum(making + sum(splits) for making, splits in work.values())
    output.print(
        f"{total / 3600:,.0f} GPU-hours at {IMAGES_PER_S:.0f} images/s of "
        f"vit_base_patch16; the driver itself: {per_cell:.2f} ms a cell; {machine()}",
        highlight=False,
    )


if __name__ == "__main__":
    main()
