"""What holds a driver and what ends it: Ctrl-C, a store that is taken, a disk that gets full."""

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from orchestrator.disk import Room
from orchestrator.driver import Driver, Event
from orchestrator.executor import Job, Outcome
from orchestrator.interrupts import Interrupts
from orchestrator.lease import Lease, LeaseLostError, Times
from orchestrator.outage import Outage
from orchestrator.steering import StoreSteering
from tests.cells import MODEL, make_cell, row
from tests.orchestrator.test_driver import Scripted, make_plan_of
from workers.job import Site
from workers.outcome import ErrorKind as E
from workers.run import execute
from workers.storage import Storage
from workers.store import Store

CELLS = [make_cell(f"c{n}") for n in range(6)]
MIB = 2**20


class Steered:
    """Steering that changes as the driver asks for more."""

    poll_s: float | None = 0.001
    is_out_of_time = False

    def __init__(self) -> None:
        self.is_draining = False
        self.is_short = False
        self.lost = False
        self.looks = 0

    def check(self) -> None:
        if self.lost:
            raise LeaseLostError("taken")

    def look_again(self) -> None:
        self.looks += 1

    def may_start(self, in_flight: Iterable[Job]) -> bool:
        return not self.is_short

    def blames_storage(self, in_flight: Iterable[Job]) -> bool:
        return self.is_short

    def cell_done(self) -> None: ...


class Then(Scripted):
    """Has something happen when the n-th job is waited for."""

    def __init__(self, store: Store, n: int, happens: Callable[[], None], **script: object) -> None:
        super().__init__(store, **script)  # type: ignore[arg-type]
        self.left, self.happens = n, happens

    def wait_any(self, timeout_s: float | None = None) -> tuple[Job, Outcome] | None:
        finished = super().wait_any(timeout_s)
        self.left -= 1
        if self.left == 0:
            self.happens()
        return finished


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def test_a_drain_waits_for_what_runs_and_starts_nothing(store: Store) -> None:
    steering = Steered()

    def drain() -> None:
        steering.is_draining = True

    executor = Then(store, 1, drain, capacity=3)
    summary = Driver(make_plan_of(*CELLS), executor, store, steering=steering).run()
    assert len(executor.started) == len(summary.done) == 3
    assert executor.in_flight == []
    assert summary.ok, "what was not started has not failed"


def test_a_drain_that_takes_too_long_ends(store: Store) -> None:
    steering = Steered()

    def give_up() -> None:
        steering.is_draining = steering.is_out_of_time = True

    executor = Then(store, 1, give_up, capacity=3)
    Driver(make_plan_of(*CELLS), executor, store, steering=steering).run()
    assert len(executor.in_flight) == 2


def test_what_a_drain_stops_is_told_as_stopped_and_not_tried_again(store: Store) -> None:
    steering, events = Steered(), list[Event]()

    def drain() -> None:
        steering.is_draining = True

    stopped = Outcome(error=E.PREEMPTED, seconds=2.0, recorded=True)
    never = Outcome(error=E.PREEMPTED, recorded=True)

    class Stopping(Then):
        def wait_any(self, timeout_s: float | None = None) -> tuple[Job, Outcome] | None:
            finished = super().wait_any(timeout_s)
            assert finished is not None
            return finished[0], stopped if finished[0].cell == CELLS[0] else never

    executor = Stopping(store, 1, drain, capacity=2)
    plan = make_plan_of(*CELLS[:2])
    summary = Driver(plan, executor, store, events.append, steering=steering).run()
    assert [e.node.cell for e in events if e.kind == "stopped"] == [CELLS[0]]
    assert {e.kind for e in events} == {"submitted", "stopped"}
    assert summary.ok
    assert summary.done == []


def test_a_driver_without_its_lease_writes_nothing_more(store: Store) -> None:
    steering = Steered()

    def lose() -> None:
        steering.lost = True

    executor = Then(store, 2, lose, script={CELLS[1].cell_id: [E.BUG]}, capacity=1)
    driver = Driver(make_plan_of(*CELLS[:2]), executor, store, steering=steering)
    with pytest.raises(LeaseLostError):
        driver.run()
    assert len(driver.summary.done) + len(driver.summary.failed) == 1
    assert len(executor.started) == 2


def test_a_preempted_cell_makes_the_driver_look_at_its_lease(store: Store) -> None:
    steering = Steered()
    executor = Scripted(store, {CELLS[0].cell_id: [E.PREEMPTED, E.WORKER_CRASH]})
    assert Driver(make_plan_of(CELLS[0]), executor, store, steering=steering).run().ok
    assert steering.looks == 1


def test_a_full_disk_fails_no_cell_and_starts_none(store: Store) -> None:
    steering = Steered()
    # Fills up while the first runs, for longer than the budget of storage errors lasts.
    executor = Then(store, 1, lambda: setattr(steering, "is_short", True), capacity=1)
    executor.script = {CELLS[0].cell_id: [E.STORAGE]}
    asked = 0

    def may_start(in_flight: Iterable[Job]) -> bool:
        nonlocal asked
        asked += steering.is_short
        if asked > 20:
            steering.is_short = False
        return not steering.is_short

    steering.may_start = may_start  # type: ignore[method-assign]
    driver = Driver(make_plan_of(*CELLS[:2]), executor, store, steering=steering)
    assert driver.run().ok
    assert asked == 21
    assert len(executor.started) == 3
    assert driver._history[CELLS[0].cell_id] == [E.PREEMPTED]


