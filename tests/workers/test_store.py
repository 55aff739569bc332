"""The Parquet store: commits, seals, what a dead driver leaves, damage, and other readers."""

import json
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.cluster.questions import probe_name
from tests.cells import row
from workers.errors import UserError
from workers.schemas import ACCURACY, KEYS, TABLES
from workers.storage import Storage, StorageError
from workers.store import CHECKPOINT, DRIVER, Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "store"))
    store.create("s", "1")
    return store


def files_of(store: Store, table: str = "accuracy") -> list[str]:
    folder = Path(store.storage.path(table))
    return sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []


def keys_of(store: Store) -> list[tuple[str, str]]:
    table = store.scan("accuracy", ["cell_id", "eval_dataset"]).table.to_pydict()
    return sorted(zip(table["cell_id"], table["eval_dataset"], strict=True))


# ---------------------------------------------------------------------- commits


def test_committing_twice_is_harmless(store: Store) -> None:
    for _ in range(2):
        store.commit_accuracy("c1", "val", [row("c1")])
    assert files_of(store) == ["c1.val.parquet"]
    assert keys_of(store) == [("c1", "val")]


def test_an_attempt_is_replaced_by_its_later_state(store: Store) -> None:
    store.commit_attempt({"cell_id": "c1", "attempt": 1, "state": "running"})
    store.commit_attempt({"cell_id": "c1", "attempt": 2, "state": "running"})
    store.commit_attempt({"cell_id": "c1", "attempt": 1, "state": "failed"})
    table = store.scan("attempts", ["attempt", "state"]).table.sort_by("attempt")
    assert table.to_pylist() == [
        {"attempt": 1, "state": "failed"},
        {"attempt": 2, "state": "running"},
    ]


def test_rows_come_back_as_they_were_committed(store: Store) -> None:
    rows = [
        row("c1", "c", corruption="fog", severity=1, n_correct=2),
        row("c1", "c", corruption="fog", severity=2, n_correct=1, loss=0.5),
    ]
    store.commit_accuracy("c1", "c", rows)
    expected = [dict.fromkeys(ACCURACY.names) | r for r in rows]
    assert store.scan("accuracy").table.to_pylist() == expected


def test_history_is_a_row_per_epoch(store: Store) -> None:
    store.commit_history("c1", [{"cell_id": "c1", "epoch": e, "loss": 1 / e} for e in (1, 2)])
    assert store.scan("history", ["epoch", "loss"]).table.to_pydict() == {
        "epoch": [1, 2],
        "loss": [1.0, 0.5],
    }


def test_a_failed_commit_leaves_no_row_and_no_temporary(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError):
        store.commit_accuracy("c1", "val", [row("c1")])
    assert files_of(store) == []
    assert store.scan("accuracy").table.num_rows == 0


# ---------------------------------------------------------------------- seals


def test_a_seal_merges_the_parts(store: Store) -> None:
    store.commit_accuracy("c1", "val", [row("c1", "val")])
    store.commit_accuracy("c1", "v2", [row("c1", "v2")])
    store.commit_accuracy("c2", "val", [row("c2", "val")])
    store.seal("c1", ["val", "v2"])
    assert files_of(store) == ["c1.parquet", "c2.val.parquet"]
    assert keys_of(store) == [("c1", "v2"), ("c1", "val"), ("c2", "val")]


def test_one_part_is_sealed_by_a_rename(store: Store) -> None:
    store.commit_accuracy("c1", "val", [row("c1")])
    before = Path(store.storage.path("accuracy/c1.val.parquet")).stat().st_ino
    store.seal("c1", ["val"])
    assert files_of(store) == ["c1.parquet"]
    assert Path(store.storage.path("accuracy/c1.parquet")).stat().st_ino == before


def test_a_set_added_later_joins_the_sealed_file(store: Store) -> None:
    store.commit_accuracy("c1", "val", [row("c1", "val")])
    store.seal("c1", ["val"])
    store.commit_accuracy("c1", "v2", [row("c1", "v2")])
    store.seal("c1", ["v2"])
    store.seal("c1", ["v2"])
    assert files_of(store) == ["c1.parquet"]
    assert keys_of(store) == [("c1", "v2"), ("c1", "val")]


