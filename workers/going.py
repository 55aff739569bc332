"""Whether a cell may go on: its driver can ask all its cells to stop, through the store.

As long as a driver's cells may go on, an object of the driver's name lies in the store. It goes
when that driver is told to stop, ends, or has its place taken. It is named after one driver, so
nothing that is left behind can stop the cells of another.
"""

from __future__ import annotations

from workers.errors import PreemptedError
from workers.storage import StorageError
from workers.store import DRIVER, Store


def go_ahead(driver: str) -> str:
    """Return the name of the object that is there as long as a driver's cells may go on."""
    return f"{DRIVER}/{driver}.go"


def may_go_on(store: Store, driver: str) -> bool:
    """Whether the cells of a driver may go on; those of none always may."""
    if not driver:
        return True
    try:
        return store.storage.exists(go_ahead(driver))
    except (StorageError, OSError):
        return True  # not being able to ask is not being asked to stop


def stop_if_asked(store: Store, driver: str) -> None:
    """Stop a cell between two pieces of its work, both of which are in the store.

    Raises:
        PreemptedError: when its driver has asked for it.
    """
    if not may_go_on(store, driver):
        raise PreemptedError("its driver asked it to stop")
