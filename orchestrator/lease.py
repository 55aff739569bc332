"""The lease of a store: one driver at a time, on a disk, on NFS and in an object store alike.

Drivers agree by Lamport's bakery algorithm ("A New Solution of Dijkstra's Concurrent Programming
Problem", CACM 1974) over objects in the store's folder `driver`. It asks for no locks, no
conditional writes and no clocks, only that who lists the folder after writing into it sees what
others wrote before: true of a disk and of S3, and of NFS, where one's own write into a folder makes
the client ask the server for it again. A driver

1. writes `<id>.entry`, which says who it is;
2. lists the folder and takes a ticket, one above the highest: `<id>.ticket.<n>`;
3. lists it again, waits for those that have an entry and no ticket yet, and drives if no living
   driver has a lower ticket (of equal ones, the lower id).

It renews `<id>.beat` all the while. Whether another lives is told by its process, where that runs
on this host, and else by whether its beat changes during an interval of one's own clock. A driver
whose entry or ticket is gone has lost the store: removing them is how a dead one is cleared away,
and how a living one has its place taken. Nothing ever writes them again.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from orchestrator.holder import Holder
from workers.errors import Problem, UserError
from workers.going import go_ahead
from workers.storage import Storage, StorageError
from workers.store import DRIVER


@dataclass(frozen=True)
class Times:
    """How long things take, in seconds; tests are quicker."""

    heartbeat_s: float = 5.0
    expiry_s: float = 30.0
    """Without a sign of life for this long, a driver on another host counts as dead."""
    look_s: float = 0.25
    """Between two looks at somebody else's beat."""
    patience_s: float = 3600.0
    """How long a store may be out of reach before its driver gives up."""


class LeaseLostError(Exception):
    """The store is no longer this driver's, which must not write to it."""


@dataclass
class Contender:
    """A driver as the listing shows it."""

    driver: str
    has_entry: bool = False
    ticket: int | None = None

    @property
    def rank(self) -> tuple[int, str]:
        """Its place in the queue; only of one with a ticket."""
        assert self.ticket is not None
        return self.ticket, self.driver


def contenders(storage: Storage) -> dict[str, Contender]:
    """List the drivers that have left something in the store, by id."""
    found: dict[str, Contender] = {}
    for name in storage.names(DRIVER):
        driver, _, what = name.partition(".")
        one = found.setdefault(driver, Contender(driver))
        if what == "entry":
            one.has_entry = True
        elif what.startswith("ticket."):
            one.ticket = int(what.removeprefix("ticket."))
    return found


def queue_of(storage: Storage) -> list[Contender]:
    """Return those that drive a store or are about to, the one that drives it first."""
    found = contenders(storage).values()
    return sorted((c for c in found if c.has_entry and c.ticket is not None), key=lambda c: c.rank)


def read_holder(storage: Storage, driver: str) -> Holder | None:
    """Return who a driver is; None when it has gone."""
    try:
        return Holder.parse(storage.read(f"{DRIVER}/{driver}.entry"))
    except FileNotFoundError:
        return None


def evict(storage: Storage, driver: str) -> None:
    """Remove all that a driver has in the store; its cells stop when they next look.

    The entry goes first: a driver that is just taking a ticket looks for its entry after that.
    """
    storage.delete(f"{DRIVER}/{driver}.entry")
    for name in storage.names(DRIVER):
        if name.partition(".")[0] == driver:
            storage.delete(f"{DRIVER}/{name}")


def refusal(storage: Storage, holder: Holder) -> UserError:
    """Say that somebody else drives a store."""
    hint = (
        "wait for it to end or stop it there with Ctrl-C; --take-over takes its place at once, "
        "and stops it"
    )
    return UserError([Problem(f"store {storage.uri}", f"it is driven by {holder}", hint)])


def refuse_if_held(storage: Storage) -> None:
    """Look at once whether a store is driven from this host; `Lease.acquire` looks for good.

    Raises:
        UserError: when it is, with who drives it.
    """
    for one in queue_of(storage):
        holder = read_holder(storage, one.driver)
        if holder is not None and holder.is_here and holder.is_running:
            raise refusal(storage, holder)


