"""What is done to a grid that runs: a function per kind of fault, and the order they come in.

A fault counts when it has hit: the process was there and is gone or stopped, the file is as short
as it was made, the disk takes no byte more.
"""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from tests.chaos.cluster import Nodes, Worker, freeze, kill
from tests.chaos.operator import Driver, Operator
from tests.chaos.sandbox import Sandbox, is_gone

T = TypeVar("T")

FULL_S = 3.0
NOTICES_S = 60.0
"""How long a driver that wakes may take to find its place taken."""


class Aftermath(Protocol):
    """A fault that lasts."""

    def is_over(self) -> bool:
        """Go on with it; called several times a second until it is over."""


@dataclass
class World:
    """All that faults happen to."""

    box: Sandbox
    nodes: Nodes
    operator: Operator
    frozen_s: float
    """How long a worker is stopped."""
    lasting: list[Aftermath] = field(default_factory=list)
    woken: int = 0
    """Frozen workers that lived to wake."""
    problems: list[str] = field(default_factory=list)

    @property
    def store(self) -> Path:
        return self.operator.store


Strike = Callable[[World, float], str | None]
"""Injects a fault; given which of the targets, from 0 (the first) to 1. Returns what was hit."""


@dataclass(frozen=True)
class Kind:
    """A kind of fault."""

    what: str
    weight: int
    """How many of each deck are of this kind."""
    strike: Strike
    needs_isolation: bool = False


@dataclass(frozen=True)
class Draw:
    """A fault to come."""

    kind: str
    place: float
    """Which of the targets that there are then, from 0 to 1."""
    pause: float
    """Before it, as a multiple of the usual."""


def draws(seed: int, kinds: Sequence[str]) -> Iterator[Draw]:
    """Yield the faults of a seed, in shuffled decks.

    The first has each kind once, the others have each as often as its weight says.
    """
    generator = random.Random(seed)
    deck = list(kinds)
    while True:
        generator.shuffle(deck)
        for kind in deck:
            yield Draw(kind, generator.random(), generator.uniform(0.5, 1.5))
        deck = [kind for kind in kinds for _ in range(KINDS[kind].weight)]


# ---------------------------------------------------------------------- killing


def kill_worker(world: World, place: float) -> str | None:
    worker = _one_of(world.nodes.workers(), place)
    if worker is None or not kill(worker.process):
        return None
    return f"worker {worker.process.pid} at cell {worker.cell_id}"


def kill_raylet(world: World, place: float) -> str | None:
    node = _one_of(world.nodes.nodes, place)
    assert node is not None  # for each that is lost, one is added
    was_hit = world.nodes.lose(node)
    world.nodes.add()
    return f"raylet of node {node.node_id[:8]}" if was_hit else None


def kill_driver(world: World, place: float) -> str | None:
    driver = world.operator.current
    if driver is None or world.operator.is_waiting or not driver.is_alive or not driver.kill():
        return None
    return f"driver {driver.pid}"


# ---------------------------------------------------------------------- the disk


@dataclass
class FullDisk:
    """Takes every byte that gets free, for a while."""

    filler: Path
    until: float

    def fill(self) -> bool:
        """Take what is free; return whether the disk then takes no byte more."""
        with self.filler.open("ab", buffering=0) as stream:
            try:
                while True:
                    stream.write(bytes(1 << 16))
            except OSError as error:
                return error.errno == errno.ENOSPC

    def is_over(self) -> bool:
        if time.monotonic() < self.until:
            self.fill()
            return False
        self.filler.unlink()
        return True


def fill_disk(world: World, place: float) -> str | None:
    full = FullDisk(world.box.disk / "filler", time.monotonic() + FULL_S)
    if full.filler.exists():
        return None
    is_full = full.fill()
    world.lasting.append(full)
    return f"no byte free for {FULL_S:g} s" if is_full else None


# ---------------------------------------------------------------------- files cut short


def cut_table(world: World, place: float) -> str | None:
    files = [*world.store.glob("accuracy/*.parquet"), *world.store.glob("attempts/*.parquet")]
    return _cut(world, _one_of(sorted(files), place))


def cut_checkpoint(world: World, place: float) -> str | None:
    return _cut(world, _one_of(sorted(world.store.glob("artifacts/*/model.safetensors")), place))


def cut_state(world: World, place: float) -> str | None:
    """Cut a cell's newest training state short, and kill its worker so that it is needed."""
    newest = {path.parent: path for path in sorted(world.store.glob("artifacts/*/training.*"))}
    chosen = _one_of(list(newest.values()), place)
    hit = _cut(world, chosen)
    if hit is None or chosen is None:
        return None
    killed = [w for w in world.nodes.workers() if w.cell_id == chosen.parent.name]
    return hit + "".join(f", and worker {w.process.pid}" for w in killed if kill(w.process))


