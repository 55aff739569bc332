"""The log of a try: what it printed and logged, in the store's folder `logs` when it has ended.

While a try runs, its log grows in a file on its machine's disk, under a lock that ends with its
process. What has no owner any more is of a try that was killed: whoever comes past on that machine
next, the driver or another try at a cell of the store, puts it into the store.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from pathlib import Path

from workers.capture import Copier, captured, ends_of
from workers.cell import digest
from workers.storage import Storage, StorageError

LOGS = "logs"
FATAL = "Fatal Python error: "
"""How `faulthandler` begins what it says of a process that dies."""

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_PROJECT = logging.getLogger("workers")
_ATTEMPTS = 5
"""How often a folder is made again that others remove since it is empty."""

_growing: ContextVar[Path | None] = ContextVar("growing", default=None)
"""The file that the log of the running try grows in."""


def log_name(cell_id: str, attempt: int) -> str:
    """Return the name, in a store, of the log of a try."""
    return f"{LOGS}/{cell_id}.{attempt:04d}.log"


@contextmanager
def keeping_log(storage: Storage, cell_id: str, attempt: int) -> Iterator[None]:
    """Keep what is printed and logged meanwhile, and put it into the store at the end.

    A log is never in a cell's way: where it cannot be kept, there is none. What the store does not
    take, and the log of what is interrupted, are left to `rescue`.
    """
    try:
        growing = _Growing(_folder(storage), f"{cell_id}.{attempt:04d}")
    except OSError:
        yield
        return
    try:
        with captured(growing.file) as copier, _logging_to(copier), growing.joined():
            yield
        with suppress(OSError, StorageError):
            _put(storage, growing.path, growing.file)
    finally:
        growing.close()


def rescue(storage: Storage) -> None:
    """Put the logs of tries that were killed on this machine into their store.

    Raises:
        StorageError: when the store does not take them; they are left where they are.
    """
    last = f"[the process on {socket.gethostname()} that wrote this ended before its try did]\n"
    with ExitStack() as opened:
        for path, file in _ownerless(_folder(storage), opened):
            with suppress(OSError):
                _put(storage, path, file, last.encode())


def fatal_error(storage: Storage, cell_id: str, attempt: int) -> str:
    """Return what a log says of how its process died, or ""."""
    try:
        log = storage.read(log_name(cell_id, attempt)).decode(errors="replace")
    except (FileNotFoundError, StorageError):
        return ""
    return next((line for line in log.splitlines() if line.startswith(FATAL)), "")


def joining() -> Callable[[int], None] | None:
    """Return what has a process that a try starts print into the try's log; None without one."""
    path = _growing.get()
    return None if path is None else partial(_join, path)


def _join(path: Path, number: int) -> None:  # noqa: ARG001
    with suppress(OSError):
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.close(file)


class _Growing:
    """A log that grows on this machine's disk."""

    def __init__(self, folder: Path, stem: str) -> None:
        """Make the file, and lock it.

        Raises:
            OSError: when that cannot be done.
        """
        self.path = folder / f"{stem}.{uuid.uuid4().hex}"
        for _ in range(_ATTEMPTS):
            _make_private(folder)
            with suppress(FileNotFoundError), _alone_in(folder):
                self.file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
                # Opened once more: processes that inherit 1 and 2 must not inherit the lock.
                self._lock = os.open(self.path, os.O_RDONLY)
                fcntl.flock(self._lock, fcntl.LOCK_EX)
                return
        raise FileNotFoundError(folder)

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Let the processes that are started meanwhile print here, too."""
        token = _growing.set(self.path)
        try:
            yield
        finally:
            _growing.reset(token)

    def close(self) -> None:
        os.close(self.file)
        os.close(self._lock)


def _folder(storage: Storage) -> Path:
    """Return where the logs of a store grow on this machine."""
    store = digest([storage.filesystem.type_name, storage.path("")])
    return Path(tempfile.gettempdir()) / f"rib-logs-{os.getuid()}" / store


def _make_private(folder: Path) -> None:
    """Make a folder that nobody else can write to.

    Raises:
        OSError: when somebody else has made it.
    """
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    if not _is_own(folder):
        raise PermissionError(f"{folder.parent} is somebody else's")
    with suppress(FileNotFoundError):
        folder.mkdir(mode=0o700, exist_ok=True)


def _is_own(folder: Path) -> bool:
    """Whether nobody else has put a folder of this name there."""
    return folder.parent.lstat().st_uid == os.getuid()


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Let nobody else make, lock or remove logs here, which takes them a moment.

    Raises:
        FileNotFoundError: when there is no such folder.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _ownerless(folder: Path, opened: ExitStack) -> list[tuple[Path, int]]:
    """Return the logs whose processes have ended, opened and locked."""
    found = []
    with suppress(OSError), _alone_in(folder):
        for path in sorted(folder.iterdir() if _is_own(folder) else ()):
            file = os.open(path, os.O_RDONLY)
            opened.callback(os.close, file)
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                found.append((path, file))
    return found


def _put(storage: Storage, path: Path, file: int, more: bytes = b"") -> None:
    """Put a log into the store, and remove it from this machine.

    Raises:
        StorageError: when the store does not take it.
    """
    cell_id, attempt, _ = path.name.split(".")
    data = ends_of(file) + more
    storage.write(log_name(cell_id, int(attempt)), data, flush=False)
    path.unlink(missing_ok=True)
    for folder in (path.parent, path.parent.parent):
        with suppress(OSError):  # others' logs are there
            folder.rmdir()


@contextmanager
def _logging_to(copier: Copier) -> Iterator[None]:
    """Put what this project's loggers say into a log, and nowhere else that it did not go."""
    handler = _Noting(copier)
    handler.setFormatter(logging.Formatter(_FORMAT))
    level = _PROJECT.level
    _PROJECT.addHandler(handler)
    _PROJECT.setLevel(logging.INFO)
    try:
        yield
    finally:
        _PROJECT.setLevel(level)
        _PROJECT.removeHandler(handler)


class _Noting(logging.Handler):
    """Notes what is logged in a file that is copied from, but does not have it copied."""

    def __init__(self, copier: Copier) -> None:
        super().__init__()
        self._copier = copier

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._copier.note(self.format(record) + "\n")
        except Exception:
            self.handleError(record)
