"""When a driver makes few large files of its store's many small ones."""

from __future__ import annotations

from collections.abc import Callable

from workers.compaction import Compaction
from workers.storage import StorageError
from workers.store import Store

MANY = 1000
"""Files of a table below which they are quick to read as they are, and easier to look at."""

EVERY = 5000
"""Cells after which a driver looks again how many files there are."""


class Compacting:
    """Compacts a store now and then while it is driven, and when that ends."""

    def __init__(
        self,
        store: Store,
        check: Callable[[], None],
        is_running: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """Prepare.

        Args:
            store: that is driven.
            check: raises when it is no longer this driver's.
            is_running: whether a cell runs; what it has in the store is left alone.
        """
        self._store, self._check, self._is_running = store, check, is_running
        self._n_done = 0

    def done(self, cell_id: str) -> str:  # noqa: ARG002
        """Take note that a cell is done; return what went wrong with compacting, if anything."""
        self._n_done += 1
        return self.now() if self._n_done % EVERY == 0 else ""

    def now(self) -> str:
        """Compact what has many files; return what went wrong. No row is lost either way."""
        try:
            found = self._store.compact(MANY, self._check, self._is_running, sparing=True)
        except StorageError as error:
            return f"the store was not compacted: {error}"
        return "; ".join(line for one in found for line in complaints(one))


def complaints(found: Compaction) -> list[str]:
    """Say which files stay as they are, and why."""
    damaged = [f"{name} is damaged: {why}" for name, why in found.damage.items()]
    contradicting = [f"{name} contradicts other rows" for name in found.contradictions]
    return damaged + contradicting
