"""Room on the disk that a store is on: no cell is started that could fill it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from orchestrator.sizes import size
from workers.job import Job
from workers.storage import Storage


class Room:
    """Looks at the free bytes of a store's disk; an object store has room for everything."""

    def __init__(
        self,
        storage: Storage,
        min_free: int,
        sizes: Mapping[str, int],
        tell: Callable[[str], None] = lambda _: None,
        free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
    ) -> None:
        """Look after a store's disk.

        Args:
            storage: of the store, which is there.
            min_free: bytes that are to stay free.
            sizes: bytes of a checkpoint, by model; one that is not here counts as nothing.
            tell: is told when cells have to wait, and when they need to no longer.
            free_bytes: says how much is free where a path lies.
        """
        self._path = Path(storage.path("")) if storage.is_local else None
        self._min_free, self._sizes, self._tell = min_free, sizes, tell
        self._free_bytes = free_bytes
        self._is_short = False

    def suffices(self, in_flight: Iterable[Job]) -> bool:
        """Whether another cell may start beside those whose checkpoints are still to come."""
        if self._path is None:
            return True
        try:
            free = self._free_bytes(self._path)
        except OSError:
            return True  # a disk that does not answer is not full: see `orchestrator.outage`
        to_come = sum(self._sizes.get(job.cell.model.name, 0) for job in in_flight)
        was_short, self._is_short = self._is_short, free - to_come < self._min_free
        if self._is_short and not was_short:
            self._tell(
                f"paused: {size(free)} free on the disk of {self._path}, {size(to_come)} of "
                f"checkpoints to come from running cells, and {size(self._min_free)} are to stay "
                "free (min_free); cells start again when there is room"
            )
        elif was_short and not self._is_short:
            self._tell(f"going on: {size(free)} free on the disk of {self._path}")
        return not self._is_short
