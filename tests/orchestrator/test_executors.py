"""Executors: what comes out of real Ray when tasks end well, fail, or are killed."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
import torch
from ray import exceptions

from orchestrator.demands import Demand, Demands
from orchestrator.driver import Driver
from orchestrator.executor import Executor, InlineExecutor, Job, Outcome
from orchestrator.grid_file import Resources
from orchestrator.nodes import check_feasible
from orchestrator.plan import Node, Plan
from orchestrator.ray_executor import RayExecutor, classify, ending_spoilt, task_options
from orchestrator.retry import try_once
from orchestrator.tries import Standing, read_tries, set_apart
from tests.cells import make_cell, row
from workers import provenance
from workers.cell import Cell
from workers.errors import DataError, Problem, UserError
from workers.job import Site
from workers.logs import log_name
from workers.outcome import ErrorKind as E
from workers.release import HELD
from workers.run import execute
from workers.store import Store

N_CPUS = 2


def job(what: str, seed: int = 0) -> Job:
    return Job(make_cell(what, seed=seed), ("val",))


def act(job: Job, site: Site) -> Outcome:
    """Do on the worker what the cell's label says."""
    match job.cell.label:
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(3)
        case "raise":
            raise KeyError("raised on the worker")
        case "fail":
            return Outcome(error=E.DATA, message="told by the worker")
        case "sleep":
            time.sleep(300)
        case "look":
            return Outcome(message=repr(look(site)))
        case "say":
            sys.stdout.write("said outside of any cell\n")
        case "where":
            time.sleep(0.05)
            return Outcome(rows=os.getpid())
    return Outcome(rows=len(job.evaluate), recorded=True)


def look(site: Site) -> dict[str, Any]:
    return {
        "cuda": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "gpus": ray.get_gpu_ids(),
        "cpus": ray.get_runtime_context().get_assigned_resources()["CPU"],
        "memory": ray.get_runtime_context().get_assigned_resources().get("memory"),
        "omp": os.environ.get("OMP_NUM_THREADS"),
        "ray_version": site.ray_version,
        "pid": os.getpid(),
        "title": " ".join(psutil.Process().cmdline()).strip(),
        "task": ray.get_runtime_context().get_task_name(),
    }


def commit_one(job: Job, site: Site, store: Store) -> int:
    sys.stdout.write(f"{job.cell.label} says {job.attempt}\n")
    os.write(2, b"so does a C library\n")
    if job.cell.label == "die" and job.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if job.cell.label == "crash":
        ctypes.string_at(0) if job.attempt == 2 else os.kill(os.getpid(), signal.SIGKILL)
    if job.cell.label == "lose" and job.attempt == 1:
        raise RuntimeError("CUDA error: unspecified launch failure")
    if job.cell.label == "hold":
        hold_gpu_memory()
    for name in job.evaluate:
        store.commit_accuracy(job.cell.cell_id, name, [row(job.cell.cell_id, name)])
    return len(job.evaluate)


def hold_gpu_memory() -> None:
    """Have this process look as if it kept a cell's tensors on a GPU."""
    cuda = torch.cuda
    cuda.is_available = cuda.is_initialized = lambda: True  # type: ignore[assignment]
    cuda.empty_cache = lambda: None  # type: ignore[assignment]
    cuda.memory_allocated = lambda device=None: HELD + 1  # type: ignore[assignment]
    provenance.gpu_in_use = lambda: "GPU-1 pretended"
    provenance.peak_memory_bytes = lambda: HELD + 1


def act_or_run(job: Job, site: Site) -> Outcome:
    return ending_spoilt(partial(execute, perform=commit_one) if site.store else act)(job, site)


def drain(executor: Executor, *jobs: Job) -> dict[Job, Outcome]:
    for each in jobs:
        executor.submit(each)
    ended: dict[Job, Outcome] = {}
    while len(ended) < len(jobs):
        finished = executor.wait_any(60.0)
        assert finished is not None
        ended[finished[0]] = finished[1]
    return ended


