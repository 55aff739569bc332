"""What steers a driver from outside: its lease, Ctrl-C, a full disk, a storage that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from orchestrator.disk import Room
from orchestrator.interrupts import Interrupts
from orchestrator.lease import Lease
from orchestrator.outage import Outage
from workers.job import Job
from workers.storage import StorageError

DRAIN_S = 300.0
"""How long running cells may take to get to their next training state after Ctrl-C, in seconds."""

POLL_S = 0.5
"""How often a driver looks round while nothing happens, in seconds."""


@dataclass(frozen=True)
class StoreSteering:
    """Steers the driver of a store (see `orchestrator.driver.Steering`)."""

    lease: Lease
    interrupts: Interrupts
    room: Room
    outage: Outage
    drain_s: float = DRAIN_S
    poll_s: float | None = POLL_S

    def check(self) -> None:
        self.interrupts.check()
        self.lease.check()

    def look_again(self) -> None:
        self.lease.confirm()

    def may_start(self, in_flight: Iterable[Job]) -> bool:
        return self.room.suffices(in_flight) and self.outage.may_start

    def blames_storage(self, in_flight: Iterable[Job]) -> bool:
        return not self.room.suffices(in_flight) or self.outage.blames_storage()

    def cell_done(self) -> None:
        self.outage.cell_done()

    @property
    def is_draining(self) -> bool:
        return self.interrupts.is_asked

    @property
    def is_out_of_time(self) -> bool:
        return self.interrupts.is_asked and self.interrupts.seconds > self.drain_s


def stop_softly(lease: Lease, drain_s: float, tell: Callable[[str], None]) -> None:
    """Ask the running cells to stop at their next training state, and say so."""
    tell(
        "stopping: no cell is started any more, and those that run stop when what they have done "
        f"is in the store, or after {drain_s:g} s; Ctrl-C again stops now"
    )
    try:
        lease.stop_cells()
    except StorageError as error:
        tell(f"the cells could not be asked to stop: {error}")