def test_sweeping_ends_an_interrupted_seal(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("val", "v2", "a"):
        store.commit_accuracy("c1", name, [row("c1", name)])
    deleted: list[str] = []

    def die_at_the_second(self: Storage, name: str) -> None:
        if deleted:
            raise KeyboardInterrupt
        deleted.append(name)
        Path(self.path(name)).unlink()

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "delete", die_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            store.seal("c1", ["val", "v2", "a"])
    assert len(files_of(store)) == 3  # the merged one, and two parts that it holds as well
    whole = [("c1", "a"), ("c1", "v2"), ("c1", "val")]
    assert keys_of(store) == whole
    store.sweep()
    assert files_of(store) == ["c1.parquet"]
    assert keys_of(store) == whole
    assert pq.read_table(store.storage.path("accuracy/c1.parquet")).num_rows == 3


def test_sweeping_removes_what_writers_left_half_written(store: Store) -> None:
    store.commit_accuracy("c1", "val", [row("c1")])
    store.save_artifact("c1", CHECKPOINT, b"weights")
    left = [
        "accuracy/.c1.v2.parquet.0123.tmp",
        "attempts/.c1.0001.parquet.0123.tmp",
        "artifacts/c1/.model.safetensors.0123.tmp",
        ".store.json.0123.tmp",
    ]
    for name in left:
        store.storage.write(name, b"half")
    assert keys_of(store) == [("c1", "val")]
    store.sweep()
    assert sorted(store.storage.walk("")) == [
        "accuracy/c1.parquet",
        "artifacts/c1/model.safetensors",
        "store.json",
    ]


def test_a_seal_sets_a_damaged_part_aside_and_keeps_the_rest(store: Store) -> None:
    store.commit_accuracy("c1", "val", [row("c1", "val")])
    store.storage.write("accuracy/c1.v2.parquet", b"garbage")
    store.seal("c1", ["val", "v2"])
    assert files_of(store) == ["c1.parquet"]
    assert files_of(store, "damaged") == ["accuracy.c1.v2.parquet"]
    assert keys_of(store) == [("c1", "val")]


# ---------------------------------------------------------------------- reading


def test_a_scan_shows_each_key_once(store: Store) -> None:
    store.commit_accuracy("c1", "val", [row("c1", "val"), row("c1", "val")])
    part = Path(store.storage.path("accuracy/c1.val.parquet"))
    Path(store.storage.path("accuracy/c1.parquet")).write_bytes(part.read_bytes())
    store.commit_accuracy("c1", "v2", [row("c1", "v2", corruption="fog")])
    assert keys_of(store) == [("c1", "v2"), ("c1", "val")]


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    damaged = {
        "truncated": data[: len(data) // 2],
        "no footer": data[:-8],
        "empty": b"",
        "garbage": b"\x00garbage\xff" * 100,
        "wrong columns": None,
    }[how]
    if damaged is None:
        pq.write_table(pa.table({"cell_id": [[1, 2]]}), path)
    else:
        path.write_bytes(damaged)


@pytest.mark.parametrize("how", ["truncated", "no footer", "empty", "garbage", "wrong columns"])
def test_a_damaged_file_is_named_and_the_others_are_read(store: Store, how: str) -> None:
    for cell_id in ("c1", "c2", "c3"):
        store.commit_accuracy(cell_id, "val", [row(cell_id)])
    damage(Path(store.storage.path("accuracy/c2.val.parquet")), how)
    scan = store.scan("accuracy")
    assert scan.damaged == ("accuracy/c2.val.parquet",)
    assert sorted(scan.table.column("cell_id").to_pylist()) == ["c1", "c3"]
    committed = store.committed()
    assert committed.damaged == scan.damaged
    assert set(committed.splits) == {"c1", "c3"}
    store.set_aside(committed.damaged)
    assert files_of(store) == ["c1.val.parquet", "c3.val.parquet"]
    assert files_of(store, "damaged") == ["accuracy.c2.val.parquet"]
    assert store.scan("accuracy").damaged == ()


def test_a_file_that_the_disk_refuses_is_not_called_damaged(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.commit_accuracy("c1", "val", [row("c1")])
    store.storage.write("accuracy/c2.val.parquet", b"garbage")

    def refuse(self: Storage, name: str) -> bytes:
        raise StorageError(f"cannot read {name}: Input/output error")

    monkeypatch.setattr(Storage, "read", refuse)
    with pytest.raises(StorageError):
        store.scan("accuracy")


def test_a_column_that_an_older_version_did_not_write_is_null(store: Store) -> None:
    store.commit_accuracy("c1", "val", [row("c1", n_correct_unmasked=2)])
    path = Path(store.storage.path("accuracy/c0.parquet"))
    old = pa.Table.from_pylist([row("c0")], schema=ACCURACY).drop_columns(["n_correct_unmasked"])
    pq.write_table(old, path)
    table = store.scan("accuracy", ["cell_id", "n_correct_unmasked"]).table.sort_by("cell_id")
    assert table.to_pydict() == {"cell_id": ["c0", "c1"], "n_correct_unmasked": [None, 2]}
    # The slow way round a damaged file reads it no differently.
    store.storage.write("accuracy/bad.parquet", b"garbage")
    scan = store.scan("accuracy", ["cell_id", "n_correct_unmasked"])
    assert scan.table.sort_by("cell_id").equals(table)
    assert scan.damaged == ("accuracy/bad.parquet",)


def test_an_empty_store_has_empty_tables(store: Store) -> None:
    for name, schema in TABLES.items():
        table = store.scan(name).table
        assert table.num_rows == 0
        assert table.schema.names == schema.names


def test_what_is_committed(store: Store) -> None:
    splits = [("fog", 1), ("fog", 2)]
    rows = [row("c1", "c", corruption=c, severity=s) for c, s in splits]
    store.commit_accuracy("c1", "c", rows)
    store.commit_accuracy("c1", "val", [row("c1", "val", epoch=1)])  # not of the finished cell
    store.save_artifact("c2", CHECKPOINT, b"weights")
    store.save_artifact("c3", "other.bin", b"")
    committed = store.committed()
    assert committed.splits == {"c1": {"c": set(splits)}}
    assert committed.checkpoints == {"c2"}
    assert committed.has("c1", "c", splits)
    assert committed.has("c1", "c", splits[:1])
    assert not committed.has("c1", "c", [*splits, ("fog", 3)])
    assert not committed.has("c1", "val", [(None, None)])
    assert not committed.has("c9", "c", splits)
    assert store.has_checkpoint("c2")
    assert not store.has_checkpoint("c3")
    assert store.read_artifact("c2", CHECKPOINT) == b"weights"


def test_others_read_it_without_this_project(store: Store) -> None:
    store.commit_accuracy("c1", "val", [row("c1", n_correct=1)])
    store.commit_accuracy("c1", "v2", [row("c1", "v2", n_correct=2)])
    store.seal("c1", ["val", "v2"])
    store.commit_accuracy("c2", "val", [row("c2", n_correct=4)])
    folder = store.storage.path("accuracy")
    frame = pd.read_parquet(folder)
    assert list(frame.columns) == ACCURACY.names
    assert frame.groupby("cell_id")["n_correct"].sum().to_dict() == {"c1": 3, "c2": 4}
    query = f"select cell_id, sum(n_correct)::int from '{folder}/*.parquet' group by 1 order by 1"
    assert duckdb.execute(query).fetchall() == [("c1", 3), ("c2", 4)]
    assert ds.dataset(folder).to_table().num_rows == 3


# ---------------------------------------------------------------------- the store as a whole


def test_making_a_store(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "new"))
    assert not store.exists
    store.check("s", "1")  # a new place will do
    assert not (tmp_path / "new").exists()
    store.create("s", "1")
    store.create("other", "2")  # is there already: stays what it is
    assert store.about() == {"schema": 2, "suite": "s", "suite_version": "1"}
    store.check("s", "1")
    assert open_store(store.uri).about()["suite"] == "s"


@pytest.mark.parametrize(("suite", "version"), [("s", "2"), ("other", "1")])
def test_a_store_takes_one_suite_in_one_version(store: Store, suite: str, version: str) -> None:
    with pytest.raises(UserError, match="it holds s version 1, the grid is for"):
        store.check(suite, version)


def test_a_place_that_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    for place in (file, file / "below"):
        with pytest.raises(UserError, match="is a file, not a folder"):
            Store(str(place)).check("s", "1")
    with pytest.raises(UserError, match="has other things in it"):
        Store(str(tmp_path)).check("s", "1")


def test_a_place_where_a_driver_died_before_there_was_a_store(tmp_path: Path) -> None:
    """As SIGKILL leaves it while the machines are asked, or right after the lease was taken."""
    Storage(str(tmp_path)).write(probe_name("1234", "driver"), b"1234")
    Storage(str(tmp_path)).write(f"{DRIVER}/0001.json", b"{}")
    (tmp_path / ".store.json.1234.tmp").write_bytes(b"{")
    store = Store(str(tmp_path))
    store.check("s", "1")
    store.create("s", "1")
    store.sweep()
    assert sorted(p.name for p in tmp_path.iterdir()) == [DRIVER, "store.json"]


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}"])
def test_what_is_no_store(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "store.json").write_text(text)
    with pytest.raises(UserError, match="there is no store here"):
        open_store(str(tmp_path))


def test_a_newer_store_is_refused(store: Store) -> None:
    store.storage.write("store.json", json.dumps(store.about() | {"schema": 99}).encode())
    with pytest.raises(UserError, match=r"newer version \(schema 99 > 2\)"):
        store.about()


def test_the_grid_is_kept(store: Store) -> None:
    with pytest.raises(UserError, match=r"no grid\.yaml"):
        store.read_grid()
    store.write_grid("name: x\n")
    assert store.read_grid() == "name: x\n"


# ---------------------------------------------------------------------- any order of events

CELLS, SETS = ("c1", "c2"), ("val", "v2", "a")
Step = tuple[str, str, str]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.sampled_from(CELLS), st.sampled_from(SETS)),
        st.tuples(st.just("seal"), st.sampled_from(CELLS), st.just("")),
        st.tuples(st.just("sweep"), st.just(""), st.just("")),
    ),
    max_size=12,
)


