"""A store in S3: what pyarrow's client leaves to us when answers are bad, slow or cut off."""

from __future__ import annotations

import time
from collections.abc import Iterator

import boto3
import pytest

from tests.cells import row
from tests.s3 import BUCKET, CREDENTIALS, S3, serving
from workers import storage as storage_module
from workers.storage import Storage, StorageError
from workers.store import Store
from workers.tables import is_merged

BIG = bytes(range(256)) * 50_000  # 12.8 MB: an upload in parts


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with serving() as found:
        yield found


@pytest.fixture
def s3(server: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server.plan()
    return server


@pytest.fixture
def storage(s3: S3, request: pytest.FixtureRequest) -> Storage:
    return Storage(s3.uri(request.node.name.replace("[", "-").replace("]", "")))


def uploads(s3: S3) -> list[str]:
    """Uploads in parts that were begun and neither completed nor dropped."""
    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{s3.own_port}")
    found = client.list_multipart_uploads(Bucket=BUCKET)
    return [upload["Key"] for upload in found.get("Uploads", [])]


def test_it_is_a_storage_like_a_folder(storage: Storage) -> None:
    assert not storage.exists("a")
    assert storage.names("t") == []
    assert list(storage.walk("")) == []
    for name in ("t/b.parquet", "t/a.parquet", "t/a.txt", "t/sub/c.parquet", "t/.x.parquet"):
        storage.write(name, name.encode())
    storage.write("t/b.parquet", b"again")
    assert storage.names("t", ".parquet") == ["a.parquet", "b.parquet"]
    assert storage.read("t/b.parquet") == b"again"
    storage.move("t/a.txt", "new/a.txt")
    storage.delete("t/sub/c.parquet")
    storage.delete("t/sub/c.parquet")
    assert sorted(storage.walk("")) == ["new/a.txt", "t/.x.parquet", "t/a.parquet", "t/b.parquet"]
    with pytest.raises(FileNotFoundError):
        storage.read("t/a.txt")
    with pytest.raises(StorageError, match=r"cannot move t/a\.txt"):
        storage.move("t/a.txt", "t/c.txt")


def test_what_is_small_is_one_put(s3: S3, storage: Storage) -> None:
    """A writer that dies leaves no upload behind: there is none."""
    stream = storage.filesystem.open_output_stream(storage.path("small"))
    stream.write(b"x" * 1000)
    assert uploads(s3) == []
    assert not storage.exists("small")
    stream.close()
    assert storage.exists("small")


@pytest.mark.parametrize("fault", ["500", "503", "slow", "cut"])
@pytest.mark.parametrize("size", ["small", "parts"])
def test_a_fault_in_a_write_is_waited_out(s3: S3, storage: Storage, fault: str, size: str) -> None:
    data = BIG if size == "parts" else b"some bytes"
    storage.write("x", b"old")
    s3.plan(next_puts=f"{fault},{fault}")
    storage.write("x", data)
    assert set(s3.faults()) == {fault}
    assert storage.read("x") == data


@pytest.mark.slow
def test_every_operation_waits_faults_out(s3: S3, storage: Storage) -> None:
    s3.plan(seed=3, share=0.3, next_puts="cut")
    for n in range(5):
        storage.write(f"t/{n}", b"%d" % n)
        assert storage.exists(f"t/{n}")
        storage.move(f"t/{n}", f"moved/{n}")
        assert storage.read(f"moved/{n}") == b"%d" % n
        storage.delete(f"moved/{n - 1}")
        assert storage.names("moved") == [str(n)]
    injected = s3.faults()
    assert set(injected) == {"500", "503", "slow", "cut"}
    assert list(storage.walk("")) == ["moved/4"]


@pytest.mark.slow
@pytest.mark.parametrize(("size", "fault"), [("small", "503"), ("parts", "cut")])
def test_patience_ends_and_what_was_there_stays(
    s3: S3, storage: Storage, monkeypatch: pytest.MonkeyPatch, fault: str, size: str
) -> None:
    data = BIG if size == "parts" else b"some bytes"
    storage.write("x", b"old")
    usual = storage_module.PATIENCE_S
    monkeypatch.setattr(storage_module, "PATIENCE_S", 0.5)
    s3.plan(next_puts=",".join([fault] * 1000))
    started = time.monotonic()
    with pytest.raises(StorageError, match="cannot write x to s3://"):
        storage.write("x", data)
    assert time.monotonic() - started < usual
    s3.plan()
    assert storage.read("x") == b"old"


def test_what_cannot_be_is_not_waited_for(s3: S3) -> None:
    storage = Storage(s3.uri("p").replace(BUCKET, "no-such-bucket"))
    started = time.monotonic()
    with pytest.raises(StorageError, match="NO_SUCH_BUCKET"):
        storage.write("x", b"")
    assert time.monotonic() - started < storage_module.PATIENCE_S


def test_an_interrupt_cannot_cut_an_object_short(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C reaches a process's main thread, between any two of its steps."""
    import _thread
    import threading

    storage.write("x", b"old")
    inner = storage.filesystem

    class Interrupting:
        def open_output_stream(self, path: str) -> object:
            stream = inner.open_output_stream(path)
            assert threading.current_thread() is not threading.main_thread()
            _thread.interrupt_main()
            time.sleep(0.2)
            return stream

    with monkeypatch.context() as patch:
        patch.setattr(storage, "_fs", Interrupting())
        with pytest.raises(KeyboardInterrupt):
            storage.write("x", b"new and whole")
    seen = {storage.read("x")}
    deadline = time.monotonic() + 30  # the write goes on by itself
    while b"new and whole" not in seen and time.monotonic() < deadline:
        time.sleep(0.05)
        seen.add(storage.read("x"))
    assert seen <= {b"old", b"new and whole"}
    assert b"new and whole" in seen


def test_the_tables_of_a_store(s3: S3, storage: Storage) -> None:
    store = Store(storage.uri)
    store.create("s", "1")
    s3.plan(seed=5, share=0.2)
    for name in ("val", "v2", "a"):
        store.commit_accuracy("c1", name, [row("c1", name)])
    store.commit_accuracy("c2", "val", [row("c2", "val")])
    store.commit_accuracy("c3", "val", [row("c3", "val")])
    store.storage.write("accuracy/c3.val.parquet", b"garbage")
    store.seal("c1", ["val", "v2", "a"])
    committed = store.committed()
    assert {cell: set(sets) for cell, sets in committed.splits.items()} == {
        "c1": {"val", "v2", "a"},
        "c2": {"val"},
    }
    assert committed.damaged == ("accuracy/c3.val.parquet",)
    store.set_aside(committed.damaged)
    store.sweep()
    assert s3.faults().total() > 0
    assert store.storage.names("accuracy") == ["c1.parquet", "c2.parquet"]
    assert store.storage.names("damaged") == ["accuracy.c3.val.parquet"]


def test_compaction(s3: S3, storage: Storage) -> None:
    store = Store(storage.uri)
    store.create("s", "1")
    cells = [f"c{i}" for i in range(12)]
    for cell_id in cells:
        store.commit_accuracy(cell_id, "val", [row(cell_id)])
        store.seal(cell_id, ["val"])
    s3.plan(seed=8, share=0.2)
    assert store.compact()[0].n_after == 1
    committed = store.committed()
    assert s3.faults().total() > 3
    s3.plan()
    assert committed.damaged == ()
    assert set(committed.splits) == set(cells)
    (name,) = store.storage.names("accuracy")
    assert is_merged(name)
    store.commit_accuracy("c1", "v2", [row("c1", "v2")])
    store.compact()
    assert len(store.storage.names("accuracy")) == 1
    assert store.scan("accuracy").table.num_rows == 13
