"""`rib compact`, and that a driver does it by itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator import compacting
from orchestrator.compacting import Compacting
from orchestrator.lease import Lease, Times
from tests.cells import row
from tests.orchestrator.rib import rib
from workers.storage import Storage, StorageError
from workers.store import Store
from workers.tables import is_merged

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "store"))
    store.create("s", "1")
    for cell_id in ("c1", "c2", "c3"):
        store.commit_accuracy(cell_id, "val", [row(cell_id)])
        store.commit_attempt({"cell_id": cell_id, "attempt": 1, "state": "done"})
    return store


def merged(store: Store, table: str = "accuracy") -> int:
    return sum(is_merged(name) for name in store.storage.names(table))


def test_by_hand(store: Store, capsys: Capture) -> None:
    assert rib("compact", store.uri) == 0
    assert capsys.readouterr().out == (f"{store.uri}: files of accuracy 3 -> 1, attempts 3 -> 1\n")
    assert merged(store) == merged(store, "attempts") == 1
    assert rib("compact", store.uri, "--json") == 0
    tables = json.loads(capsys.readouterr().out)["tables"]
    assert tables["accuracy"]["n_before"] == tables["accuracy"]["n_after"] == 1
    assert store.scan("accuracy").table.num_rows == 3
    assert not store.storage.names("driver")


def test_a_store_that_is_driven_is_left_alone(store: Store, capsys: Capture) -> None:
    lease = Lease(store.storage, Times())
    lease.acquire()
    try:
        assert rib("compact", store.uri) == 2
        assert "is driven by" in capsys.readouterr().err
    finally:
        lease.release()
    assert merged(store) == 0


def test_what_is_no_store(tmp_path: Path, capsys: Capture) -> None:
    assert rib("compact", tmp_path) == 2
    assert "there is no store here" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_merged_is_named(store: Store, capsys: Capture) -> None:
    store.storage.write("accuracy/c4.parquet", b"garbage")
    store.commit_accuracy("c5", "val", [row("c5", n_correct=1)])
    store.seal("c5", ["val"])
    store.commit_accuracy("c5", "val", [row("c5", n_correct=2)])
    assert rib("compact", store.uri) == 1
    told = capsys.readouterr().err
    assert "accuracy/c4.parquet is damaged" in told
    assert "accuracy/c5.val.parquet contradicts other rows" in told
    left = [name for name in store.storage.names("accuracy") if not is_merged(name)]
    assert left == ["c4.parquet", "c5.val.parquet"]


def test_a_driver_compacts_where_there_is_much(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compacting, "EVERY", 2)
    monkeypatch.setattr(compacting, "MANY", 3)
    one = Compacting(store, lambda: None, lambda cell_id: cell_id == "c3")
    assert one.done("c1") == ""
    assert one.done("c2") == ""  # looks, and c3 runs: there are only two files to merge
    assert merged(store) == 0
    assert Compacting(store, lambda: None).now() == ""
    assert merged(store) == merged(store, "attempts") == 1


def test_a_storage_that_refuses_costs_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compacting, "MANY", 3)

    def refuse(self: Storage, name: str, data: bytes, flush: bool = True) -> None:
        raise StorageError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "write", refuse)
        said = Compacting(store, lambda: None).now()
    assert said == "the store was not compacted: No space left on device"
    assert store.scan("accuracy").table.num_rows == 3


def test_who_has_lost_the_store_changes_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compacting, "MANY", 3)
    before = sorted(store.storage.walk(""))

    def lost() -> None:
        raise RuntimeError("it is driven from here no longer")

    with pytest.raises(RuntimeError):
        Compacting(store, lost).now()
    assert sorted(store.storage.walk("")) == before
