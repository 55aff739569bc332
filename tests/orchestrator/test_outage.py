"""Who is to blame for what a storage refuses, and when cells start again."""

import threading
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from orchestrator.disk import Room
from orchestrator.driver import Driver, Event, Unsteered
from orchestrator.executor import InlineExecutor, Job
from orchestrator.interrupts import Interrupts
from orchestrator.lease import Lease, Times
from orchestrator.outage import FORGIVEN, Outage, Pauses
from orchestrator.steering import StoreSteering
from tests.cells import make_cell, row
from tests.orchestrator.test_driver import Clock, Scripted, clock, make_plan_of, store
from tests.orchestrator.test_steering import small_disk
from workers.job import Site
from workers.outcome import ErrorKind as E
from workers.run import execute
from workers.storage import Storage, StorageError
from workers.store import Store

__all__ = ["clock", "small_disk", "store"]  # fixtures

CELLS = [make_cell(f"c{n}") for n in range(6)]


class Moody(Storage):
    """A storage that refuses all that is written while it is told to."""

    refuses = False
    n_probes = 0

    def write(self, name: str, data: object, flush: bool = True) -> None:
        self.n_probes += name == "probe"
        if self.refuses:
            raise StorageError("503 SlowDown")
        super().write(name, data, flush)  # type: ignore[arg-type]


@pytest.fixture
def moody(tmp_path: Path) -> Moody:
    return Moody(str(tmp_path / "store"))


def outage_of(storage: Storage, clock: Clock, told: list[str] | None = None) -> Outage:
    tell = (told if told is not None else []).append
    return Outage(storage, "probe", tell, Pauses(1.0, 8.0), clock.monotonic)


def test_a_storage_that_refuses_is_to_blame_until_it_takes_things_again(moody: Moody) -> None:
    clock, told = Clock(), list[str]()
    outage = outage_of(moody, clock, told)
    assert outage.may_start
    moody.refuses = True
    assert all(outage.blames_storage() for _ in range(20))
    assert moody.n_probes == 1, "while it pauses nobody asks"
    asked_at = [clock.now]
    while len(asked_at) < 7:
        asked = moody.n_probes
        assert not outage.may_start
        if moody.n_probes > asked:
            asked_at.append(clock.now)
        clock.now += 0.5
    waits = [after - before for before, after in pairwise(asked_at)]
    assert waits == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0], "it doubles, up to what is allowed"
    moody.refuses = False
    clock.now += 8.0
    assert outage.may_start
    assert [text.split(":")[0] for text in told] == [
        "paused",
        "going on",
    ]
    assert "503 SlowDown" in told[0]
    assert moody.names("") == [], "the probe is gone"


def test_a_failure_that_arrives_when_it_is_over_is_no_cell_s_fault_either(moody: Moody) -> None:
    clock = Clock()
    outage = outage_of(moody, clock)
    moody.refuses = True
    assert outage.blames_storage()
    moody.refuses = False
    clock.now += 2.0
    assert outage.blames_storage()
    assert not outage.blames_storage(), "but the next one is: it works"


def test_of_those_that_fail_together_the_first_is_to_blame(moody: Moody) -> None:
    clock = Clock()
    outage = outage_of(moody, clock)
    assert [outage.blames_storage() for _ in range(4)] == [False, True, True, True]
    assert not outage.may_start, "it may be the load"
    clock.now += 1.0
    assert outage.may_start
    assert [outage.blames_storage() for _ in range(2)] == [False, True]
    clock.now += 1.0
    assert not outage.may_start, "the pause has doubled"


def test_where_nothing_gets_done_every_cell_is_to_blame(moody: Moody) -> None:
    clock = Clock()
    outage = outage_of(moody, clock)
    for _ in range(FORGIVEN):
        assert [outage.blames_storage() for _ in range(2)] == [False, True]
        clock.now += 8.0
    assert [outage.blames_storage() for _ in range(3)] == [False, False, False]
    outage.cell_done()
    clock.now += 8.0
    assert [outage.blames_storage() for _ in range(2)] == [False, True]


