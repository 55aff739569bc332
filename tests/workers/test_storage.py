"""Bytes under names: whole or not at all, whatever happens in the middle."""

import errno
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from workers.storage import Storage, StorageError

A, B = b"a" * 1_000_000, b"b" * 1_000_000


def everything_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_what_is_written_is_read_back_and_replaced_whole(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    storage.write("a/b/c.bin", b"one")
    storage.write("a/b/c.bin", b"two")
    storage.write("a/b/c.bin", b"two")
    assert storage.read("a/b/c.bin") == b"two"
    assert everything_in(tmp_path) == ["a/b/c.bin"]
    assert (tmp_path / "a/b/c.bin").read_bytes() == b"two"


def test_making_one_touches_nothing(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "new"))
    assert not storage.exists("x")
    assert storage.names("x") == []
    assert list(storage.walk("")) == []
    assert not (tmp_path / "new").exists()


def rewrite(folder: str, stop: Any) -> None:
    storage = Storage(folder)
    while not stop.is_set():
        storage.write("x.bin", A)
        storage.write("x.bin", B)


def test_a_reader_never_sees_a_part_of_an_object(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    storage.write("x.bin", A)
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.Event()
    writers = [spawn.Process(target=rewrite, args=(str(tmp_path), stop)) for _ in range(2)]
    for writer in writers:
        writer.start()
    seen: set[bytes] = set()
    try:
        for _ in range(20_000):
            seen.add(storage.read("x.bin"))
            if len(seen) > 1:
                break
        for _ in range(300):
            seen.add(storage.read("x.bin"))
            assert storage.names("") == ["x.bin"]
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert seen == {A, B}
    assert everything_in(tmp_path) == ["x.bin"]


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_failed_write_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    storage = Storage(str(tmp_path))
    storage.write("x.bin", b"old")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os if fails == "fsync" else Path, fails, full)
    with pytest.raises(StorageError, match=r"cannot write x\.bin .*No space left"):
        storage.write("x.bin", b"new")
    with pytest.raises(StorageError, match="No space left"):
        storage.write("folder/y.bin", b"new")
    monkeypatch.undo()
    assert everything_in(tmp_path) == ["x.bin"]
    assert storage.read("x.bin") == b"old"


def test_an_interrupt_in_the_middle_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        Storage(str(tmp_path)).write("x.bin", b"new")
    assert everything_in(tmp_path) == []


def test_names_are_sorted_direct_and_not_hidden(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    for name in ("t/b.parquet", "t/a.parquet", "t/a.txt", "t/sub/c.parquet", "t/.x.parquet"):
        storage.write(name, b"")
    assert storage.names("t", ".parquet") == ["a.parquet", "b.parquet"]
    assert set(storage.walk("t")) >= {"t/b.parquet", "t/sub/c.parquet"}


def test_moving_and_deleting(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    storage.write("t/a", b"a")
    storage.move("t/a", "new/folder/a")
    assert everything_in(tmp_path) == ["new/folder/a"]
    with pytest.raises(StorageError, match="cannot move t/a"):
        storage.move("t/a", "t/b")
    storage.delete("new/folder/a")
    storage.delete("new/folder/a")
    assert everything_in(tmp_path) == []


def test_reading_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Storage(str(tmp_path)).read("x")


def test_a_file_in_the_way_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("not a folder")
    with pytest.raises(StorageError, match="cannot write"):
        Storage(str(tmp_path)).write("t/a", b"")


def test_a_uri_is_a_storage_too(tmp_path: Path) -> None:
    storage = Storage(tmp_path.as_uri())
    storage.write("a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x"