def splits_of(eval_dataset: str) -> list[dict[str, Any]]:
    if eval_dataset == "a":
        return [{"corruption": "fog", "severity": s} for s in (1, 2)]
    return [{}]


@settings(max_examples=60, deadline=None)
@given(steps=steps)
def test_any_order_of_events_gives_the_committed_rows(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Step]
) -> None:
    store = Store(str(tmp_path_factory.mktemp("store")))
    expected: set[tuple[Any, ...]] = set()
    unsealed: dict[str, set[str]] = {cell_id: set() for cell_id in CELLS}
    for kind, cell_id, name in steps:
        if kind == "commit":
            rows = [row(cell_id, name, **split) for split in splits_of(name)]
            store.commit_accuracy(cell_id, name, rows)
            unsealed[cell_id].add(name)
            expected |= {
                (cell_id, None, name, r.get("corruption"), r.get("severity"), None, None)
                for r in rows
            }
        elif kind == "seal" and unsealed[cell_id]:
            store.seal(cell_id, sorted(unsealed[cell_id]))
            unsealed[cell_id].clear()
        elif kind == "sweep":
            store.sweep()
            unsealed = {cell_id: set() for cell_id in CELLS}
        table = store.scan("accuracy", KEYS["accuracy"]).table
        found = list(zip(*table.to_pydict().values(), strict=True))
        assert len(found) == len(expected)
        assert set(found) == expected
    store.sweep()
    assert files_of(store) == sorted({f"{key[0]}.parquet" for key in expected})