class Steered(Unsteered):
    """Only an outage holds the driver."""

    poll_s: float | None = 0.5

    def __init__(self, outage: Outage) -> None:
        self.outage = outage

    def may_start(self, in_flight: object) -> bool:
        return self.outage.may_start

    def blames_storage(self, in_flight: object) -> bool:
        return self.outage.blames_storage()

    def cell_done(self) -> None:
        self.outage.cell_done()


def test_an_outage_uses_up_no_cell_s_budget(moody: Moody, store: Store, clock: Clock) -> None:
    """Each of the cells fails of it more often than it may, most of them at the same time."""
    told = list[str]()
    outage = outage_of(moody, clock, told)
    moody.refuses = True

    class Mending(Scripted):
        def submit(self, job: Job) -> None:
            super().submit(job)
            if len(self.started) == 40:
                moody.refuses = False

    executor = Mending(store, {c.cell_id: [E.STORAGE] * 9 for c in CELLS}, capacity=6)
    # It takes things now and then, as under load, so that cells start, and fail, again and again.
    looks = Counter[bool]()

    def write(name: str, data: object, flush: bool = True) -> None:
        looks[moody.refuses] += 1
        if moody.refuses and sum(looks.values()) % 2:
            raise StorageError("503 SlowDown")
        Storage.write(moody, name, data, flush)  # type: ignore[arg-type]

    moody.write = write  # type: ignore[method-assign]
    events = list[Event]()
    driver = Driver(make_plan_of(*CELLS), executor, store, events.append, steering=Steered(outage))
    summary = driver.run()
    assert summary.ok, summary.failed
    assert len(executor.started) == 6 * 10
    assert "paused" in told[0]
    assert "going on" in told[-1]


def test_cells_that_no_storage_takes_fail_in_the_end(
    moody: Moody, store: Store, clock: Clock
) -> None:
    executor = Scripted(store, {c.cell_id: [E.STORAGE] * 99 for c in CELLS}, capacity=6)
    steering = Steered(outage_of(moody, clock))
    summary = Driver(make_plan_of(*CELLS), executor, store, steering=steering).run()
    assert set(summary.failed) == {c.cell_id for c in CELLS}
    assert len(executor.started) < 6 * (6 + FORGIVEN + 1)


def test_a_real_disk_without_a_byte_left_holds_the_grid_and_fails_no_cell(
    small_disk: Path,
) -> None:
    """All fails there: tries, rows, heartbeats. When there is room again the grid goes on."""
    store, told, filler = Store(str(small_disk / "store")), list[str](), small_disk / "filler"
    store.create("s", "1")
    lease = Lease(store.storage, Times(heartbeat_s=0.05), told.append)
    lease.acquire()

    def perform(job: Job, site: Site, store: Store) -> int:
        if job.cell == CELLS[2] and job.attempt == 1:
            fill(filler)
            threading.Timer(1.0, filler.unlink).start()
        store.commit_accuracy(job.cell.cell_id, "val", [row(job.cell.cell_id)])
        return 1

    def work(job: Job, site: Site) -> object:
        return execute(job, site, perform)

    outage = Outage(store.storage, "driver/x.probe", told.append, Pauses(0.05, 0.2))
    room = Room(store.storage, 0, {})
    steering = StoreSteering(lease, Interrupts(lambda: None), room, outage, poll_s=0.01)
    executor = InlineExecutor(Site(store.uri, ".", driver=lease.driver), work)  # type: ignore[arg-type]
    plan = make_plan_of(*CELLS, evaluate=("val",))
    summary = Driver(plan, executor, store, steering=steering).run()
    lease.release()
    assert summary.ok, summary.failed
    assert len(summary.done) == len(CELLS)
    assert store.scan("accuracy").table.num_rows == len(CELLS)
    assert [text.split(":")[0] for text in told if text.startswith(("paused", "going"))] == [
        "paused",
        "going on",
    ]


def fill(filler: Path) -> None:
    with filler.open("wb", buffering=0) as stream:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    stream.write(bytes(size))
            except OSError:
                continue


def test_a_disk_that_does_not_answer_is_not_called_full(tmp_path: Path) -> None:
    def fail(path: Path) -> int:
        raise OSError(116, "stale file handle")

    assert Room(Storage(str(tmp_path)), 1, {}, free_bytes=fail).suffices([])
