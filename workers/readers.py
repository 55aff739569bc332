"""The threads that read a store's files, of which there may be many small ones."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from workers.storage import Storage

READERS = 2
"""Files that are read at the same time. More do not help: half of the work is Python's."""

READERS_FAR = 32
"""The same where each file is asked of an object store, which takes milliseconds."""


def readers_of(storage: Storage) -> ThreadPoolExecutor:
    """Return the threads that read files of a storage; none of them may wait for another.

    They stay: with new ones each time, malloc would keep memory for each of them apart, which in a
    driver came to 200 MB.
    """
    return _threads(READERS if storage.is_local else READERS_FAR)


@cache
def _threads(n: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n, thread_name_prefix="rib-reader")


os.register_at_fork(after_in_child=_threads.cache_clear)  # no thread lives on in a forked process