def _cut(world: World, path: Path | None) -> str | None:
    """Cut a file to half of its length; nothing is hit when it was replaced meanwhile."""
    if path is None:
        return None
    try:
        with path.open("r+b") as stream:
            size = os.fstat(stream.fileno()).st_size
            stream.truncate(size // 2)
            was_hit = os.fstat(stream.fileno()).st_ino == path.stat().st_ino and size > 1
    except FileNotFoundError:
        return None
    return f"{path.relative_to(world.store)} cut to {size // 2} bytes" if was_hit else None


# ---------------------------------------------------------------------- freezing


@dataclass
class FrozenWorker:
    """A worker that wakes after a while, if it is still there."""

    world: World
    worker: Worker
    until: float

    def is_over(self) -> bool:
        if is_gone(self.worker.process):
            return True
        if time.monotonic() < self.until:
            return False
        self.worker.process.resume()
        self.world.woken += 1
        return True


def freeze_worker(world: World, place: float) -> str | None:
    worker = _one_of([w for w in world.nodes.workers() if not _is_frozen(world, w)], place)
    if worker is None or not freeze(worker.process):
        return None
    world.lasting.append(FrozenWorker(world, worker, time.monotonic() + world.frozen_s))
    return f"worker {worker.process.pid} at cell {worker.cell_id}"


def cut_off_worker(world: World, place: float) -> str | None:
    """Freeze a worker and kill its raylet: its cell is tried elsewhere before it wakes."""
    hit = freeze_worker(world, place)
    if hit is None:
        return None
    (*_, frozen) = world.lasting
    assert isinstance(frozen, FrozenWorker)
    was_hit = world.nodes.lose(frozen.worker.node)
    world.nodes.add()
    return f"{hit}, and its raylet" if was_hit else None


@dataclass
class FrozenDriver:
    """A driver that wakes when another has its place, and has to notice."""

    world: World
    driver: Driver
    woken_at: float | None = None

    def is_over(self) -> bool:
        if self.woken_at is None:
            if self.world.operator.is_waiting:
                return False
            self.driver.process_info.resume()
            self.woken_at = time.monotonic()
        if not self.driver.is_alive:
            code, said = self.driver.process.returncode, self.driver.said
            if code != 1 or "is driven from here no longer" not in said:
                self._complain(f"ended with exit code {code} when its place was taken")
        elif time.monotonic() - self.woken_at > NOTICES_S:
            self._complain(f"did not notice for {NOTICES_S:g} s that its place was taken")
            self.driver.kill()
        else:
            return False
        self.world.operator.file_displaced(self.driver)
        return True

    def _complain(self, what: str) -> None:
        self.world.problems.append(f"the frozen driver of {self.driver.log.name} {what}")


def freeze_driver(world: World, place: float) -> str | None:
    """Freeze the driver; the next one, elsewhere, waits until its lease has expired."""
    operator = world.operator
    driver = operator.current
    if driver is None or operator.displaced or not operator.drives(driver):
        return None
    if not freeze(driver.process_info):
        return None
    operator.move()
    world.lasting.append(FrozenDriver(world, driver))
    return f"driver {driver.pid}"


def _is_frozen(world: World, worker: Worker) -> bool:
    frozen = [one.worker.process for one in world.lasting if isinstance(one, FrozenWorker)]
    return worker.process in frozen


def _one_of(targets: Sequence[T], place: float) -> T | None:
    return targets[int(place * len(targets))] if targets else None


KINDS: dict[str, Kind] = {
    "worker": Kind("SIGKILL of a worker that runs a cell", 5, kill_worker),
    "raylet": Kind("SIGKILL of a raylet; a node is added", 3, kill_raylet),
    "driver": Kind("SIGKILL of the driver", 3, kill_driver),
    "disk": Kind("the disk full for 3 s", 2, fill_disk, needs_isolation=True),
    "table": Kind("a file of rows or tries cut short", 3, cut_table),
    "checkpoint": Kind("a checkpoint cut short", 2, cut_checkpoint),
    "state": Kind("a training state cut short, its worker killed", 3, cut_state),
    "freeze": Kind("a worker stopped past the lease", 1, freeze_worker),
    "cut-off": Kind("the same, and its raylet killed: its cell goes elsewhere", 1, cut_off_worker),
    "displace": Kind(
        "the driver stopped until another has its place", 1, freeze_driver, needs_isolation=True
    ),
}
