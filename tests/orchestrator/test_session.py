"""What a driver makes of the tries that an earlier one has left running."""

import tempfile
from pathlib import Path

import pytest

from orchestrator.lease import Lease
from orchestrator.session import Terms, close_stale_attempts, tidy
from tests.cells import make_cell, row
from tests.orchestrator.test_plan import make_grid
from workers.attempts import begun_row
from workers.job import Job, Site
from workers.logs import log_name
from workers.outcome import ErrorKind as E
from workers.store import CHECKPOINT, Committed, Store

CELL = make_cell()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return Store(str(tmp_path / "store"))


def leave_running(store: Store, attempt: int, log: str | None = None) -> None:
    store.commit_attempt(begun_row(Job(CELL, (), attempt), Site(store.uri, ".")))
    if log is not None:
        store.storage.write(log_name(CELL.cell_id, attempt), log.encode())


def test_a_try_that_a_driver_left_was_cut_short_and_does_not_count(store: Store) -> None:
    leave_running(store, 1)
    leave_running(store, 2, "epoch 1\nFatal Python error: Aborted\n")
    tries = close_stale_attempts(store)[CELL.cell_id]
    assert (tries.number, tries.failures) == (2, ())
    rows = store.scan("attempts").table.to_pylist()
    assert [(row["state"], row["error_kind"]) for row in rows] == [("failed", "preempted")] * 2
    assert rows[0]["message"] == "the driver stopped before this try ended"
    assert rows[0]["finished_at"] is not None


def test_a_cell_that_took_its_driver_along_has_crashed(store: Store) -> None:
    """One that runs in the driver's own process; else it would do so again and again."""
    for attempt in (1, 2, 3):
        leave_running(store, attempt, "Fatal Python error: Segmentation fault\n\nThread ...\n")
    tries = close_stale_attempts(store)[CELL.cell_id]
    assert tries.failures == (E.WORKER_CRASH,) * 3
    assert tries.lasting is E.WORKER_CRASH
    row = store.scan("attempts").table.to_pylist()[0]
    assert row["message"] == "Fatal Python error: Segmentation fault"


def leave_all_sorts(store: Store) -> None:
    """Leave what drivers and workers leave that die just after the last row is in."""
    store.create("s", "1")
    leave_running(store, 1)
    store.commit_accuracy(CELL.cell_id, "val", [row(CELL.cell_id)])
    store.save_artifact(CELL.cell_id, CHECKPOINT, b"weights")
    store.save_artifact(CELL.cell_id, "training.00001.0123456789abcdef.safetensors", b"state")
    store.storage.write("history/.c.parquet.0123.tmp", b"half of it")


LEFT = {
    f"attempts/{CELL.cell_id}.0001.parquet",
    f"accuracy/{CELL.cell_id}.parquet",
    f"artifacts/{CELL.cell_id}/{CHECKPOINT}",
    "store.json",
}


def test_a_run_that_finds_nothing_to_do_clears_what_died_after_the_last_row(store: Store) -> None:
    leave_all_sorts(store)
    tidy(store, make_grid(), Committed(), Terms(), lambda _: None)
    assert set(store.storage.walk("")) == LEFT
    assert store.scan("attempts", ["state"]).table.to_pylist() == [{"state": "failed"}]
    # Where nothing is left, nothing is written, not even who looked.
    before = {path: path.stat().st_mtime_ns for path in Path(store.uri).rglob("*")}
    tidy(store, make_grid(), Committed(), Terms(), lambda _: None)
    assert {path: path.stat().st_mtime_ns for path in Path(store.uri).rglob("*")} == before


def test_what_somebody_else_drives_is_left_to_them(store: Store) -> None:
    leave_all_sorts(store)
    lease = Lease(store.storage)
    lease.acquire()
    try:
        before = set(store.storage.walk("")) - {f"driver/{lease.driver}.beat"}
        tidy(store, make_grid(), Committed(), Terms(), lambda _: None)
        assert set(store.storage.walk("")) >= before
        assert store.scan("attempts", ["state"]).table.to_pylist() == [{"state": "running"}]
    finally:
        lease.release()
