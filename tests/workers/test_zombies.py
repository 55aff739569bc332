"""A worker that was frozen, thought dead, and wakes when its successor is done."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.embedded import FAST, cell_of, embedded_model
from workers.cell import Cell
from workers.job import Job, Site
from workers.models import unpack_state
from workers.outcome import Outcome
from workers.run import execute
from workers.store import CHECKPOINT, Store

SETS = ("v2", "a", "r")
COLUMNS = ["cell_id", "epoch", "eval_dataset", "corruption", "severity", "n_correct", "loss"]
Freeze = Callable[[Store, str], bool]


def work(job: Job, site: Site, answer: multiprocessing.queues.Queue[Outcome]) -> None:
    answer.put(execute(job, site))


def rows(store: Store) -> list[dict[str, object]]:
    """Every row in every file, those with the same key included."""
    found: list[dict[str, object]] = store.read_files("accuracy", COLUMNS).table.to_pylist()
    return sorted(({k: r[k] for k in COLUMNS} for r in found), key=str)


def has_trained_for_a_while(store: Store, cell_id: str) -> bool:
    return bool(store.storage.names(f"artifacts/{cell_id}"))


def has_scored_a_set(store: Store, cell_id: str) -> bool:
    return bool(store.storage.names("accuracy"))


@pytest.mark.slow
@pytest.mark.parametrize("frozen_when", [has_trained_for_a_while, has_scored_a_set])
def test_a_zombie_s_rows_are_its_successor_s(
    digits_root: Path, tmp_path: Path, frozen_when: Freeze
) -> None:
    recipe = FAST.model_copy(update={"epochs": 3})
    cell = cell_of("ft", embedded_model("resnet_digits", digits_root), recipe)

    def site(name: str) -> Site:
        return Site(str(tmp_path / name), str(digits_root), state_seconds=0)

    undisturbed, store = Store(site("undisturbed").store), Store(site("store").store)
    spawn = multiprocessing.get_context("spawn")
    answers = spawn.Queue()
    zombie = spawn.Process(target=work, args=(Job(cell, SETS), site("store"), answers))
    zombie.start()
    try:
        freeze(zombie.pid, store, cell, frozen_when)
        retry = spawn.Process(target=work, args=(Job(cell, SETS, 2), site("store"), answers))
        retry.start()
        assert answers.get(timeout=200).ok
        retry.join()
        store.seal(cell.cell_id, SETS)
        sealed = rows(store)
        checkpoint = store.read_artifact(cell.cell_id, CHECKPOINT)
        assert psutil.Process(zombie.pid).status() == psutil.STATUS_STOPPED
        os.kill(zombie.pid, signal.SIGCONT)
        assert answers.get(timeout=200).ok
        zombie.join()
    finally:
        zombie.kill()
    assert execute(Job(cell, SETS), site("undisturbed")).ok
    assert sealed == rows(undisturbed)
    assert store.storage.names("accuracy") != [f"{cell.cell_id}.parquet"]  # it did write
    keys = store.scan("accuracy", COLUMNS).table.to_pylist()
    assert sorted(keys, key=str) == sealed
    assert store.read_artifact(cell.cell_id, CHECKPOINT) == checkpoint
    assert unpack_state(checkpoint)
    store.sweep()
    assert rows(store) == sealed
    assert store.storage.names("accuracy") == [f"{cell.cell_id}.parquet"]
    assert store.storage.names(f"artifacts/{cell.cell_id}") == [CHECKPOINT]
    attempts = store.scan("attempts", ["attempt", "state"]).table.sort_by("attempt").to_pylist()
    assert attempts == [{"attempt": n, "state": "done"} for n in (1, 2)]


def freeze(pid: int | None, store: Store, cell: Cell, when: Freeze) -> None:
    """Stop a process in its tracks as soon as it has left something."""
    assert pid is not None
    deadline = time.monotonic() + 200
    while not when(store, cell.cell_id):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(pid, signal.SIGSTOP)
