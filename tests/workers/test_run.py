"""A try's books: what is in `attempts` when it starts and ends, and what its Outcome says."""

import errno
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.cells import make_cell, row
from workers.errors import DataError, DivergedError, Problem, UserError
from workers.job import Job, Site
from workers.outcome import ErrorKind
from workers.run import classify, execute
from workers.storage import StorageError
from workers.store import Store

CELL = make_cell()
JOB = Job(CELL, ("val", "v2"), attempt=3)


class OutOfMemoryError(RuntimeError):
    """Named as torch's is."""


PROBLEM = [Problem("here", "wrong")]
CLASSIFIED: list[tuple[Exception, ErrorKind]] = [
    (UserError(PROBLEM), ErrorKind.USER),
    (DataError(PROBLEM), ErrorKind.DATA),
    (DivergedError("loss is nan"), ErrorKind.DIVERGED),
    (StorageError("disk full"), ErrorKind.STORAGE),
    (OSError(errno.ENOSPC, "no space"), ErrorKind.STORAGE),
    (OSError(errno.EDQUOT, "quota"), ErrorKind.STORAGE),
    (OSError(errno.EIO, "i/o"), ErrorKind.STORAGE),
    (FileNotFoundError(errno.ENOENT, "gone"), ErrorKind.BUG),
    (MemoryError(), ErrorKind.HOST_OOM),
    (OutOfMemoryError("CUDA out of memory"), ErrorKind.CUDA_OOM),
    (RuntimeError("CUDA error: out of memory"), ErrorKind.CUDA_OOM),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), ErrorKind.CUDA_OOM),
    (RuntimeError("CUDA error: an illegal memory access was encount"), ErrorKind.WORKER_CRASH),
    (ValueError("CUDA error: says somebody else"), ErrorKind.BUG),
    (RuntimeError("anything else"), ErrorKind.BUG),
    (KeyError("x"), ErrorKind.BUG),
]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # for logs that no store takes
    return Site(store=str(tmp_path / "store"), data_root=".")


def attempts_of(site: Site) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = Store(site.store).scan("attempts").table.to_pylist()
    return rows


def test_a_try_is_in_the_store_while_it_runs_and_when_it_is_done(site: Site) -> None:
    seen: list[dict[str, Any]] = []

    def perform(job: Job, site: Site, store: Store) -> int:
        seen.extend(attempts_of(site))
        for name in job.evaluate:
            store.commit_accuracy(job.cell.cell_id, name, [row(job.cell.cell_id, name)])
        return 2

    outcome = execute(JOB, site, perform)
    assert (outcome.ok, outcome.rows, outcome.recorded) == (True, 2, True)
    key = {"cell_id": CELL.cell_id, "attempt": 3, "method": "ft", "downstream": "v2", "seed": 0}
    [running], [done] = seen, attempts_of(site)
    assert running.items() >= (key | {"state": "running", "finished_at": None}).items()
    assert done.items() >= (key | {"state": "done", "error_kind": None}).items()
    assert done["started_at"] == running["started_at"] <= done["finished_at"]
    assert done["pid"] == running["pid"] > 0
    assert done["seconds"] == outcome.seconds > 0
    assert done["peak_memory_bytes"] > 10_000_000
    assert Store(site.store).scan("accuracy").table.num_rows == 2


@pytest.mark.parametrize(("error", "kind"), CLASSIFIED, ids=lambda x: type(x).__name__)
def test_every_error_is_told_and_recorded(site: Site, error: Exception, kind: ErrorKind) -> None:
    def perform(job: Job, site: Site, store: Store) -> int:
        raise error

    outcome = execute(JOB, site, perform)
    assert (outcome.error, outcome.recorded, outcome.rows) == (kind, True, 0)
    assert outcome.message == f"{type(error).__name__}: {error}"
    assert "in perform" in outcome.traceback
    [attempt] = attempts_of(site)
    assert attempt["state"] == ("diverged" if kind is ErrorKind.DIVERGED else "failed")
    assert attempt["error_kind"] == kind.value
    assert attempt["message"] == outcome.message
    assert attempt["traceback"] == outcome.traceback


@pytest.mark.parametrize(("error", "kind"), CLASSIFIED, ids=lambda x: type(x).__name__)
def test_classify(error: Exception, kind: ErrorKind) -> None:
    assert classify(error) is kind


def test_torch_s_out_of_memory_is_known_by_name() -> None:
    torch = pytest.importorskip("torch")
    assert classify(torch.OutOfMemoryError("CUDA out of memory")) is ErrorKind.CUDA_OOM


def test_a_store_that_cannot_be_written_is_told(site: Site) -> None:
    Path(site.store).write_text("a file where the store should be")
    outcome = execute(JOB, site, lambda *_: 1)
    assert (outcome.error, outcome.recorded) == (ErrorKind.STORAGE, False)
    assert "cannot write attempts/" in outcome.message


def test_a_last_word_that_cannot_be_written_is_told(site: Site) -> None:
    def perform(job: Job, site: Site, store: Store) -> int:
        folder = Path(site.store) / "attempts"
        folder.rename(folder.with_name("elsewhere"))
        folder.write_text("a file where the table was")
        return 1

    outcome = execute(JOB, site, perform)
    assert (outcome.error, outcome.recorded) == (ErrorKind.STORAGE, False)


def test_a_message_that_is_not_unicode_is_recorded_escaped(site: Site) -> None:
    def perform(job: Job, site: Site, store: Store) -> int:
        raise DataError([Problem("img-\udcff.png", "does not decode")])

    assert execute(JOB, site, perform).error is ErrorKind.DATA
    assert attempts_of(site)[0]["message"] == r"DataError: img-\udcff.png: does not decode"
