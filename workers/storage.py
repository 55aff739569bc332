"""Bytes under names, on a disk or in an object store: the only file that writes to a store."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
from pyarrow import fs
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from workers.errors import Problem, UserError
from workers.uris import check_uri

T = TypeVar("T")

Stamp = tuple[int, int]
"""An object's size in bytes, and when it was written, in nanoseconds."""

TEMPORARY = ".tmp"
"""How the names of files end that are still being written, or never were to the end."""

PATIENCE_S = 30.0
"""For how long an object store is asked again that throttles, fails or does not answer."""

HOPELESS = (
    "ACCESS_DENIED",
    "INVALID_ACCESS_KEY_ID",
    "NO_SUCH_BUCKET",
    "NO_SUCH_KEY",
    "PERMANENT_REDIRECT",
    "SIGNATURE_DOES_NOT_MATCH",
)
"""What object stores answer that asking again does not change."""


class StorageError(Exception):
    """The disk or object store refused: full, unreachable, or not writable."""


class Storage:
    """A folder or an object-store prefix, with whole-or-nothing writes.

    A reader sees a whole object or none, and writing the same object twice is harmless. On a disk
    an object is written to a hidden temporary name, flushed and renamed; in an object store it is
    one PUT, or one upload in parts that shows when it is complete. Safe for any number of processes
    at once: objects are only ever replaced whole. An object store that fails is asked again for
    PATIENCE_S, since every request here may be made twice; a disk is not.
    """

    def __init__(self, uri: str) -> None:
        check_uri(uri)
        self.uri = uri
        if "://" in uri:
            try:
                self._fs, self._base = fs.FileSystem.from_uri(_with_single_puts(uri))
            except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
                raise UserError([Problem(f"store {uri}", f"cannot be used: {error}")]) from error
        else:
            self._fs, self._base = fs.LocalFileSystem(), str(Path(uri).resolve())

    @property
    def is_local(self) -> bool:
        return isinstance(self._fs, fs.LocalFileSystem)

    @property
    def filesystem(self) -> fs.FileSystem:
        return self._fs

    def path(self, name: str) -> str:
        """Return where `name` lies on this storage's file system.

        Raises:
            ValueError: when it would lie anywhere else, whoever made the name.
        """
        if "\0" in name or ".." in name.split("/") or name.startswith("/"):
            raise ValueError(f"the name {name!r} leads out of the store")
        return f"{self._base}/{name}" if name else self._base

    def write(self, name: str, data: bytes | pa.Buffer, flush: bool = True) -> None:
        """Write an object whole, replacing what was there.

        Args:
            name: of the object.
            data: what it holds.
            flush: whether it has to outlive a power cut, which takes a disk milliseconds.

        Raises:
            StorageError: when it could not be written; nothing is then left under `name`.
        """
        path = self.path(name)
        try:
            if self.is_local:
                self._write_local(Path(path), data, flush)
            else:
                _patiently(lambda: self._put(path, data))
        except OSError as error:
            raise StorageError(f"cannot write {name} to {self.uri}: {error}") from error

    def _put(self, path: str, data: bytes | pa.Buffer) -> None:
        """Write to an object store, in a thread: an interrupt does not reach it.

        pyarrow cannot drop a stream: one that an interrupt closes early is an object cut short.
        """

        def write() -> None:
            stream = self._fs.open_output_stream(path)
            try:
                stream.write(data)
            finally:
                stream.close()

        with ThreadPoolExecutor(1) as thread:
            thread.submit(write).result()

    @staticmethod
    def _write_local(path: Path, data: bytes | pa.Buffer, flush: bool) -> None:
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{TEMPORARY}")
        try:
            try:
                handle = temporary.open("wb")
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                handle = temporary.open("wb")
            with handle:
                handle.write(data)
                if flush:
                    handle.flush()
                    os.fsync(handle.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def flush_folder(self, folder: str) -> None:
        """See to it that a power cut undoes no earlier write into a folder.

        Raises:
            StorageError: when the disk refuses. An object store needs no asking.
        """
        if not self.is_local:
            return
        try:
            handle = os.open(self.path(folder), os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise StorageError(f"cannot flush {folder} in {self.uri}: {error}") from error

    def read(self, name: str) -> bytes:
        """Read an object whole.

        Raises:
            FileNotFoundError: when there is none.
            StorageError: when it could not be read.
        """
        return self._ask(f"cannot read {name} from", lambda: self._read(self.path(name)))

    def _read(self, path: str) -> bytes:
        with self._fs.open_input_file(path) as stream:
            return bytes(stream.read())

    def exists(self, name: str) -> bool:
        """Say whether there is an object or a folder of this name.

        Raises:
            StorageError: when the storage does not say.
        """
        path = self.path(name)
        info = self._ask(f"cannot look for {name} in", lambda: self._fs.get_file_info(path))
        return bool(info.type != fs.FileType.NotFound)

    def names(self, folder: str, suffix: str = "") -> list[str]:
        """List the objects directly in a folder, sorted; hidden (temporary) ones left out."""
        if self.is_local:
            found = [entry.name for entry in self._entries(folder) if entry.is_file()]
        else:
            found = [info.base_name for info in self._list(folder) if info.is_file]
        return sorted(n for n in found if n.endswith(suffix) and not n.startswith("."))

    def walk(self, folder: str) -> Iterator[str]:
        """Yield the name, from the storage's top, of every object below a folder."""
        if not self.is_local:
            base = len(self._base) + 1
            yield from (i.path[base:] for i in self._list(folder, recursive=True) if i.is_file)
            return
        folders = [folder]
        while folders:
            top = folders.pop()
            for entry in self._entries(top):
                name = f"{top}/{entry.name}" if top else entry.name
                if entry.is_dir():
                    folders.append(name)
                else:
                    yield name

    def stamps(self, folder: str) -> dict[str, Stamp]:
        """Return of each object directly in a folder what changes when it is replaced."""
        return {info.base_name: (info.size, info.mtime_ns) for info in self._list(folder)}

    def folders_with(self, folder: str, name: str) -> set[str]:
        """Return the sub-folders of a folder that hold an object of a name."""
        if self.is_local:
            subs = [entry.name for entry in self._entries(folder)]
            base = self.path(folder)
            return {sub for sub in subs if os.path.exists(f"{base}/{sub}/{name}")}  # noqa: PTH110
        ending = f"/{name}"
        return {found.split("/")[-2] for found in self.walk(folder) if found.endswith(ending)}

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        """List a folder of a disk; unlike pyarrow, without looking at every file in it."""

        def scan() -> list[os.DirEntry[str]]:
            with os.scandir(self.path(folder)) as entries:
                return list(entries)

        try:
            return self._ask(f"cannot list {folder} in", scan)
        except FileNotFoundError:
            return []

    def _list(self, folder: str, recursive: bool = False) -> list[fs.FileInfo]:
        selector = fs.FileSelector(self.path(folder), recursive=recursive, allow_not_found=True)
        listing: list[fs.FileInfo] = self._ask(
            f"cannot list {folder} in", lambda: self._fs.get_file_info(selector)
        )
        return listing

    def _ask(self, failing: str, call: Callable[[], T]) -> T:
        """Call the file system; what it refuses is a StorageError, what is not there is not."""
        try:
            return call() if self.is_local else _patiently(call)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StorageError(f"{failing} {self.uri}: {error}") from error

    def move(self, source: str, target: str) -> None:
        """Rename an object, replacing what was there.

        Atomic on a disk. In an object store it is a copy and a deletion: whoever dies in between
        leaves both.
        """
        try:
            if self.is_local:
                self._move_local(Path(self.path(source)), Path(self.path(target)))
            else:
                _patiently(lambda: self._copy_and_delete(source, target))
        except OSError as error:
            raise StorageError(f"cannot move {source} in {self.uri}: {error}") from error

    def _copy_and_delete(self, source: str, target: str) -> None:
        try:
            self._fs.move(self.path(source), self.path(target))
        except OSError:
            # A request whose answer was lost has been carried out: the next finds nothing to move.
            if self.exists(source) or not self.exists(target):
                raise

    @staticmethod
    def _move_local(source: Path, target: Path) -> None:
        try:
            source.replace(target)
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)

    def delete(self, name: str) -> None:
        """Delete an object; one that is not there is no error."""
        delete = os.unlink if self.is_local else self._fs.delete_file
        with suppress(FileNotFoundError):
            self._ask(f"cannot delete {name} from", lambda: delete(self.path(name)))


def _with_single_puts(uri: str) -> str:
    """Ask for one PUT per object on S3, rather than an upload in parts of whatever is small.

    Whoever dies in an upload in parts leaves them in the bucket, where no listing shows them.
    """
    if not uri.startswith("s3://") or "allow_delayed_open" in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}allow_delayed_open=true"


def _patiently(call: Callable[[], T]) -> T:
    """Call an object store until it answers, for PATIENCE_S at most."""
    asking = Retrying(
        retry=retry_if_exception(_may_pass),
        stop=stop_after_delay(PATIENCE_S),
        wait=wait_random_exponential(multiplier=0.1, max=5.0),
        reraise=True,
    )
    return asking(call)


def _may_pass(error: BaseException) -> bool:
    """Say whether an object store's refusal may be over in a moment."""
    if not isinstance(error, OSError) or isinstance(error, FileNotFoundError):
        return False
    return not any(answer in str(error) for answer in HOPELESS)
