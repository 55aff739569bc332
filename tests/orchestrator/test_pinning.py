"""Cells on a real Ray of several nodes, pinned to labels and to GPUs that are pretended."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orchestrator import ray_executor
from orchestrator.demands import Demand, Demands
from orchestrator.executor import Job, Outcome
from orchestrator.grid_file import Resources
from orchestrator.ray_executor import RayExecutor
from orchestrator.tuner import bundle_of
from tests.cells import make_cell
from tests.orchestrator.clusters import cluster_of
from tests.orchestrator.test_executors import drain
from workers.errors import UserError
from workers.job import Site

CARD = "ray.io/accelerator-type"
SITE = Site(store="", data_root="")
DEMANDS = Demands(
    Resources(),
    by_method={
        "large": Resources(gpus=2, cpus=2, labels={CARD: "A100"}),
        "small": Resources(gpus=0.5, labels={CARD: "in(T4,L4)"}),
    },
)


def look(job: Job, site: Site) -> Outcome:
    context = ray.get_runtime_context()
    if job.cell.seed < 0:
        time.sleep(-job.cell.seed)
    seen = {
        "node": context.get_node_labels()[CARD] if context.get_node_labels() else None,
        "gpus": len(ray.get_gpu_ids()),
        "cuda": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "threads": site.threads,
        "name": context.get_task_name(),
    }
    return Outcome(message=repr(seen))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with cluster_of(
        {"num_cpus": 4, "num_gpus": 2, "labels": {CARD: "A100"}},
        {"num_cpus": 4, "num_gpus": 1, "labels": {CARD: "T4"}},
    ) as found:
        yield found


@pytest.mark.slow
def test_each_cell_gets_what_its_entries_ask_for_and_no_other_gpu(cluster: Any) -> None:
    executor = RayExecutor(SITE, DEMANDS, address=cluster.address, work=look)
    try:
        jobs = [
            Job(make_cell(name, seed=n), ()) for name in ("large", "small", "ft") for n in (1, 2, 3)
        ]
        assert {executor.lane(job.cell) for job in jobs} == {"method large", "method small", ""}
        assert executor.capacity("method large") == 2 * 1 + 16
        assert executor.capacity("method small") == 2 * 2 + 16
        ended = drain(executor, *jobs)
    finally:
        executor.close()
    for job, outcome in ended.items():
        assert outcome.error is None, outcome
        seen = eval(outcome.message)
        assert seen["name"] == job.cell.label
        match job.cell.label:
            case "large":
                assert (seen["node"], seen["gpus"], seen["cuda"]) == ("A100", 2, "0,1")
                assert seen["threads"] == 2
            case "small":
                assert (seen["node"], seen["gpus"], seen["cuda"]) == ("T4", 1, "0")
            case _:
                assert (seen["gpus"], seen["cuda"], seen["threads"]) == (0, "", 1)


@pytest.mark.slow
def test_why_cells_wait_is_told_by_what_is_free(cluster: Any) -> None:
    executor = RayExecutor(SITE, DEMANDS, address=cluster.address, work=look)
    try:
        jobs = [Job(make_cell("large", seed=-n), ()) for n in (6, 7)]
        for job in jobs:
            executor.submit(job)
        deadline = time.monotonic() + 30
        while "free" not in (why := executor.why_waiting(executor.lane(jobs[0].cell))):
            assert time.monotonic() < deadline, why
            time.sleep(0.2)
    finally:
        executor.close()
    assert why == (
        "1 node could run them, with 0 of 2 GPUs and 2 of 4 CPUs free; each asks for "
        f"2 GPUs, 2 CPUs, {CARD}=A100"
    )


@pytest.mark.slow
def test_what_fits_nowhere_is_refused_at_once(cluster: Any) -> None:
    wrong = [
        Demand(Resources(gpus=3), "model m"),
        Demand(Resources(labels={CARD: "H100"}), "method x"),
    ]
    with pytest.raises(UserError) as refused:
        RayExecutor(SITE, DEMANDS, address=cluster.address, work=look, expected=wrong)
    assert [str(problem) for problem in refused.value.problems] == [
        "resources.gpus: a cell of model m asks for 3, no node has more than 2",
        f"resources.labels: no node has the labels {CARD}=H100 that a cell of method x asks for "
        f"(nodes have {CARD}=A100, {CARD}=T4)",
    ]
    assert not ray.is_initialized()


@pytest.mark.slow
def test_where_nodes_may_come_what_fits_nowhere_now_is_queued(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RIB_AUTOSCALES", "1")
    demands = Demands(by_method={"large": Resources(gpus=8, labels={CARD: "H100"})})
    expected = demands.distinct([make_cell("large")]).values()
    executor = RayExecutor(SITE, demands, address=cluster.address, work=look, expected=expected)
    try:
        job = Job(make_cell("large"), ())
        executor.submit(job)
        assert executor.wait_any(1.0) is None
        assert executor.why_waiting(executor.lane(job.cell)).startswith(
            f"resources.labels: no node has the labels {CARD}=H100 that a cell of method large"
        )
        assert drain(executor, Job(make_cell("ft"), ()))
    finally:
        executor.close()


@pytest.mark.slow
def test_trials_of_a_search_run_on_the_nodes_that_were_asked(cluster: Any) -> None:
    ray_executor.connect(cluster.address, None)
    try:
        ids = {
            node["Labels"][CARD]: node["NodeID"] for node in ray.nodes() if CARD in node["Labels"]
        }
        here = ray.remote(num_cpus=1)(lambda: ray.get_runtime_context().get_node_id())
        for card, node_id in ids.items():
            for resources in (Resources(), Resources(labels={CARD: card})):
                bundle = bundle_of(resources, frozenset({node_id, "0" * 56}))
                group = bundle.to_placement_group()
                inside = here.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group))
                assert ray.get(inside.remote(), timeout=60) == node_id
                ray.util.remove_placement_group(group)
    finally:
        ray.shutdown()
