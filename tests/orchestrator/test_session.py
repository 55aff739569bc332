"""What a driver makes of the tries that an earlier one has left running."""

import tempfile
from pathlib import Path

import pytest

from orchestrator.session import close_stale_attempts
from tests.cells import make_cell
from workers.attempts import begun_row
from workers.job import Job, Site
from workers.logs import log_name
from workers.outcome import ErrorKind as E
from workers.store import Store

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
