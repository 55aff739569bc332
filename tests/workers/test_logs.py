"""The log of a try: what it printed and logged, whole, its own, bounded, and not lost with it."""

import ctypes
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from tests.cells import make_cell
from tests.workers.loud import Loud
from workers import capture
from workers.images import load_in_parts
from workers.job import Job, Site
from workers.logs import fatal_error, keeping_log, log_name, rescue
from workers.outcome import ErrorKind
from workers.run import execute
from workers.storage import Storage, StorageError
from workers.store import Store

PROJECT = Path(__file__).resolve().parents[2]
CELL = make_cell()


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files of its own, so that what is left there can be seen."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "store"))


def log_of(storage: Storage, attempt: int = 1) -> str:
    return storage.read(log_name(CELL.cell_id, attempt)).decode()


def in_a_process(storage: Storage, body: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, whose descriptors 1 and 2 are real ones."""
    indented = "\n".join(f"    {line}" for line in body.strip().splitlines())
    code = f"""
import ctypes, logging, os, signal, subprocess, sys
from workers.logs import keeping_log
from workers.storage import Storage
storage = Storage({storage.uri!r})
log = logging.getLogger("workers.test")
with keeping_log(storage, {CELL.cell_id!r}, 1):
{indented}
print("after")
"""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, cwd=PROJECT)


def test_everything_that_is_printed_is_kept_and_shows_where_it_did(
    storage: Storage, temporary: Path
) -> None:
    done = in_a_process(
        storage,
        """
print("python's output")
print("python's error", file=sys.stderr)
ctypes.CDLL(None).puts(b"a C library's output, held back")
os.write(2, b"a C library's error\\n")
subprocess.run(["echo", "a child's output"])
log.info("what the project logs")
logging.getLogger("library").warning("what a library warns of")
""",
    )
    log = log_of(storage)
    printed = [
        "python's output",
        "python's error",
        "a C library's output, held back",
        "a C library's error",
        "a child's output",
        "what a library warns of",
    ]
    for text in printed:
        assert log.count(text) == done.stderr.count(text) == 1, text
    assert re.search(r"^2\d{3}-.* INFO workers.test: what the project logs$", log, re.M)
    assert "what the project logs" not in done.stderr, "it is for the log"
    assert done.stdout == "after\n"
    assert "after" not in log
    assert list(temporary.iterdir()) == []


def test_a_process_that_dies_leaves_its_last_words(storage: Storage, temporary: Path) -> None:
    done = in_a_process(
        storage,
        """
print("before")
log.info("step 1")
ctypes.string_at(0)
""",
    )
    assert done.returncode == -signal.SIGSEGV
    assert storage.names("logs") == []
    rescue(storage)
    log = log_of(storage)
    for text in ("before", "step 1", "Segmentation fault", "ended before its try did"):
        assert text in log
    assert fatal_error(storage, CELL.cell_id, 1) == "Fatal Python error: Segmentation fault"
    assert list(temporary.iterdir()) == []
    rescue(storage)
    assert log_of(storage) == log


def test_a_process_that_is_killed_leaves_what_it_said(storage: Storage) -> None:
    body = "print('before', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"
    assert in_a_process(storage, body).returncode == -signal.SIGKILL
    rescue(storage)
    assert log_of(storage).startswith("before\n")
    assert fatal_error(storage, CELL.cell_id, 1) == ""
    assert fatal_error(storage, CELL.cell_id, 2) == "", "there is no such log"


def test_the_log_of_who_lives_is_left_alone(storage: Storage, temporary: Path) -> None:
    with keeping_log(storage, CELL.cell_id, 1):
        os.write(1, b"half\n")
        rescue(storage)
        assert storage.names("logs") == []
        os.write(1, b"whole\n")
    assert log_of(storage) == "half\nwhole\n"


def test_a_child_that_outlives_its_try_does_not_keep_the_log(storage: Storage) -> None:
    body = """
subprocess.Popen(["sleep", "2"])
os.kill(os.getpid(), signal.SIGKILL)
"""
    in_a_process(storage, body)
    rescue(storage)
    assert "ended before its try did" in log_of(storage)


def test_tries_in_one_process_keep_their_words_apart(storage: Storage) -> None:
    libc = ctypes.CDLL(None)
    for number in (1, 2):
        with keeping_log(storage, CELL.cell_id, number):
            libc.puts(f"try {number}".encode())  # held back by C until somebody flushes it
            logging.getLogger("workers.x").info("logged by %d", number)
        libc.puts(b"between")
    libc.fflush(None)
    for number, other in ((1, 2), (2, 1)):
        log = log_of(storage, number)
        assert f"try {number}\n" in log
        assert f"logged by {number}\n" in log
        for text in (f"try {other}", f"logged by {other}", "between"):
            assert text not in log


def test_what_is_printed_under_pytest_is_not_lost(
    storage: Storage, capfd: pytest.CaptureFixture[str]
) -> None:
    with keeping_log(storage, CELL.cell_id, 1):
        sys.stdout.write("python\n")
        os.write(1, b"libc\n")
    sys.stdout.write("after\n")
    seen = capfd.readouterr()
    assert seen.out == "python\nafter\n"
    assert seen.err == "libc\n"
    assert log_of(storage) == "libc\n", "pytest takes the rest before it gets to a descriptor"


def test_a_log_has_its_beginning_and_its_end_and_no_more(
    storage: Storage, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "COPY_S", 0.01)
    line = b"x" * 99 + b"\n"
    with keeping_log(storage, CELL.cell_id, 1):
        os.write(1, b"the first line\n")
        for _ in range(320):
            os.write(1, line * 1000)  # 32 MB in all
        [path] = [p for p in temporary.rglob("*") if p.is_file()]
        logging.getLogger("workers.x").info("copied up to here")
        on_disk = path.stat().st_blocks * 512
        os.write(1, b"the last line\n")
    log = log_of(storage)
    assert len(log) < capture.HEAD + capture.TAIL + 100
    assert log.startswith("the first line\nxxx")
    assert log.endswith("the last line\n")
    left_out = re.search(r"\n\[\.\.\. ([\d,]+) bytes are left out here \.\.\.\]\n", log)
    assert left_out
    assert int(left_out[1].replace(",", "")) > 30_000_000
    assert "\0" not in log
    if sys.platform == "linux":
        assert on_disk < 8 << 20, "the middle takes no room on this machine either"


def test_a_storage_that_refuses_gets_the_log_later(storage: Storage) -> None:
    place = Path(storage.path(""))
    place.write_text("a file where the store should be")
    with keeping_log(storage, CELL.cell_id, 1):
        os.write(1, b"said\n")
    with pytest.raises(StorageError):
        rescue(storage)
    place.unlink()
    rescue(storage)
    assert log_of(storage).startswith("said\n")


def test_a_cell_runs_where_no_log_can_be_kept(
    storage: Storage, temporary: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (temporary / f"rib-logs-{os.getuid()}").write_text("in the way")
    with keeping_log(storage, CELL.cell_id, 1):
        os.write(1, b"said\n")
    rescue(storage)
    assert capfd.readouterr().out == "said\n"
    assert storage.names("logs") == []


def test_every_try_has_its_log(tmp_path: Path) -> None:
    site = Site(store=str(tmp_path / "store"), data_root=".", micro_batches=2, loader_workers=4)
    store = Store(site.store)

    def fail(job: Job, site: Site, store: Store) -> int:
        raise MemoryError("no more")

    job = Job(CELL, ("val",), attempt=3, micro_batches=4, loader_share=0.5, memory=1 << 30)
    assert execute(job, site, fail).error is ErrorKind.HOST_OOM
    log = log_of(store.storage, 3)
    assert f"try 3 at {CELL}, cell {CELL.cell_id}: " in log
    assert "8 parts a batch, 2 loader workers, 1073741824 bytes of memory reserved" in log
    assert "ERROR workers.run: host_oom" in log
    assert "MemoryError: no more" in log
    [row] = store.scan("attempts").table.to_pylist()
    assert (row["micro_batches"], row["loader_workers"], row["memory_bytes"]) == (8, 2, 1 << 30)


def test_the_next_try_brings_in_the_log_of_one_that_was_killed(storage: Storage) -> None:
    in_a_process(storage, "print('killed', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)")
    site = Site(store=storage.uri, data_root=".")
    assert execute(Job(CELL, (), attempt=2), site, lambda *_: 0).ok
    assert "killed" in log_of(storage, 1)
    assert "killed" not in log_of(storage, 2)


def test_an_interrupt_leaves_the_descriptors_as_they_were(storage: Storage) -> None:
    before = [os.fstat(descriptor).st_ino for descriptor in (1, 2)]

    def interrupt() -> None:
        with keeping_log(storage, CELL.cell_id, 1):
            os.write(1, b"said\n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert [os.fstat(descriptor).st_ino for descriptor in (1, 2)] == before
    rescue(storage)
    assert log_of(storage).startswith("said\n")


@pytest.mark.slow
def test_processes_that_decode_images_print_into_the_log(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TMPDIR")  # too long a name for the socket of multiprocessing
    monkeypatch.setattr(tempfile, "tempdir", None)
    parts = [torch.arange(2), torch.arange(2)]
    with keeping_log(storage, CELL.cell_id, 1):
        assert len(list(load_in_parts(Loud(), parts, loader_workers=1))) == 2
    assert log_of(storage).count("a decoder's warning") == 4
