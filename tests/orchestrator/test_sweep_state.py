"""How a sweep goes: states, places, what waits too long, the pace, and how that is shown."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator import live_view, pace, progress, sweep_state
from orchestrator.driver import Driver, Event
from orchestrator.executor import InlineExecutor, Job, Outcome
from orchestrator.pace import Pace
from orchestrator.plan import Node, Plan
from orchestrator.progress import Display
from orchestrator.sweep_state import AGAIN_S, LOOK_S, PENDING_S, SweepState
from orchestrator.watch import Unwatched, watching
from tests.cells import make_cell
from tests.orchestrator.test_driver import Scripted
from workers.attempts import begun_row
from workers.cell import Cell
from workers.job import Site
from workers.outcome import ErrorKind as E
from workers.run import execute
from workers.store import Store

A, B = make_cell("a"), make_cell("b", seed=1)
CHILD = make_cell("child", (A,))
GPU = "GPU-01234567-89ab-cdef-0123-456789abcdef NVIDIA H100 80GB HBM3"


class Clock:
    """Stands for the clock of the modules that are tested."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (sweep_state, progress, live_view):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path))
    store.create("s", "1")
    return store


def node_of(cell: Cell, training: int = 0, evaluation: int = 10) -> Node:
    return Node(cell, ("val",), ("val",), False, training, evaluation)


def plan_of(*cells: Cell) -> Plan:
    nodes = {cell.cell_id: node_of(cell) for cell in cells}
    return Plan(nodes, frozenset(nodes))


def event(kind: str, cell: Cell, outcome: Outcome | None = None) -> Event:
    return Event(kind, node_of(cell), outcome, attempt=1)


def begin(store: Store, cell: Cell, gpu: str = "") -> None:
    """Do what a worker does first."""
    store.commit_attempt({**begun_row(Job(cell, ("val",)), Site("", "")), "host": "n1", "gpu": gpu})


def states(state: SweepState) -> dict[str, int]:
    return {name: n for name, n in state.counts.items() if n}


# ---------------------------------------------------------------------- states and places


def test_a_cell_is_queued_until_its_worker_says_that_it_runs(store: Store, clock: Clock) -> None:
    state = SweepState(plan_of(A, B, CHILD), Scripted(store), store)
    assert states(state) == {"waiting": 3}
    state.see(event("submitted", A))
    state.see(event("submitted", B))
    assert state.look_round()
    assert states(state) == {"queued": 2, "waiting": 1}
    begin(store, B, GPU)
    assert not state.look_round(), "it has looked just now"
    clock.now += LOOK_S
    assert state.look_round()
    assert states(state) == {"running": 1, "queued": 1, "waiting": 1}
    [flight] = state.running()
    assert flight.place is not None
    assert (flight.place.host, flight.place.gpu) == ("n1", GPU)
    state.see(event("done", B, Outcome(seconds=2.0)))
    state.see(event("failed", A, Outcome(error=E.DIVERGED)))
    state.see(event("blocked", CHILD))
    assert states(state) == {"done": 1, "diverged": 1, "blocked": 1}


