"""A storage that refuses: the grid pauses until it takes things again, and no cell is to blame.

Cells that write to one storage fail together. What they fail of is told apart by looking whether
the driver itself can write, read and delete there: where it cannot, the storage is to blame. Where
it can, the first cell of those that fail together is, the others are not; unless nothing has got
done between FORGIVEN such incidents, for then it is what cells write that the storage refuses.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from workers.storage import Storage, StorageError

FORGIVEN = 5
"""Incidents without any cell done in between, after which every cell that fails is to blame."""


@dataclass(frozen=True)
class Pauses:
    """How long the grid pauses, in seconds; tests are quicker."""

    first_s: float = 1.0
    """After the first incident; it doubles with each until a cell is done."""
    most_s: float = 60.0


class Outage:
    """Says whether a storage takes what is written, and who is to blame when something was not."""

    def __init__(
        self,
        storage: Storage,
        probe: str,
        tell: Callable[[str], None] = lambda _: None,
        pauses: Pauses = Pauses(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Look after a store's storage.

        Args:
            storage: of the store.
            probe: name of the object to try it with.
            tell: is told when cells have to wait, and when they need to no longer.
            pauses: how long they wait.
            clock: seconds.
        """
        self._storage, self._probe, self._tell = storage, probe, tell
        self._pauses, self._clock = pauses, clock
        self._incidents = self._n_pauses = 0
        self._until = 0.0
        self._refuses = False

    @property
    def may_start(self) -> bool:
        """Whether the storage takes what another cell would write, as far as is known."""
        if self._is_pausing:
            return False
        if self._refuses:
            self._look()
        return not self._refuses

    def blames_storage(self) -> bool:
        """Take note that a cell could not use the storage; say whether that is to blame."""
        did_refuse = self._refuses
        if self._is_pausing:
            return did_refuse or self._incidents <= FORGIVEN
        self._look()
        if not (did_refuse or self._refuses):
            self._incidents += 1
            self._pause()
        return did_refuse or self._refuses

    def cell_done(self) -> None:
        """Take note that a cell could use the storage."""
        self._incidents = self._n_pauses = 0

    @property
    def _is_pausing(self) -> bool:
        return self._clock() < self._until

    def _pause(self) -> None:
        length = self._pauses.first_s * 2**self._n_pauses
        self._until = self._clock() + min(self._pauses.most_s, length)
        self._n_pauses += 1

    def _look(self) -> None:
        """Look whether the storage refuses; if so, pause before the next look."""
        did_refuse, self._refuses = self._refuses, False
        try:
            self._try()
        except StorageError as error:
            self._refuses = True
            self._pause()
            if not did_refuse:
                self._tell(f"paused: {error}; cells start again when the storage takes things")
        else:
            if did_refuse:
                self.cell_done()
                self._tell(f"going on: {self._storage.uri} takes things again")

    def _try(self) -> None:
        """Use the storage as cells do.

        Raises:
            StorageError: when it refuses.
        """
        token = uuid.uuid4().bytes
        self._storage.write(self._probe, token)
        try:
            if self._storage.read(self._probe) != token:
                raise StorageError(f"{self._storage.uri} does not give back what was written")
        except FileNotFoundError as error:
            raise StorageError(f"{self._storage.uri} has not kept what was written") from error
        self._storage.delete(self._probe)