@dataclass(frozen=True)
class Current:
    """Who drives a store, as far as one look can tell."""

    holder: Holder | None
    silent_s: float | None = None
    """Since the last sign of life of a driver on another host, by both hosts' clocks."""

    @property
    def may_run(self) -> bool:
        """Whether there may be a driver that lives."""
        return self.holder is not None and (not self.holder.is_here or self.holder.is_running)

    def __str__(self) -> str:
        if self.holder is None:
            return "nobody drives it now"
        if not self.may_run:
            return f"nobody drives it now: {self.holder} has died"
        seen = "" if self.silent_s is None else f" (last sign of life {self.silent_s:.0f} s ago)"
        return f"driven by {self.holder}{seen}"


def current_driver(storage: Storage) -> Current:
    """Look once at who drives a store; writes nothing and does not wait."""
    found = Current(None)
    for one in queue_of(storage):
        holder = read_holder(storage, one.driver)
        if holder is not None and not found.may_run:
            found = Current(holder, None if holder.is_here else _silence(storage, one.driver))
    return found


def _silence(storage: Storage, driver: str) -> float | None:
    beat = storage.path(f"{DRIVER}/{driver}.beat")
    when = storage.filesystem.get_file_info(beat).mtime
    return None if when is None else max(0.0, (datetime.now(UTC) - when).total_seconds())