# ---------------------------------------------------------------------- the disk


def jobs(n: int) -> list[Job]:
    return [Job(cell, ()) for cell in CELLS[:n]]


def test_room_counts_the_checkpoints_that_are_still_to_come(tmp_path: Path) -> None:
    free, told = 100, list[str]()
    room = Room(Storage(str(tmp_path)), 60, {MODEL.name: 10}, told.append, lambda _: free)
    assert room.suffices(jobs(4)), "100 - 4 x 10 = 60"
    assert told == []
    assert not room.suffices(jobs(5))
    assert not room.suffices(jobs(6))
    assert len(told) == 1
    assert told[0].startswith("paused: ")
    free = 110
    assert room.suffices(jobs(5))
    assert [text.split(":")[0] for text in told] == ["paused", "going on"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MiB, where this user may mount one."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_room_on_a_real_disk(small_disk: Path) -> None:
    room = Room(Storage(str(small_disk)), 32 * MIB, {})
    assert room.suffices([])
    filler = small_disk / "filler"
    filler.write_bytes(bytes(40 * MIB))
    assert not room.suffices([])
    filler.unlink()
    assert room.suffices([])


def test_a_real_disk_that_fills_up_holds_the_driver_until_there_is_room(small_disk: Path) -> None:
    store, told = Store(str(small_disk / "store")), list[str]()
    store.create("s", "1")
    filler = small_disk / "filler"
    executor = Then(store, 2, lambda: void(filler.write_bytes(bytes(40 * MIB))), capacity=1)

    def tell(text: str) -> None:
        told.append(text)
        if text.startswith("paused"):
            threading.Timer(0.3, filler.unlink).start()

    lease = Lease(store.storage, Times(heartbeat_s=0.1))
    lease.acquire()
    room = Room(store.storage, 32 * MIB, {}, tell)
    outage = Outage(store.storage, "probe")
    steering = StoreSteering(lease, Interrupts(lambda: None), room, outage, poll_s=0.01)
    summary = Driver(make_plan_of(*CELLS), executor, store, steering=steering).run()
    lease.release()
    assert summary.ok
    assert len(summary.done) == len(CELLS)
    assert [text.split(":")[0] for text in told] == ["paused", "going on"]


def void(_: object) -> None: ...


# ---------------------------------------------------------------------- Ctrl-C


SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("second", SIGNALS)
@pytest.mark.parametrize("first", SIGNALS)
def test_the_first_interrupt_asks_and_the_second_stops(
    first: signal.Signals, second: signal.Signals
) -> None:
    asked = threading.Event()
    before = [signal.getsignal(one) for one in SIGNALS]
    with Interrupts(asked.set) as interrupts:
        assert interrupts.seconds == 0.0
        os.kill(os.getpid(), first)
        assert asked.wait(5.0)
        assert interrupts.is_asked
        assert 0.0 < interrupts.seconds < 5.0
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(second)
    assert [signal.getsignal(one) for one in SIGNALS] == before


class Swallowing:
    """Python prints what is raised in here, and goes on as if nothing had been."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_second_interrupt_that_python_drops_is_heeded_at_the_next_look() -> None:
    with Interrupts(lambda: None) as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        interrupts.check()
        Swallowing()
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()


def test_clearing_up_is_not_interrupted() -> None:
    with Interrupts(lambda: None) as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        with interrupts.ignored():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("kind", [E.WORKER_CRASH, E.NODE_LOST])
def test_what_dies_while_the_driver_is_stopped_is_no_cell_s_fault(store: Store, kind: E) -> None:
    """Who takes a machine away stops all that runs on it: the driver, and what cells run in."""
    steering = Steered()
    executor = Then(store, 1, lambda: setattr(steering, "is_draining", True), capacity=1)
    executor.script = {CELLS[0].cell_id: [kind]}
    Driver(make_plan_of(CELLS[0]), executor, store, steering=steering).run()
    [row] = store.scan("attempts").table.to_pylist()
    assert (row["state"], row["error_kind"]) == ("failed", "preempted")
    assert row["message"] == f"scripted {kind}"


# ---------------------------------------------------------------------- a worker's part


def test_a_cell_whose_driver_stops_is_not_started_and_leaves_no_trace(store: Store) -> None:
    site = Site(store=store.uri, data_root=".", driver="gone")
    outcome = execute(Job(CELLS[0], ("val",)), site, lambda *_: pytest.fail("it ran"))
    assert (outcome.error, outcome.recorded, outcome.seconds) == (E.PREEMPTED, True, 0.0)
    assert store.scan("attempts").table.num_rows == 0


def test_a_cell_of_a_driver_that_goes_on_runs(store: Store) -> None:
    lease = Lease(store.storage, Times(heartbeat_s=0.1))
    lease.acquire()

    def perform(job: Job, site: Site, store: Store) -> int:
        store.commit_accuracy(job.cell.cell_id, "val", [row(job.cell.cell_id)])
        return 1

    site = Site(store=store.uri, data_root=".", driver=lease.driver)
    assert execute(Job(CELLS[0], ("val",)), site, perform).ok
    lease.release()
