"""The lease of a store: never two drivers at once, and none that is dead keeps others out."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from orchestrator.holder import Holder
from orchestrator.lease import Lease, LeaseLostError, Times, current_driver, evict, refuse_if_held
from tests.s3 import CREDENTIALS, S3, serving
from workers.errors import UserError
from workers.going import go_ahead, may_go_on
from workers.storage import Storage, StorageError
from workers.store import Store

QUICK = Times(heartbeat_s=0.05, expiry_s=0.4, look_s=0.01, patience_s=1.0)
ELSEWHERE = replace(Holder.here(QUICK.heartbeat_s), host="n2", pid=7, user="ada", place="boot 1")

HOLD = """
import sys, time
from orchestrator.lease import Lease
from workers.storage import Storage
Lease(Storage(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def names(storage: Storage) -> set[str]:
    return {name.partition(".")[0] for name in storage.names("driver")}


def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def seconds(action: Callable[[], object]) -> float:
    start = time.monotonic()
    action()
    return time.monotonic() - start


def test_one_holds_it_and_the_next_is_told_who_and_since_when(storage: Storage) -> None:
    holder = replace(Holder.here(), user="ada", command="rib run g.yaml", since="2026-01-02")
    first, second = Lease(storage, QUICK, holder=holder), Lease(storage, QUICK)
    first.acquire()
    asks: list[Callable[[], None]] = [second.acquire, lambda: refuse_if_held(storage)]
    for ask in asks:
        with pytest.raises(UserError) as error:
            ask()
        for part in ("ada", holder.host, str(os.getpid()), "rib run g.yaml", "2026-01-02"):
            assert part in str(error.value)
        assert "--take-over" in str(error.value)
    assert names(storage) == {first.driver}, "who is refused leaves nothing"
    first.check()
    assert first.is_held
    assert not second.is_held
    first.release()
    assert names(storage) == set()
    refuse_if_held(storage)
    third = Lease(storage, QUICK)
    third.acquire()
    third.release()


def test_a_killed_driver_of_this_host_keeps_nobody_waiting(storage: Storage) -> None:
    command = [sys.executable, "-c", HOLD, storage.path("")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=f"pid {process.pid}"):
        Lease(storage).acquire()
    assert f"pid {process.pid}" in str(current_driver(storage))
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: not current_driver(storage).may_run)  # it is a zombie until it is waited for
    assert "has died" in str(current_driver(storage))
    heir = Lease(storage)
    assert seconds(heir.acquire) < 2.0, "with the real times, of which the expiry is 30 s"
    process.wait()
    assert names(storage) == {heir.driver}, "of the dead one nothing is left"
    heir.release()


def test_a_pid_that_is_used_again_is_not_the_old_driver(storage: Storage) -> None:
    earlier = Lease(storage, QUICK, holder=replace(Holder.here(), started="1"))
    earlier.acquire()
    assert seconds(Lease(storage).acquire) < 2.0


def abandoned(storage: Storage, holder: Holder = ELSEWHERE) -> Lease:
    """A lease whose driver no longer gives signs of life, on another host for all one can tell."""
    lease = Lease(storage, replace(QUICK, heartbeat_s=1e6), holder=holder)
    lease.acquire()
    return lease


def test_a_driver_elsewhere_is_dead_once_its_beat_stands_still_long_enough(
    storage: Storage,
) -> None:
    abandoned(storage)
    heir = Lease(storage, QUICK)
    waited = seconds(heir.acquire)
    assert QUICK.expiry_s <= waited < QUICK.expiry_s + 2.0
    assert names(storage) == {heir.driver}
    heir.release()


def test_a_driver_elsewhere_that_lives_is_known_by_its_beat(storage: Storage) -> None:
    # Whatever the clocks of hosts say: this one's is a year behind.
    lease = Lease(storage, QUICK, holder=replace(ELSEWHERE, since="2025-01-01"))
    lease.acquire()
    refuse_if_held(storage)  # one look cannot tell
    assert current_driver(storage).may_run
    assert "last sign of life 0 s ago" in str(current_driver(storage))
    for _ in range(3):
        with pytest.raises(UserError, match=r"ada on n2 \(pid 7\), since 2025-01-01"):
            Lease(storage, replace(QUICK, expiry_s=30.0)).acquire()
    lease.check()
    lease.release()
    assert str(current_driver(storage)) == "nobody drives it now"


@pytest.mark.parametrize("holder", [Holder.here(0.05), ELSEWHERE], ids=["here", "elsewhere"])
def test_who_is_displaced_notices_and_leaves_the_store_alone(
    storage: Storage, holder: Holder
) -> None:
    displaced, heir = Lease(storage, QUICK, holder=holder), Lease(storage, QUICK)
    displaced.acquire()
    displaced.check()
    assert seconds(lambda: heir.acquire(take_over=True)) < 2.0
    heir.wait_until_safe()
    until(lambda: not displaced.is_held)
    with pytest.raises(LeaseLostError, match=f"taken by .*pid {os.getpid()}"):
        displaced.check()
    displaced.confirm()
    displaced.release()
    heir.check()
    assert names(storage) == {heir.driver}
    heir.release()


def test_waiting_until_safe_outlasts_the_heartbeat_of_who_was_displaced(storage: Storage) -> None:
    displaced, heir = Lease(storage, replace(QUICK, heartbeat_s=0.5)), Lease(storage, QUICK)
    displaced.acquire()
    heir.acquire(take_over=True)
    heir.wait_until_safe()
    assert not displaced.is_held
    heir.release()


class Shaken(Storage):
    """A storage where everything takes a random while, so that drivers interleave."""

    def __init__(self, uri: str, seed: int) -> None:
        super().__init__(uri)
        self.rng = random.Random(seed)

    def write(self, name: str, data: bytes | pa.Buffer, flush: bool = True) -> None:
        time.sleep(self.rng.random() * 0.004)
        super().write(name, data, flush)

    def names(self, folder: str, suffix: str = "") -> list[str]:
        time.sleep(self.rng.random() * 0.004)
        return super().names(folder, suffix)


@pytest.mark.parametrize("holder", [Holder.here(0.05), ELSEWHERE], ids=["here", "elsewhere"])
def test_of_those_who_ask_at_once_exactly_one_gets_it(tmp_path: Path, holder: Holder) -> None:
    for trial in range(12):
        leases = [
            Lease(Shaken(str(tmp_path / f"{trial}"), 100 * trial + n), QUICK, holder=holder)
            for n in range(5)
        ]
        outcomes = ask_all(leases)
        assert sorted(outcomes) == ["held", *["refused"] * 4]
        assert [lease.is_held for lease in leases] == [end == "held" for end in outcomes]
        for lease in leases:
            lease.release()


def test_a_dead_driver_is_followed_by_exactly_one(tmp_path: Path) -> None:
    for trial in range(4):
        place = str(tmp_path / f"{trial}")
        abandoned(Storage(place))
        leases = [Lease(Shaken(place, 50 * trial + n), QUICK) for n in range(4)]
        outcomes = ask_all(leases)
        assert sorted(outcomes) == ["held", *["refused"] * 3]
        for lease in leases:
            lease.release()


def ask_all(leases: list[Lease]) -> list[str]:
    """Let all ask at once, and say of each how that ended."""
    outcomes = [""] * len(leases)

    def ask(place: int) -> None:
        together.wait()
        try:
            leases[place].acquire()
            outcomes[place] = "held"
        except UserError:
            outcomes[place] = "refused"

    together = threading.Barrier(len(leases))
    threads = [threading.Thread(target=ask, args=(n,)) for n in range(len(leases))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


class Meddled(Storage):
    """A storage where something happens right before, or after, a ticket is taken."""

    def __init__(self, uri: str, before: bool, happens: Callable[[], None]) -> None:
        super().__init__(uri)
        self.before, self.happens = before, happens

    def write(self, name: str, data: bytes | pa.Buffer, flush: bool = True) -> None:
        is_ticket = ".ticket." in name
        if is_ticket and self.before:
            self.happens()
        super().write(name, data, flush)
        if is_ticket and not self.before:
            self.happens()


@pytest.mark.parametrize("before", [True, False])
def test_who_is_displaced_while_taking_a_ticket_does_not_get_it(
    storage: Storage, before: bool
) -> None:
    meddled = Meddled(storage.uri, before, lambda: evict(storage, lease.driver))
    lease = Lease(meddled, QUICK)
    with pytest.raises(LeaseLostError):
        lease.acquire()
    assert not lease.is_held
    heir = Lease(storage, QUICK)
    heir.acquire()
    assert names(storage) == {heir.driver}, "a ticket that came too late is cleared away"
    heir.release()


class Flaky(Storage):
    """A storage that can be out of reach."""

    is_down = False

    def names(self, folder: str, suffix: str = "") -> list[str]:
        if self.is_down:
            raise StorageError("out of reach")
        return super().names(folder, suffix)


def test_trouble_with_the_store_is_told_once_and_outlived(tmp_path: Path) -> None:
    storage, told = Flaky(str(tmp_path)), list[str]()
    lease = Lease(storage, QUICK, told.append)
    lease.acquire()
    storage.is_down = True
    until(lambda: bool(told))
    time.sleep(4 * QUICK.heartbeat_s)
    assert len(told) == 1
    assert "out of reach" in told[0]
    lease.check()
    storage.is_down = False
    time.sleep(QUICK.expiry_s)
    lease.check()
    assert lease.is_held
    lease.release()
    assert names(storage) == set()


def test_a_store_that_stays_out_of_reach_ends_its_driver(tmp_path: Path) -> None:
    storage = Flaky(str(tmp_path))
    lease = Lease(storage, QUICK)
    lease.acquire()
    storage.is_down = True
    time.sleep(1.1 * QUICK.expiry_s)
    with pytest.raises(LeaseLostError, match="out of reach for 1 s"):
        lease.check()
    assert not lease.is_held
    lease.release()


def test_a_driver_that_was_frozen_looks_before_it_goes_on(storage: Storage) -> None:
    # Its heart never beats, as if the whole process had stood still.
    frozen = abandoned(storage)
    time.sleep(1.1 * QUICK.expiry_s)
    frozen.check()  # nobody came by meanwhile
    heir = Lease(storage, QUICK)
    heir.acquire()
    time.sleep(1.1 * QUICK.expiry_s)
    with pytest.raises(LeaseLostError):
        frozen.check()
    heir.check()
    heir.release()


def test_cells_go_on_as_long_as_their_driver_says_so(storage: Storage) -> None:
    store, lease = Store(storage.uri), Lease(storage, QUICK)
    assert may_go_on(store, ""), "those of no driver always do"
    assert not may_go_on(store, lease.driver)
    lease.acquire()
    assert may_go_on(store, lease.driver)
    lease.stop_cells()
    assert not may_go_on(store, lease.driver)
    lease.check()
    lease.release()

    displaced = Lease(storage, QUICK)
    displaced.acquire()
    heir = Lease(storage, QUICK)
    heir.acquire(take_over=True)
    assert not may_go_on(store, displaced.driver), "told by who takes its place"
    assert may_go_on(store, heir.driver)
    assert storage.exists(go_ahead(heir.driver))
    heir.release()


def test_of_what_is_no_description_of_a_driver_nothing_is_known(storage: Storage) -> None:
    for bad in (b"", b"[]", b'{"host": 1}', b"\xff"):
        storage.write("driver/x.entry", bad)
        storage.write("driver/x.ticket.1", b"")
        assert "unknown host" in str(current_driver(storage))
        assert not Holder.parse(bad).is_here
        evict(storage, "x")


@pytest.fixture(scope="module")
def bucket() -> Iterator[S3]:
    pytest.importorskip("moto")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        with serving() as s3:
            yield s3


@pytest.mark.slow
def test_in_an_object_store(bucket: S3) -> None:
    times = replace(QUICK, heartbeat_s=0.2, expiry_s=2.0)

    def lease(holder: Holder | None = None, times: Times = times) -> Lease:
        return Lease(Storage(bucket.uri("lease")), times, holder=holder)

    storage = Storage(bucket.uri("lease"))
    elsewhere = lease(replace(ELSEWHERE, heartbeat_s=0.2))
    elsewhere.acquire()
    with pytest.raises(UserError, match="ada on n2"):
        lease(times=replace(times, expiry_s=30.0)).acquire()
    heir = lease()
    heir.acquire(take_over=True)
    heir.wait_until_safe()
    with pytest.raises(LeaseLostError):
        elsewhere.check()
    heir.release()
    assert names(storage) == set()

    lease(replace(ELSEWHERE, heartbeat_s=0.2), replace(times, heartbeat_s=1e6)).acquire()
    asking = [lease() for _ in range(3)]
    start = time.monotonic()
    outcomes = ask_all(asking)
    assert time.monotonic() - start >= times.expiry_s
    assert sorted(outcomes) == ["held", "refused", "refused"]
    for one in asking:
        one.release()
    assert names(storage) == set()