class Lease:
    """The right of this process to drive a store."""

    def __init__(
        self,
        storage: Storage,
        times: Times = Times(),
        tell: Callable[[str], None] = lambda _: None,
        holder: Holder | None = None,
    ) -> None:
        """Prepare to ask for the lease; nothing is written yet.

        Args:
            storage: of the store.
            times: how long things take.
            tell: is told, from another thread, of trouble with the store.
            holder: who asks; this process if not given.
        """
        self.storage, self.times, self.tell = storage, times, tell
        self.driver = uuid.uuid4().hex
        self.holder = holder or Holder.here(times.heartbeat_s)
        self._seen: dict[str, tuple[bytes, float]] = {}
        self._asked_at = time.monotonic()
        self._has_ticket = self._has_turn = False
        self._is_in_trouble = False
        self._lost = ""
        self._confirmed = time.monotonic()
        self._busy = threading.Lock()
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat_until_ended, name="lease", daemon=True)
        self._safe_at = 0.0

    # ------------------------------------------------------------------ getting and ending it

    def acquire(self, take_over: bool = False) -> None:
        """Get the lease, waiting as long as it takes to see whether another driver lives.

        Args:
            take_over: take the place of a living driver.

        Raises:
            UserError: when somebody else has it.
            StorageError: when the store cannot be written to.
        """
        try:
            self._put("entry", self.holder.to_bytes())
            self._beat()
            self._heart.start()
            ticket = 1 + max((c.ticket or 0 for c in self._contenders().values()), default=0)
            self._put(f"ticket.{ticket}", b"")
            self._has_ticket = True
            self._wait_for_turn((ticket, self.driver), take_over)
            self._has_turn = True
            self._clear_leftovers()
            self.storage.write(go_ahead(self.driver), b"", flush=False)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Give the lease back, if it was not lost. Trouble with the store is told, not raised."""
        self._ended.set()
        if self._heart.is_alive():
            self._heart.join()
        if self._lost:
            return
        try:
            evict(self.storage, self.driver)
        except StorageError as error:
            self.tell(f"the store does not let go of its driver's name, which will expire: {error}")

    def stop_cells(self) -> None:
        """Ask the cells of this driver to stop, each when what it has done is in the store."""
        self.storage.delete(go_ahead(self.driver))

    # ------------------------------------------------------------------ while driving

    @property
    def is_held(self) -> bool:
        """Whether the store is this driver's, as far as it has looked."""
        return self._has_turn and not self._lost

    def check(self) -> None:
        """Check that this driver may write to the store. Costs nothing while beats go through.

        After a pause (a frozen process, a store out of reach) it waits for the next sure answer.

        Raises:
            LeaseLostError: when it may not.
        """
        while not self._lost and self._silent_s > self.times.expiry_s:
            self.confirm()
            if self._silent_s > self.times.patience_s:
                self._lost = f"the store has been out of reach for {self._silent_s:.0f} s"
            elif self._silent_s > self.times.expiry_s:
                time.sleep(self.times.look_s)
        if self._lost:
            raise LeaseLostError(f"{self.storage.uri} is driven from here no longer: {self._lost}")

    def confirm(self) -> None:
        """Look now whether the lease is still this driver's; `check` then says so."""
        try:
            self._beat()
        except StorageError as error:
            if not self._is_in_trouble:
                self.tell(f"cannot renew the lease of the store, trying again: {error}")
            self._is_in_trouble = True
        else:
            self._is_in_trouble = False

    def wait_until_safe(self) -> None:
        """Wait until a driver whose place was taken has noticed, before the store is written to."""
        time.sleep(max(0.0, self._safe_at - time.monotonic()))

    @property
    def _silent_s(self) -> float:
        return time.monotonic() - self._confirmed

    def _beat_until_ended(self) -> None:
        while not self._ended.wait(self.times.heartbeat_s) and not self._lost:
            self.confirm()

    def _beat(self) -> None:
        """Look whether this driver is still there, and give a sign of life."""
        with self._busy:
            now = time.monotonic()
            found = self._contenders()
            me = found.get(self.driver)
            if me is None or not me.has_entry or (self._has_ticket and me.ticket is None):
                self._lost = self._lost or self._who_took_it()
                return
            self._put("beat", uuid.uuid4().bytes)
            self._confirmed = now

    def _who_took_it(self) -> str:
        heirs = queue_of(self.storage)
        heir = read_holder(self.storage, heirs[0].driver) if heirs else None
        return "its lease was taken away" if heir is None else f"its place was taken by {heir}"

    # ------------------------------------------------------------------ the queue

    def _wait_for_turn(self, rank: tuple[int, str], take_over: bool) -> None:
        while True:
            found = self._contenders()
            me = found.pop(self.driver, None)
            if me is None or not me.has_entry:
                self._lost = self._who_took_it()
            self.check()
            before = [
                one
                for one in found.values()
                if one.has_entry and (not one.ticket or one.rank < rank)
            ]
            if not before:
                return
            for one in before:
                self._step_past(one, take_over)
            time.sleep(self.times.look_s)

    def _step_past(self, one: Contender, take_over: bool) -> None:
        """Clear a driver in front of this one away if it is dead, or is to be displaced."""
        holder = read_holder(self.storage, one.driver)
        if holder is None:
            return
        lives = self._lives(one.driver, holder)
        if lives is False:
            evict(self.storage, one.driver)
        elif take_over:
            evict(self.storage, one.driver)
            notices = time.monotonic() + 1.1 * holder.heartbeat_s
            self._safe_at = max(self._safe_at, notices)
        elif lives and (one.ticket or self._has_waited_long):
            raise refusal(self.storage, holder)

    @property
    def _has_waited_long(self) -> bool:
        """Whether who lives and takes no ticket, which takes a moment, must be stuck."""
        return time.monotonic() - self._asked_at > 2 * self.times.expiry_s

    def _lives(self, driver: str, holder: Holder) -> bool | None:
        """Say whether a driver lives; None while it cannot be told."""
        if holder.is_here:
            return holder.is_running
        try:
            beat = self.storage.read(f"{DRIVER}/{driver}.beat")
        except FileNotFoundError:
            beat = b""
        first, since = self._seen.setdefault(driver, (beat, time.monotonic()))
        if beat != first:
            return True
        expiry = max(self.times.expiry_s, 3 * holder.heartbeat_s)
        return False if time.monotonic() - since >= expiry else None

    def _clear_leftovers(self) -> None:
        """Remove what drivers that are gone have left: beats that came too late."""
        for one in self._contenders().values():
            if not one.has_entry:
                evict(self.storage, one.driver)

    def _contenders(self) -> dict[str, Contender]:
        return contenders(self.storage)

    def _put(self, what: str, data: bytes) -> None:
        self.storage.write(f"{DRIVER}/{self.driver}.{what}", data, flush=False)