def run(executor: Executor, what: str) -> Outcome:
    return next(iter(drain(executor, job(what)).values()))


# ---------------------------------------------------------------------- what both promise


@pytest.fixture(scope="module")
def on_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayExecutor]:
    executor = RayExecutor(Site(store="", data_root=""), Demands(), num_cpus=N_CPUS, work=act)
    yield executor
    executor.close()
    assert not ray.is_initialized()


@pytest.fixture(params=["inline", "ray"])
def executor(request: pytest.FixtureRequest) -> Executor:
    if request.param == "inline":
        return InlineExecutor(Site(store="", data_root=""), work=act)
    found: Executor = request.getfixturevalue("on_ray")
    return found


@pytest.mark.slow
def test_jobs_come_back_with_their_outcomes(executor: Executor) -> None:
    jobs = [job("well", seed) for seed in range(5)]
    ended = drain(executor, *jobs)
    assert set(ended) == set(jobs)
    assert set(ended.values()) == {Outcome(rows=1, recorded=True)}
    assert executor.capacity(executor.lane(jobs[0].cell)) >= 1


@pytest.mark.slow
def test_a_failure_that_the_worker_tells_comes_back_as_it_is(executor: Executor) -> None:
    assert run(executor, "fail") == Outcome(error=E.DATA, message="told by the worker")


@pytest.mark.slow
def test_waiting_with_nothing_in_flight_is_an_error(executor: Executor) -> None:
    with pytest.raises(LookupError):
        executor.wait_any(1.0)


def test_closing_drops_what_waits() -> None:
    inline = InlineExecutor(Site(store="", data_root=""), work=act)
    inline.submit(job("well"))
    inline.close()
    with pytest.raises(LookupError):
        inline.wait_any()


# ---------------------------------------------------------------------- Ray


@pytest.mark.slow
@pytest.mark.parametrize("how", ["die", "exit"])
def test_a_worker_that_dies_is_a_crash_and_others_go_on(on_ray: RayExecutor, how: str) -> None:
    ended = drain(on_ray, job(how), job("well", 1), job("well", 2))
    errors = {each.cell.label: outcome.error for each, outcome in ended.items()}
    assert errors == {how: E.WORKER_CRASH, "well": None}
    [crashed] = [outcome for outcome in ended.values() if not outcome.ok]
    assert crashed.message.startswith("WorkerCrashedError: ")
    assert not crashed.recorded


@pytest.mark.slow
def test_an_exception_is_a_bug_with_its_traceback(on_ray: RayExecutor) -> None:
    outcome = run(on_ray, "raise")
    assert outcome.error is E.BUG
    assert outcome.message == "KeyError: 'raised on the worker'"
    assert "in act" in outcome.traceback
    assert not outcome.recorded


@pytest.mark.slow
def test_a_cell_sees_its_cpu_and_no_gpu(on_ray: RayExecutor) -> None:
    seen = eval(run(on_ray, "look").message)
    assert seen["cuda"] == ""
    assert seen["gpus"] == []
    assert seen["cpus"] == 1.0
    assert seen["omp"] == "1"
    assert seen["ray_version"] == ray.__version__
    assert seen["pid"] != os.getpid()


@pytest.mark.slow
def test_a_process_is_named_after_its_cell_and_a_task_after_its_method(on_ray: RayExecutor) -> None:
    """Ray keeps metrics for every name that a task ever had."""
    cell = make_cell("look", seed=3)
    (outcome,) = drain(on_ray, Job(cell, ("val",))).values()
    seen = eval(outcome.message)
    assert seen["title"] == f"ray::{cell} {cell.cell_id}"
    assert seen["task"] == "look"
    done = eval(run(on_ray, "look").message)
    assert cell.cell_id not in done["title"]


@pytest.mark.slow
def test_workers_are_used_again(on_ray: RayExecutor) -> None:
    drain(on_ray, *[job("where", seed) for seed in range(4)])
    ended = drain(on_ray, *[job("where", seed) for seed in range(20)])
    assert len({outcome.rows for outcome in ended.values()}) <= N_CPUS + 1