def test_a_slow_store_is_looked_at_for_a_twentieth_of_the_time(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    took_s, reads = 0.5, []

    def slow(cell_id: str, attempt: int) -> None:
        clock.now += took_s
        reads.append((cell_id, attempt))

    monkeypatch.setattr(store, "read_attempt", slow)
    state = SweepState(plan_of(A, B), Scripted(store), store)
    state.see(event("submitted", A))
    state.see(event("submitted", B))
    started = clock.now
    while clock.now < started + 600:
        if not state.look_round():
            clock.now += 0.1
    assert len(reads) > 2
    assert len(reads) * took_s <= (clock.now - started) / 20 + 2 * took_s  # and one look more


def test_a_cell_that_is_tried_again_waits(store: Store, clock: Clock) -> None:
    state = SweepState(plan_of(A), Scripted(store), store)
    state.see(event("submitted", A))
    state.see(event("retry", A, Outcome(error=E.WORKER_CRASH)))
    assert states(state) == {"waiting": 1}


def test_few_rows_are_read_at_a_time_and_each_in_its_turn(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_state, "ROWS_A_LOOK", 2)
    cells = [make_cell(seed=n) for n in range(5)]
    state = SweepState(plan_of(*cells), Scripted(store), store)
    for cell in cells:
        state.see(event("submitted", cell))
    begin(store, cells[-1])
    for _ in range(3):
        clock.now += LOOK_S
        state.look_round()
    assert states(state) == {"running": 1, "queued": 4}


def test_in_one_process_what_is_submitted_runs(store: Store) -> None:
    seen: list[dict[str, int]] = []

    def work(job: Job, site: Site) -> Outcome:
        seen.append(states(state))
        return execute(job, site, lambda j, s, t: 0)

    executor = InlineExecutor(Site(store.uri, ""), work)
    plan = plan_of(A, B)
    state = SweepState(plan, executor, store)
    assert Driver(plan, executor, store, state.see).run().ok
    assert seen == [{"running": 1, "waiting": 1}, {"done": 1, "running": 1}]


def test_a_driver_is_watched_to_its_end(store: Store) -> None:
    plan = plan_of(A, B, CHILD)
    executor = Scripted(store, {A.cell_id: [E.DATA]})
    made: list[SweepState] = []

    def watch(state: SweepState) -> Unwatched:
        made.append(state)
        return Unwatched(state)

    watcher = watching("g", plan, executor, store, watch)
    driver = Driver(plan, executor, store, watcher.see)
    driver.look_round = watcher.look_round
    driver.run()
    assert states(made[0]) == {"done": 1, "failed": 1, "blocked": 1}


# ---------------------------------------------------------------------- what waits too long


def test_cells_that_wait_too_long_are_told_of_once_in_a_while(store: Store, clock: Clock) -> None:
    state = SweepState(plan_of(A, B), Scripted(store), store)
    state.see(event("submitted", A))
    state.see(event("submitted", B))
    clock.now += PENDING_S
    assert list(state.pending()) == []
    clock.now += 1
    [pending] = state.pending()
    assert str(pending) == "2 cells wait for 61 s now, and none of them runs"
    assert state.why_waiting(pending) == "it is scripted"
    clock.now += AGAIN_S - 1
    assert list(state.pending()) == []
    clock.now += 1
    assert len(list(state.pending())) == 1


def test_cells_behind_one_that_runs_only_queue(store: Store, clock: Clock) -> None:
    state = SweepState(plan_of(A, B), Scripted(store), store)
    state.see(event("submitted", A))
    state.see(event("submitted", B))
    begin(store, A)
    state.look_round()
    clock.now += 10 * PENDING_S
    assert list(state.pending()) == []
    state.see(event("done", A, Outcome(seconds=1.0)))
    assert list(state.pending()) == [], "its place is free only now"
    clock.now += PENDING_S + 1
    assert [pending.n_cells for pending in state.pending()] == [1]


# ---------------------------------------------------------------------- the pace


def test_what_is_left_takes_as_long_as_what_is_done_did() -> None:
    nodes = [node_of(make_cell(seed=n), training=20, evaluation=10) for n in range(4)]
    found = Pace(nodes, now=0.0)
    assert (found.seconds_left(5.0), found.images_per_second(5.0)) == (None, None)
    found.done(nodes[0], seconds=10.0, now=10.0)
    found.done(nodes[1], seconds=10.0, now=10.0)  # two at a time
    assert found.seconds_left(10.0) == pytest.approx(10.0)
    assert found.images_per_second(10.0) == pytest.approx(2 * 30 / 10)
    found.ended(nodes[2])
    assert found.seconds_left(10.0) == pytest.approx(5.0)
    found.done(nodes[3], seconds=10.0, now=20.0)
    assert found.seconds_left(20.0) == 0.0


def test_images_of_long_ago_say_nothing_of_the_pace_now() -> None:
    nodes = [node_of(make_cell(seed=n)) for n in range(2)]
    found = Pace(nodes, now=0.0)
    found.done(nodes[0], 1.0, now=1.0)
    assert found.images_per_second(pace.WINDOW_S + 2) is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "?"), (0.4, "0:00:00"), (3599.6, "1:00:00"), (90061, "25:01:01")]
)
def test_times_are_hours_minutes_and_seconds(seconds: float | None, text: str) -> None:
    assert pace.clock(seconds) == text


