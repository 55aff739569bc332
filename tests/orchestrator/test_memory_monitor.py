"""What Ray's memory monitor kills is known as what it is, and tried again with more memory."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.demands import Demands
from orchestrator.driver import Driver
from orchestrator.executor import Job, Outcome
from orchestrator.plan import Node, Plan
from orchestrator.ray_executor import RayExecutor
from orchestrator.tries import read_tries
from tests.cells import make_cell
from workers.job import Site
from workers.outcome import ErrorKind as E
from workers.run import execute
from workers.store import Store


def linger(job: Job, site: Site) -> Outcome:
    return execute(job, site, lambda *_: time.sleep(60) or 0)


@pytest.fixture
def crowded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RayExecutor]:
    """A Ray that takes any machine for one whose memory is used up."""
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.001")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "200")
    site = Site(store=str(tmp_path / "store"), data_root="", loader_workers=4)
    executor = RayExecutor(site, Demands(), num_cpus=1, work=linger)
    yield executor
    executor.close()


@pytest.mark.slow
def test_a_cell_that_ray_kills_for_its_memory_is_known_to_have_run_out_of_it(
    crowded: RayExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.retry.MAX_BACKOFF_S", 0.1)
    given = list[tuple[float, int]]()
    submit = crowded.submit

    def note(job: Job) -> None:
        given.append((job.loader_share, job.memory_factor))
        submit(job)

    monkeypatch.setattr(crowded, "submit", note)
    store, cell = Store(str(tmp_path / "store")), make_cell()
    store.create("s", "1")
    plan = Plan({cell.cell_id: Node(cell, (), (), False, 0, 0)}, frozenset({cell.cell_id}))
    summary = Driver(plan, crowded, store).run()
    assert summary.failed[cell.cell_id].error is E.HOST_OOM
    assert summary.failed[cell.cell_id].message.startswith("OutOfMemoryError: ")
    assert given == [(1.0, 1), (0.5, 2), (0.25, 4), (0.0, 8)]
    tries = read_tries(store)[cell.cell_id]
    assert tries.failures == (E.HOST_OOM,) * 4
    assert tries.lasting is E.HOST_OOM