@pytest.mark.slow
def test_nothing_that_finished_in_time_is_none(on_ray: RayExecutor) -> None:
    waiting = job("sleep")
    on_ray.submit(waiting)
    assert on_ray.wait_any(0.2) is None
    quick = job("well")
    on_ray.submit(quick)
    finished = on_ray.wait_any(60.0)
    assert finished is not None
    assert finished[0] is quick
    on_ray.cancel(waiting)
    finished = on_ray.wait_any(60.0)
    assert finished is not None
    assert finished[0] is waiting
    assert finished[1].error in (E.PREEMPTED, E.WORKER_CRASH)


@pytest.mark.slow
def test_the_capacity_keeps_every_cpu_busy(on_ray: RayExecutor) -> None:
    assert on_ray.capacity(on_ray.lane(make_cell())) == 2 * N_CPUS + 16


def runs_into(folder: Path, on_ray: RayExecutor, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Have the Ray that is up run cells into a store."""
    site = Site(store=str(folder), data_root="")
    monkeypatch.setattr(on_ray, "_site", site)
    monkeypatch.setattr(on_ray, "_work", act_or_run)
    monkeypatch.setattr(on_ray, "_classes", {})
    return site


def plan_of(*cells: Cell) -> Plan:
    nodes = {c.cell_id: Node(c, ("val",), ("val",), False, 0, 1) for c in cells}
    return Plan(nodes, frozenset(nodes))


@pytest.mark.slow
def test_a_cell_that_always_crashes_fails_in_the_end_and_stops_nothing_else(
    on_ray: RayExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its budget is what it is however often the driver is started again."""
    site = runs_into(tmp_path, on_ray, monkeypatch)
    store, crash = Store(site.store), make_cell("crash")
    store.create("s", "1")
    child, others = make_cell("child", (crash,)), [make_cell("well", seed=n) for n in range(3)]
    plan = plan_of(crash, child, *others)
    first = Driver(plan, on_ray, store, decide=try_once).run()
    assert set(first.failed) == {crash.cell_id}
    again = replace(plan, todo=frozenset({crash.cell_id, child.cell_id}))
    second = Driver(again, on_ray, store, tries=read_tries(store)).run()
    assert {c: o.error for c, o in second.failed.items()} == {crash.cell_id: E.WORKER_CRASH}
    assert second.blocked == {child.cell_id: crash.cell_id}
    assert set(first.done) == {cell.cell_id for cell in others}

    rows = [r for r in store.scan("attempts").table.to_pylist() if r["method"] == "crash"]
    assert [(row["attempt"], row["error_kind"]) for row in rows] == [
        (n, "worker_crash") for n in (1, 2, 3)
    ]
    assert all(row["pid"] != os.getpid() and row["seconds"] > 0 for row in rows)
    assert rows[1]["message"].startswith("Fatal Python error: Segmentation fault\n")
    assert rows[2]["message"].startswith("WorkerCrashedError: ")
    for number in (1, 2, 3):
        log = store.storage.read(log_name(crash.cell_id, number)).decode()
        assert f"crash says {number}\nso does a C library\n" in log, "it was killed, its log not"
    left, standing = set_apart(again, read_tries(store))
    assert left.todo == frozenset()
    assert standing == Standing({crash.cell_id: E.WORKER_CRASH}, frozenset({child.cell_id}))


@pytest.mark.slow
def test_a_process_that_is_of_no_more_use_ends_and_what_it_did_counts(
    on_ray: RayExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = runs_into(tmp_path, on_ray, monkeypatch)
    store, lose, hold = Store(site.store), make_cell("lose"), make_cell("hold")
    store.create("s", "1")
    summary = Driver(plan_of(lose, hold), on_ray, store).run()
    assert set(summary.done) == {lose.cell_id, hold.cell_id}
    rows = store.scan("attempts").table.to_pylist()
    tries = {(r["method"], r["attempt"]): (r["state"], r["error_kind"]) for r in rows}
    assert tries == {
        ("lose", 1): ("failed", "worker_crash"),
        ("lose", 2): ("done", None),
        ("hold", 1): ("done", None),
    }
    [failed] = [r for r in rows if r["state"] == "failed"]
    assert failed["message"] == "RuntimeError: CUDA error: unspecified launch failure"
    after = {
        outcome.rows for outcome in drain(on_ray, *[job("where", n) for n in range(8)]).values()
    }
    assert not after & {r["pid"] for r in rows if (r["method"], r["attempt"]) != ("lose", 2)}


@pytest.mark.slow
def test_ray_gets_what_a_worker_prints_and_a_log_what_its_cell_does(
    on_ray: RayExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(on_ray, "say")
    site = runs_into(tmp_path, on_ray, monkeypatch)
    cells = [make_cell("well", seed=n) for n in range(6)]
    assert Driver(plan_of(*cells), on_ray, Store(site.store)).run().ok
    storage = Store(site.store).storage
    logs = [storage.read(log_name(cell.cell_id, 1)).decode() for cell in cells]
    assert [log.count("well says 1\nso does a C library\n") for log in logs] == [1] * 6
    assert not any("outside" in log for log in logs)
    monkeypatch.undo()
    run(on_ray, "say")
    of_ray = "".join(map(Path.read_text, Path(session_folder(), "logs").glob("worker-*")))
    assert of_ray.count("well says 1\n") >= 6
    assert of_ray.count("said outside of any cell\n") >= 2


def session_folder() -> str:
    node: Any = ray._private.worker._global_node  # type: ignore[attr-defined]
    return str(node.get_session_dir_path())


@pytest.mark.slow
def test_memory_is_reserved_for_a_cell_that_ran_out_of_it(on_ray: RayExecutor) -> None:
    most = int(max(node["Resources"]["memory"] for node in ray.nodes()))
    ended = drain(on_ray, replace(job("look", 1), memory_factor=1000), job("look", 2))
    given = {each.cell.seed: eval(outcome.message)["memory"] for each, outcome in ended.items()}
    assert given == {1: most, 2: most // N_CPUS}


@pytest.mark.slow
def test_a_crash_is_recorded_and_tried_again(
    on_ray: RayExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole drive on the Ray that is up: the store has both tries of the cell that was killed."""
    site = runs_into(tmp_path, on_ray, monkeypatch)
    cells = [make_cell("die"), make_cell("well")]
    child = make_cell("child", tuple(cells))
    store = Store(site.store)
    summary = Driver(plan_of(*cells, child), on_ray, store).run()
    assert summary.ok
    assert summary.done[-1] == child.cell_id
    table = store.scan("attempts", ["method", "attempt", "state", "error_kind"]).table
    assert sorted(map(str, (tuple(r.values()) for r in table.to_pylist()))) == sorted(
        [
            "('die', 1, 'failed', 'worker_crash')",
            "('die', 2, 'done', None)",
            "('well', 1, 'done', None)",
            "('child', 1, 'done', None)",
        ]
    )
    assert store.scan("accuracy").table.num_rows == 3


@pytest.mark.slow
def test_a_cluster_that_does_not_answer_is_the_user_s_mistake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(**_: Any) -> None:
        raise ConnectionError("ray.init could not connect\nmore")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a token to show")
    with pytest.raises(UserError, match=r"no Ray cluster answers at '10\.0\.0\.1:6379': ray\.init"):
        RayExecutor(Site(store="", data_root=""), Demands(), address="10.0.0.1:6379")


# ---------------------------------------------------------------------- what fits on which node


def node(alive: bool = True, labels: dict[str, str] | None = None, **has: float) -> dict[str, Any]:
    return {"Alive": alive, "Resources": has, "Labels": labels or {}}


NODES = [
    node(CPU=8, GPU=2, memory=1e9, labels={"zone": "a"}),
    node(CPU=32, memory=8e9, labels={"zone": "b"}),
    node(alive=False, CPU=999, GPU=99, memory=1e15, labels={"zone": "c"}),
]


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"cpus": 32},
        {"gpus": 2, "cpus": 8},
        {"gpus": 0.5},
        {"labels": {"zone": "a"}, "gpus": 1},
        {"memory": 8_000_000_000},
    ],
)
def test_what_some_node_has_is_feasible(asked: dict[str, Any]) -> None:
    check_feasible([Demand(Resources(**asked))], NODES)


@pytest.mark.parametrize(
    ("asked", "problems"),
    [
        ({"gpus": 4}, ["resources.gpus: a cell asks for 4, no node has more than 2"]),
        (
            {"gpus": 3, "cpus": 64},
            [
                "resources.gpus: a cell asks for 3, no node has more than 2",
                "resources.cpus: a cell asks for 64, no node has more than 32",
            ],
        ),
        (
            {"labels": {"zone": "b"}, "gpus": 1},
            ["resources.gpus: a cell asks for 1, no node has more than 0"],
        ),
        (
            {"labels": {"zone": "c"}},
            ["resources.labels: no node has the labels zone=c (nodes have zone=a, zone=b)"],
        ),
        (
            {"labels": {"rack": "1"}},
            ["resources.labels: no node has the labels rack=1 (nodes have none of these)"],
        ),
        (
            {"gpus": 1, "cpus": 16},
            ["resources: no single node has all: 1 GPU, 16 CPUs"],
        ),
    ],
)
def test_what_no_node_has_is_named(asked: dict[str, Any], problems: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        check_feasible([Demand(Resources(**asked))], NODES)
    assert [str(problem) for problem in caught.value.problems] == problems


def test_the_options_of_a_task() -> None:
    hidden = {"runtime_env": {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}}}
    assert task_options(Resources()) == {"num_cpus": 1, "num_gpus": 0, **hidden}
    with_gpu = Resources(gpus=0.5, cpus=2, memory=1000, labels={"zone": "a"})
    assert task_options(with_gpu) == {
        "num_cpus": 2,
        "num_gpus": 0.5,
        "memory": 1000,
        "label_selector": {"zone": "a"},
    }


# ---------------------------------------------------------------------- what Ray's errors mean


def raised(cause: Exception) -> exceptions.RayTaskError:
    error = exceptions.RayTaskError("f", "traceback", cause, ip="127.0.0.1")
    found: exceptions.RayTaskError = error.as_instanceof_cause()
    return found


ERRORS: list[tuple[Callable[[], Exception], E]] = [
    (lambda: exceptions.WorkerCrashedError(), E.WORKER_CRASH),
    (lambda: exceptions.OutOfMemoryError("killed"), E.HOST_OOM),
    (lambda: exceptions.NodeDiedError("gone"), E.NODE_LOST),
    (lambda: exceptions.LocalRayletDiedError(), E.NODE_LOST),
    (lambda: exceptions.ObjectLostError("ff", None, ""), E.NODE_LOST),
    (lambda: exceptions.OwnerDiedError("ff", None, ""), E.NODE_LOST),
    (lambda: exceptions.TaskCancelledError(), E.PREEMPTED),
    (lambda: exceptions.RuntimeEnvSetupError("no"), E.USER),
    (lambda: exceptions.TaskUnschedulableError("no"), E.USER),
    (lambda: exceptions.OutOfDiskError(), E.STORAGE),
    (lambda: exceptions.RaySystemError("?"), E.BUG),
    (lambda: raised(ValueError("x")), E.BUG),
    (lambda: raised(DataError([Problem("", "x")])), E.BUG),
    (lambda: raised(exceptions.WorkerCrashedError()), E.WORKER_CRASH),
    (lambda: raised(exceptions.TaskCancelledError()), E.PREEMPTED),
    (lambda: raised(exceptions.ObjectLostError("ff", None, "")), E.NODE_LOST),
]


@pytest.mark.parametrize(("make", "kind"), ERRORS)
def test_classify(make: Callable[[], Exception], kind: E) -> None:
    assert classify(make()) is kind