# ---------------------------------------------------------------------- how it is shown


def shown_by(is_live: bool) -> tuple[Display, Callable[[], str]]:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=is_live, width=100, color_system=None)
    return Display(console), stream.getvalue


def test_without_a_terminal_there_is_a_line_for_each_cell(store: Store, clock: Clock) -> None:
    display, text = shown_by(is_live=False)
    state = SweepState(plan_of(A, B), Scripted(store), store)
    with display.watching():
        watch = display.watch(state)
        for one in (event("submitted", A), event("submitted", B)):
            state.see(one)
            watch.see(one)
        clock.now += 10
        ended = event("done", A, Outcome(seconds=10.0))
        state.see(ended)
        watch.see(ended)
        clock.now += progress.QUIET_S + 1
        watch.look_round()
    assert text().splitlines() == [
        "[1/2] done    m a on v2 (seed 0)  10.0 s  ETA 0:00:10  1 images/s",
        "1 cell waits for 601 s now, and none of them runs: it is scripted",
    ]
    clock.now += progress.QUIET_S + 1
    watch.look_round()
    assert (
        text().splitlines()[-1]
        == "1 cell waits for 1202 s now, and none of them runs: it is scripted"
    )


def test_where_nothing_ends_for_long_it_is_said_how_things_stand(
    store: Store, clock: Clock
) -> None:
    display, text = shown_by(is_live=False)
    state = SweepState(plan_of(A, B), Scripted(store), store)
    watch = display.watch(state)
    state.see(event("submitted", A))
    begin(store, A)
    state.look_round()
    clock.now += progress.QUIET_S + 1
    watch.look_round()
    watch.look_round()
    assert text() == "1 running  1 waiting  ETA ?\n"


def test_on_a_terminal_each_device_s_cell_is_shown(store: Store, clock: Clock) -> None:
    display, text = shown_by(is_live=True)
    odd = make_cell("[red]x[/red]", seed=7)
    state = SweepState(plan_of(A, B, odd), Scripted(store), store)
    with display.watching():
        watch = display.watch(state)
        for cell, gpu in ((A, GPU), (odd, "")):
            state.see(event("submitted", cell))
            begin(store, cell, gpu)
        state.look_round()
        clock.now += 75
        watch.see(event("done", A, Outcome(seconds=1.0)))
        console = Console(file=io.StringIO(), width=100, color_system=None)
        with console.capture() as captured:
            console.print(watch.view())
    lines = [line.rstrip() for line in captured.get().splitlines()]
    assert lines[0] == "2 running  1 waiting"
    assert lines[1].endswith("0/3 0:01:15 ETA ?")
    assert re.fullmatch(r"n1 +CPU, pid \d+ +m \[red\]x\[/red\] on v2 \(seed 7\) +0:01:15", lines[2])
    assert re.fullmatch(r"n1 +GPU-01234567 NVIDIA H100 80GB HBM3 +m a on v2 .* 0:01:15", lines[3])
    assert "done" not in text(), "the view shows what is done"


def test_of_many_running_cells_some_are_shown(store: Store, clock: Clock) -> None:
    cells = [make_cell(seed=n) for n in range(20)]
    state = SweepState(plan_of(*cells), Scripted(store), store)
    for cell in cells:
        state.see(event("submitted", cell))
        begin(store, cell)
    for _ in range(2):
        clock.now += LOOK_S
        state.look_round()
    console = Console(file=io.StringIO(), width=100, color_system=None)
    with console.capture() as captured:
        console.print(live_view.live_view(state, clock.now))
    assert "and 4 more" in captured.get()
