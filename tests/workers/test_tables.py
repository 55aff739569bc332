"""Files that others wrote: older and later versions, and what is none of a table's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cells import row
from workers.schemas import ACCURACY
from workers.store import CHECKPOINT, Store

OLDEST = pa.schema(
    [
        ("cell_id", pa.string()),
        ("epoch", pa.int64()),
        ("eval_dataset", pa.string()),
        ("corruption", pa.string()),
        ("severity", pa.int64()),
        ("n_correct", pa.int64()),
        ("n_total", pa.int64()),
    ]
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "store"))
    store.create("s", "1")
    store.commit_accuracy("good", "val", [row("good")])
    return store


def put(store: Store, name: str, table: pa.Table) -> None:
    pq.write_table(table, store.storage.path(f"accuracy/{name}.parquet"))


def older(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist([{k: r.get(k) for k in OLDEST.names} for r in rows], schema=OLDEST)


def test_what_an_older_version_wrote_reads_and_is_kept(store: Store) -> None:
    put(store, "old", older(row("old", n_correct=2)))
    put(store, "old.v2", older(row("old", "v2", n_correct=1)))
    scan = store.scan("accuracy")
    assert scan.damaged == ()
    assert scan.table.schema.equals(ACCURACY)
    found = {(r["cell_id"], r["eval_dataset"]): r for r in scan.table.to_pylist()}
    assert found["old", "val"] == dict.fromkeys(ACCURACY.names) | {
        "cell_id": "old", "eval_dataset": "val", "n_correct": 2, "n_total": 4
    }  # fmt: skip
    store.sweep()
    again = {(r["cell_id"], r["eval_dataset"]): r for r in store.scan("accuracy").table.to_pylist()}
    assert again == found
    assert store.storage.names("accuracy") == ["good.parquet", "old.parquet"]


def test_a_column_of_a_later_version_is_not_lost_when_files_are_merged(store: Store) -> None:
    for name in ("val", "v2"):
        rows = pa.Table.from_pylist([row("new", name)], schema=ACCURACY)
        later = rows.append_column("calibration", pa.array([0.25]))
        put(store, f"new.{name}", later)
    store.commit_accuracy("new", "a", [row("new", "a")])
    scan = store.scan("accuracy")
    assert scan.damaged == ()
    assert scan.table.schema.equals(ACCURACY)
    store.seal("new", ["val", "v2", "a"])
    merged = pq.read_table(store.storage.path("accuracy/new.parquet"))
    assert merged.column_names == [*ACCURACY.names, "calibration"]
    by_set = zip(merged["eval_dataset"].to_pylist(), merged["calibration"].to_pylist(), strict=True)
    assert dict(by_set) == {"val": 0.25, "v2": 0.25, "a": None}
    assert store.scan("accuracy").table.num_rows == 4


def typed(name: str, kind: pa.DataType, value: Any) -> pa.Table:
    table = pa.Table.from_pylist([row("bad")], schema=ACCURACY)
    place = table.column_names.index(name)
    return table.set_column(place, name, pa.array([value], kind))


FOREIGN: dict[str, tuple[str, pa.Table, str]] = {
    "no key": ("bad", older(row("bad")).drop_columns(["severity"]), "no column 'severity'"),
    "no counts": ("bad", older(row("bad")).drop_columns(["n_correct"]), "no column 'n_correct'"),
    "counts as text": ("bad", typed("n_correct", pa.string(), "3"), "is string, not int64"),
    "counts as floats": ("bad", typed("n_total", pa.float64(), 4.0), "is double, not int64"),
    "another cell": ("bad", older(row("bad"), row("good")), "other keys than its name"),
    "another set": ("bad.val", older(row("bad", "v2")), "other keys than its name"),
    "no cell": ("bad", older(row("bad") | {"cell_id": None}), "other keys than its name"),
    "something else": ("bad", pa.table({"x": [1]}), "no column 'cell_id'"),
    "a column twice": (
        "bad",
        typed("loss", pa.float64(), 1.0).append_column("loss", pa.array([2.0])),
        "'loss' twice",
    ),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_file_is_named_and_none_of_it_is_taken(store: Store, kind: str) -> None:
    name, table, reason = FOREIGN[kind]
    put(store, name, table)
    committed = store.committed()
    assert set(committed.splits) == {"good"}
    assert committed.damaged == (f"accuracy/{name}.parquet",)
    scan = store.scan("accuracy", ["cell_id"])
    assert reason in scan.damage[f"accuracy/{name}.parquet"]
    assert scan.table.to_pydict() == {"cell_id": ["good"]}
    store.set_aside(committed.damaged)
    store.set_aside(committed.damaged)  # by somebody else, at the same time
    assert store.scan("accuracy").damaged == ()
    assert store.storage.names("damaged") == [f"accuracy.{name}.parquet"]


def test_an_attempt_under_another_number_is_foreign(store: Store) -> None:
    store.commit_attempt({"cell_id": "c", "attempt": 1, "state": "done"})
    store.storage.move("attempts/c.0001.parquet", "attempts/c.0002.parquet")
    assert store.scan("attempts").damaged == ("attempts/c.0002.parquet",)


# ---------------------------------------------------------------------- workers thought dead


@pytest.mark.parametrize("late", ["a", "zebra"])
def test_a_part_that_comes_after_the_seal_changes_nothing(store: Store, late: str) -> None:
    """Whether its name sorts before `parquet` or after it."""
    for name in ("val", late):
        store.commit_accuracy("c", name, [row("c", name, n_correct=3)])
    store.seal("c", ["val", late])
    store.commit_accuracy("c", late, [row("c", late, n_correct=1)])
    for _ in range(2):
        rows = store.scan("accuracy", ["cell_id", "eval_dataset", "n_correct"]).table.to_pylist()
        found = {r["eval_dataset"]: r["n_correct"] for r in rows if r["cell_id"] == "c"}
        assert len(rows) == 3
        assert found == {"val": 3, late: 3}
        store.sweep()
    assert store.storage.names("accuracy") == ["c.parquet", "good.parquet"]


def test_a_late_last_word_is_on_its_own_try(store: Store) -> None:
    def tell(attempt: int, state: str) -> None:
        store.commit_attempt({"cell_id": "c", "attempt": attempt, "state": state})

    tell(1, "running")
    tell(1, "failed")  # the driver: it was lost
    tell(2, "running")
    tell(1, "done")  # it was not
    rows = store.scan("attempts", ["attempt", "state"]).table.sort_by("attempt").to_pylist()
    assert rows == [{"attempt": 1, "state": "done"}, {"attempt": 2, "state": "running"}]


def test_sweeping_removes_the_training_states_of_what_is_trained(store: Store) -> None:
    state = "training.00003.0123456789abcdef.safetensors"
    store.save_artifact("trained", CHECKPOINT, b"weights")
    for cell_id in ("trained", "in training"):
        store.save_artifact(cell_id, state, b"state")
    store.sweep()
    assert sorted(store.storage.walk("artifacts")) == [
        f"artifacts/in training/{state}",
        f"artifacts/trained/{CHECKPOINT}",
    ]
