"""Bytes under names, on a disk or in an object store: the only file that writes to a store."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from workers.errors import Problem, UserError

TEMPORARY = ".tmp"
"""How the names of files end that are still being written, or never were to the end."""


class StorageError(Exception):
    """The disk or object store refused: full, unreachable, or not writable."""


class Storage:
    """A folder or an object-store prefix, with whole-or-nothing writes.

    A reader sees a whole object or none, and writing the same object twice is harmless. On a disk
    an object is written to a hidden temporary name, flushed and renamed; in an object store it is
    one PUT. Safe for any number of processes at once: objects are only ever replaced whole.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        if "://" in uri:
            try:
                self._fs, self._base = fs.FileSystem.from_uri(uri)
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
        """Return where `name` lies on this storage's file system."""
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
        try:
            if self.is_local:
                self._write_local(Path(self.path(name)), data, flush)
            else:
                with self._fs.open_output_stream(self.path(name)) as stream:
                    stream.write(data)
        except OSError as error:
            raise StorageError(f"cannot write {name} to {self.uri}: {error}") from error

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

    def read(self, name: str) -> bytes:
        """Read an object whole.

        Raises:
            FileNotFoundError: when there is none.
            StorageError: when it could not be read.
        """
        try:
            with self._fs.open_input_file(self.path(name)) as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StorageError(f"cannot read {name} from {self.uri}: {error}") from error

    def exists(self, name: str) -> bool:
        return bool(self._fs.get_file_info(self.path(name)).type != fs.FileType.NotFound)

    def names(self, folder: str, suffix: str = "") -> list[str]:
        """List the objects directly in a folder, sorted; hidden (temporary) ones left out."""
        return sorted(
            info.base_name
            for info in self._list(folder)
            if info.type == fs.FileType.File
            and info.base_name.endswith(suffix)
            and not info.base_name.startswith(".")
        )

    def walk(self, folder: str) -> Iterator[str]:
        """Yield the name, from the storage's top, of every object below a folder."""
        base = len(self._base) + 1
        for info in self._list(folder, recursive=True):
            if info.type == fs.FileType.File:
                yield info.path[base:]

    def _list(self, folder: str, recursive: bool = False) -> list[fs.FileInfo]:
        selector = fs.FileSelector(self.path(folder), recursive=recursive, allow_not_found=True)
        try:
            listing: list[fs.FileInfo] = self._fs.get_file_info(selector)
        except OSError as error:
            raise StorageError(f"cannot list {folder} in {self.uri}: {error}") from error
        return listing

    def move(self, source: str, target: str) -> None:
        """Rename an object, replacing what was there. Atomic on a disk."""
        try:
            if self.is_local:
                self._move_local(Path(self.path(source)), Path(self.path(target)))
            else:
                self._fs.move(self.path(source), self.path(target))
        except OSError as error:
            raise StorageError(f"cannot move {source} in {self.uri}: {error}") from error

    @staticmethod
    def _move_local(source: Path, target: Path) -> None:
        try:
            source.replace(target)
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)

    def delete(self, name: str) -> None:
        """Delete an object; one that is not there is no error."""
        try:
            self._fs.delete_file(self.path(name))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StorageError(f"cannot delete {name} from {self.uri}: {error}") from error
