"""The chaos test itself: grids under fire, one after another, until all faults have hit."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.cluster import Nodes
from tests.chaos.compare import Comparison, compare, tries
from tests.chaos.faults import KINDS, Draw, World, draws
from tests.chaos.grid import write_grid
from tests.chaos.operator import DONE, Operator, call_rib, rib, verification
from tests.chaos.sandbox import PROJECT, Sandbox, processes_left

TICK_S = 0.1
UNDISTURBED_LOG = "undisturbed.log"
TARGET_APPEARS_S = 20.0
"""How long a fault waits for something to hit; then it has missed, and the next one comes."""
STUCK_S = 300.0
"""Without a new file in the store for this long, nothing goes on."""
PROCESSES_END_S = 120.0
"""Ray's agents notice within about 75 s that their raylet has died."""


@dataclass(frozen=True)
class Options:
    """What is to be done."""

    faults: int
    seed: int
    every: float
    """Seconds between two faults, on average."""
    nodes: int
    frozen: float
    """Seconds that a worker is stopped."""
    kinds: tuple[str, ...]
    data: Path
    small: bool


@dataclass
class Report:
    """What was done, and what was found."""

    faults: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    cells: int = 0
    tries: int = 0
    cells_tried_again: int = 0
    failed_tries: Counter[str] = field(default_factory=Counter)
    """By kind of error."""
    drivers: Counter[str] = field(default_factory=Counter)
    cells_retried_by_operator: int = 0
    workers_woken: int = 0
    """Frozen ones that lived to wake."""
    files_set_aside: int = 0
    comparison: Comparison = field(default_factory=Comparison)
    faults_of_verify: list[str] = field(default_factory=list)
    temporary_files: list[str] = field(default_factory=list)
    processes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What should not have happened beside all that."""
    seconds: float = 0.0

    @property
    def findings(self) -> list[str]:
        """Everything that speaks against the program."""
        return [
            *self.comparison.differences,
            *self.faults_of_verify,
            *self.temporary_files,
            *self.processes,
            *self.problems,
        ]


class StuckError(Exception):
    """Nothing goes on any more. Says since when and where."""


class Chaos:
    """Runs the grid under fire as often as it takes to inject all faults."""

    def __init__(self, options: Options, box: Sandbox, tell: Callable[[str], None]) -> None:
        self._options, self._box, self._tell = options, box, tell
        self._draws = draws(options.seed, options.kinds)
        self._report = Report()

    def run(self) -> Report:
        """Do it all; what went wrong is in the report."""
        start = time.monotonic()
        try:
            self._run_rounds()
        except StuckError as error:
            self._report.problems.append(str(error))
        self._report.processes = processes_left(PROCESSES_END_S)
        self._report.temporary_files += self._box.left_over()
        self._report.seconds = time.monotonic() - start
        return self._report

    def _run_rounds(self) -> None:
        with ExitStack() as ending:
            peace = self._start_undisturbed()
            ending.callback(peace.kill)
            nodes = Nodes()
            ending.callback(nodes.close)
            for _ in range(self._options.nodes):
                nodes.add()
            self._tell(f"{self._options.nodes} nodes are up")
            while self._report.faults.total() < self._options.faults:
                store = self._run_round(nodes)
                if peace.wait() != DONE:
                    said = (self._box.logs / UNDISTURBED_LOG).read_text(errors="replace")
                    raise RuntimeError(f"the undisturbed run failed:\n{said}")
                self._look_at(store)

    def _start_undisturbed(self) -> subprocess.Popen[bytes]:
        """Run the same cells in one process, in peace; make the suite first if it is not there."""
        options, box = self._options, self._box
        if not options.data.exists():
            self._tell(f"making the suite in {options.data}")
            call_rib("data", "make", "digits-rib", "--root", options.data).check_returncode()
        grid = write_grid(box.root / "peace.yaml", options.data, options.small, gpus=0)
        command = rib("run", grid, "--store", box.undisturbed, "--executor", "inline")
        with (box.logs / UNDISTURBED_LOG).open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, cwd=PROJECT)

    def _run_round(self, nodes: Nodes) -> Path:
        """Run the grid into a new store under fire; return that."""
        report, options, box = self._report, self._options, self._box
        report.rounds += 1
        grid = write_grid(box.root / "grid.yaml", options.data, options.small, gpus=1)
        store = box.disk / f"round-{report.rounds}"
        operator = Operator(box, grid, store, nodes.address)
        world = World(box, nodes, operator, options.frozen)
        try:
            Siege(world, self._draws, options, report, self._tell).run()
        finally:
            operator.close()
            report.drivers += operator.endings
            report.cells_retried_by_operator += operator.n_retried
            report.workers_woken += world.woken
            report.problems += [*world.problems, *operator.problems]
        return store

    def _look_at(self, store: Path) -> None:
        report = self._report
        found = compare(store, self._box.undisturbed)
        report.comparison.add(found)
        attempts = tries(store)
        of_cell = attempts.groupby("cell_id").size()
        report.cells += len(of_cell)
        report.tries += len(attempts)
        report.cells_tried_again += int((of_cell > 1).sum())
        report.failed_tries.update(attempts["error_kind"].dropna())
        report.files_set_aside += len(list((store / "damaged").glob("*")))
        self._tell(
            f"round {report.rounds}: {found.rows} rows compared, "
            f"{len(found.differences)} differences"
        )


class Siege:
    """One grid under fire until its store is complete, then in peace until it is whole."""

    def __init__(
        self,
        world: World,
        faults: Iterator[Draw],
        options: Options,
        report: Report,
        tell: Callable[[str], None],
    ) -> None:
        self._world, self._draws, self._options = world, faults, options
        self._report, self._tell = report, tell
        self._next: Draw | None = None
        self._due = 0.0
        self._progress = Progress(world.store)

    def run(self) -> None:
        """Run the grid to its end, whatever happens, and clean up as an operator would."""
        operator = self._world.operator
        self._schedule()
        while not operator.is_done:
            self._tick()
            if self._has_more and time.monotonic() >= self._due:
                self._inject()
        while self._world.lasting:
            self._tick()
        self._clean_up()

    def _clean_up(self) -> None:
        """Set aside what `rib verify` names, and let a last driver see that all is done."""
        operator, store = self._world.operator, self._world.store
        call_rib("verify", store, "--set-aside")
        operator.start_over()
        while not operator.is_done:
            self._tick()
        found = verification(store)
        self._report.faults_of_verify += [str(fault) for fault in found["faults"]]
        self._report.problems += [
            f"rib verify: {note}" for note in found["notes"] if "set aside" not in note
        ]
        left = [path for path in store.rglob("*") if path.name.endswith(".tmp")]
        self._report.temporary_files += map(str, left)

    def _tick(self) -> None:
        self._world.operator.tend()
        self._world.lasting[:] = [one for one in self._world.lasting if not one.is_over()]
        self._progress.check()
        time.sleep(TICK_S)

    @property
    def _has_more(self) -> bool:
        return self._report.faults.total() < self._options.faults

    def _schedule(self) -> None:
        self._next = next(self._draws)
        self._due = time.monotonic() + self._next.pause * self._options.every

    def _inject(self) -> None:
        """Inject the fault that is due, if there is something to hit."""
        draw = self._next
        assert draw is not None
        hit = KINDS[draw.kind].strike(self._world, draw.place)
        if hit is not None:
            self._report.faults[draw.kind] += 1
            self._tell(f"{self._report.faults.total():3d} {draw.kind}: {hit}")
            self._schedule()
        elif time.monotonic() - self._due > TARGET_APPEARS_S:
            self._report.missed[draw.kind] += 1
            self._tell(f"    {draw.kind}: found nothing to hit")
            self._schedule()


class Progress:
    """Watches whether files keep coming into a store."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._newest = 0.0
        self._since = time.monotonic()
        self._looked = 0.0

    def check(self) -> None:
        """Look now and then.

        Raises:
            StuckError: when nothing has come for STUCK_S.
        """
        now = time.monotonic()
        if now - self._looked < 1:
            return
        self._looked = now
        newest = max((_modified(path) for path in self._files()), default=0.0)
        if newest > self._newest:
            self._newest, self._since = newest, now
        if now - self._since > STUCK_S:
            raise StuckError(f"{self._store.name}: no new file for {STUCK_S:g} s")

    def _files(self) -> Iterator[Path]:
        for folder in ("accuracy", "attempts", "artifacts/*"):
            yield from self._store.glob(f"{folder}/*")


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
