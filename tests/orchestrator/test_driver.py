"""The ready-set loop, on an executor that fails as it is told to."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import driver as driver_module
from orchestrator.driver import Driver, Event, Summary
from orchestrator.executor import Executor, Job, Outcome
from orchestrator.plan import Node, Plan
from orchestrator.retry import BUDGETS
from orchestrator.tries import Tries
from tests.cells import make_cell, row
from workers.attempts import begun_row
from workers.cell import Cell
from workers.job import Site
from workers.outcome import ErrorKind as E
from workers.storage import StorageError
from workers.store import Store


class Scripted:
    """An Executor whose jobs end in random order, each as its cell's script says, then well."""

    has_queue = True
    instruments: Any = None

    def __init__(
        self,
        store: Store,
        script: Mapping[str, Sequence[E]] | None = None,
        capacity: int = 3,
        seed: int = 0,
    ) -> None:
        self.store, self.room = store, capacity
        self.script = {cell_id: list(kinds) for cell_id, kinds in (script or {}).items()}
        self.rng = random.Random(seed)
        self.in_flight: list[Job] = []
        self.started: list[Job] = []
        self.ended: list[tuple[str, bool]] = []
        self.most = 0
        self.timeouts: list[float | None] = []

    def lane(self, cell: Cell) -> str:
        return ""

    def idle(self, lane: str) -> int:
        return 0

    def capacity(self, lane: str) -> int:
        return self.room

    def submit(self, job: Job) -> None:
        assert job.cell.cell_id not in {other.cell.cell_id for other in self.in_flight}
        self.in_flight.append(job)
        self.started.append(job)
        self.most = max(self.most, len(self.in_flight))

    def wait_any(self, timeout_s: float | None = None) -> tuple[Job, Outcome] | None:
        self.timeouts.append(timeout_s)
        if not self.in_flight:
            raise LookupError
        job = self.in_flight.pop(self.rng.randrange(len(self.in_flight)))
        cell_id = job.cell.cell_id
        if kinds := self.script.get(cell_id):
            kind = kinds.pop(0)
            self.ended.append((cell_id, False))
            return job, Outcome(error=kind, message=f"scripted {kind}")
        for name in job.evaluate:
            self.store.commit_accuracy(cell_id, name, [row(cell_id, name)])
        self.ended.append((cell_id, True))
        return job, Outcome(rows=len(job.evaluate), recorded=True)

    def cancel(self, job: Job) -> None: ...

    def why_waiting(self, lane: str) -> str:
        return "it is scripted"

    def close(self) -> None: ...


class Clock:
    """Stands for the time module: sleeping takes no time, and is remembered."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(driver_module, "time", clock)
    return clock


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def make_plan_of(
    *cells: Cell, evaluate: tuple[str, ...] = ("val", "v2"), weights: Sequence[Cell] = ()
) -> Plan:
    nodes = {c.cell_id: Node(c, evaluate, evaluate, c in weights, 0, 1) for c in cells}
    return Plan(nodes, frozenset(nodes))


def drive(plan: Plan, executor: Scripted) -> tuple[Summary, list[Event]]:
    events: list[Event] = []
    runs_on: Executor = executor  # it is one
    summary = Driver(plan, runs_on, executor.store, events.append).run()
    assert executor.in_flight == []
    return summary, events


def tries(executor: Scripted, cell: Cell) -> list[int]:
    return [job.attempt for job in executor.started if job.cell == cell]


A = make_cell("a")
B, C = make_cell("b", (A,)), make_cell("c", (A,))
D = make_cell("d", (B, C))
OTHER = make_cell("other")


def test_every_cell_runs_once_and_no_child_before_its_parents(store: Store) -> None:
    executor = Scripted(store)
    summary, events = drive(make_plan_of(A, B, C, D, OTHER), executor)
    assert summary.ok
    assert sorted(summary.done) == sorted(c.cell_id for c in (A, B, C, D, OTHER))
    assert Counter(job.cell.label for job in executor.started) == Counter("abcd") + Counter(
        ["other"]
    )
    order = [cell_id for cell_id, _ in executor.ended]
    assert order.index(A.cell_id) < order.index(B.cell_id) < order.index(D.cell_id)
    kinds = Counter(event.kind for event in events)
    assert kinds == {"submitted": 5, "done": 5}
    assert store.storage.names("accuracy") == sorted(f"{c}.parquet" for c in summary.done)
    assert store.scan("accuracy").table.num_rows == 10


def test_the_longest_chain_goes_first(store: Store) -> None:
    lone = [make_cell(f"lone{i}") for i in range(5)]
    executor = Scripted(store, capacity=1)
    drive(make_plan_of(*lone, A, B, C, D), executor)
    assert executor.started[0].cell == A
    assert {job.cell.label for job in executor.started[1:3]} == {"b", "c"}


def test_a_failure_blocks_its_descendants_and_nothing_else(store: Store) -> None:
    executor = Scripted(store, {B.cell_id: [E.BUG]})
    summary, events = drive(make_plan_of(A, B, C, D, OTHER), executor)
    assert not summary.ok
    assert set(summary.done) == {A.cell_id, C.cell_id, OTHER.cell_id}
    assert {c: o.error for c, o in summary.failed.items()} == {B.cell_id: E.BUG}
    assert summary.blocked == {D.cell_id: B.cell_id}
    [blocked] = [event for event in events if event.kind == "blocked"]
    assert blocked.node.cell == D
    assert blocked.detail == f"by {B}"
    assert tries(executor, D) == []
    [attempt] = store.scan("attempts").table.to_pylist()
    assert (attempt["cell_id"], attempt["state"], attempt["error_kind"]) == (
        B.cell_id,
        "failed",
        "bug",
    )


def test_a_cell_that_has_its_weights_is_not_blocked(store: Store) -> None:
    executor = Scripted(store, {A.cell_id: [E.DATA]})
    summary, _ = drive(make_plan_of(A, B, C, D, weights=[B]), executor)
    assert summary.done == [B.cell_id]
    assert set(summary.failed) == {A.cell_id}
    assert summary.blocked == {C.cell_id: A.cell_id, D.cell_id: A.cell_id}


@pytest.mark.parametrize("kind", [k for k in E if BUDGETS[k].retries is not None])
def test_the_budget_of_each_kind_is_honoured(store: Store, clock: Clock, kind: E) -> None:
    allowed = BUDGETS[kind].retries or 0
    executor = Scripted(store, {A.cell_id: [kind] * allowed})
    assert drive(make_plan_of(A), executor)[0].ok
    assert tries(executor, A) == list(range(1, allowed + 2))

    executor = Scripted(store, {A.cell_id: [kind] * (allowed + 1)})
    summary, events = drive(make_plan_of(A), executor)
    assert summary.failed[A.cell_id].error is kind
    assert tries(executor, A) == list(range(1, allowed + 2))
    assert Counter(e.kind for e in events) == Counter(
        {"submitted": allowed + 1, "retry": allowed, "failed": 1}
    )
    states = store.scan("attempts", ["state"]).table.column("state").to_pylist()
    state = "diverged" if kind is E.DIVERGED else "failed"
    assert states == [state] * (allowed + 1)


def test_waits_double(store: Store, clock: Clock) -> None:
    executor = Scripted(store, {A.cell_id: [E.NODE_LOST] * 3})
    assert drive(make_plan_of(A), executor)[0].ok
    assert clock.slept == [1.0, 2.0, 4.0]


def test_running_out_of_gpu_memory_halves_the_micro_batch(store: Store) -> None:
    executor = Scripted(store, {A.cell_id: [E.CUDA_OOM, E.WORKER_CRASH, E.CUDA_OOM]})
    drive(make_plan_of(A), executor)
    assert [job.micro_batches for job in executor.started] == [1, 2, 2, 4]
    assert {job.loader_share for job in executor.started} == {1.0}


def test_running_out_of_host_memory_halves_the_loaders_and_doubles_the_memory(
    store: Store, clock: Clock
) -> None:
    executor = Scripted(store, {A.cell_id: [E.HOST_OOM, E.NODE_LOST, E.HOST_OOM, E.HOST_OOM]})
    drive(make_plan_of(A), executor)
    given = [(job.loader_share, job.memory_factor) for job in executor.started]
    assert given == [(1.0, 1), (0.5, 2), (0.5, 2), (0.25, 4), (0.0, 8)]
    assert {job.micro_batches for job in executor.started} == {1}


def test_being_preempted_does_not_count(store: Store) -> None:
    executor = Scripted(store, {A.cell_id: [E.PREEMPTED] * 30 + [E.WORKER_CRASH] * 2})
    assert drive(make_plan_of(A), executor)[0].ok
    assert len(tries(executor, A)) == 33


def test_tries_are_numbered_on_from_an_earlier_run(store: Store) -> None:
    executor = Scripted(store, {A.cell_id: [E.WORKER_CRASH]})
    earlier = {A.cell_id: Tries({"attempt": 4})}
    Driver(make_plan_of(A, B), executor, store, tries=earlier).run()
    assert tries(executor, A) == [5, 6]
    assert tries(executor, B) == [1]


def test_what_a_cell_failed_of_in_earlier_runs_counts_if_it_lies_in_the_cell(
    store: Store, clock: Clock
) -> None:
    """A driver that is started again gives no fresh budget to a cell that crashes."""
    before = (E.WORKER_CRASH, E.NODE_LOST, E.CUDA_OOM, E.WORKER_CRASH, E.STORAGE)
    earlier = {A.cell_id: Tries({"attempt": 5}, before)}
    executor = Scripted(store, {A.cell_id: [E.NODE_LOST] * 3 + [E.WORKER_CRASH] * 9})
    summary = Driver(make_plan_of(A), executor, store, tries=earlier).run()
    assert tries(executor, A) == [6, 7, 8, 9], "one more crash is one too many"
    assert summary.failed[A.cell_id].error is E.WORKER_CRASH
    assert {job.micro_batches for job in executor.started} == {2}, "the cure goes on, too"


def test_no_more_than_the_capacity_is_in_flight(store: Store) -> None:
    cells = [make_cell(f"c{i}") for i in range(12)]
    script = {cell.cell_id: [E.WORKER_CRASH, E.PREEMPTED] for cell in cells}
    executor = Scripted(store, script, capacity=4)
    assert drive(make_plan_of(*cells), executor)[0].ok
    assert executor.most == 4
    assert len(executor.started) == 36


def test_while_a_cell_waits_for_its_retry_others_run(store: Store, clock: Clock) -> None:
    cells = [make_cell(f"c{i}") for i in range(6)]
    executor = Scripted(store, {cells[0].cell_id: [E.STORAGE]}, capacity=1)
    summary, _ = drive(make_plan_of(*cells), executor)
    assert summary.ok
    assert summary.done[-1] == cells[0].cell_id
    # It looks round once the retry is due, and not again until there is room for it.
    assert executor.timeouts[0] is None
    assert all(timeout is None or timeout > 0 for timeout in executor.timeouts)


def test_a_prerequisite_has_nothing_to_seal(store: Store) -> None:
    executor = Scripted(store)
    summary, events = drive(make_plan_of(A, evaluate=()), executor)
    assert summary.ok
    assert [event.detail for event in events if event.kind == "done"] == [""]
    assert store.storage.names("accuracy") == []


def test_a_seal_that_fails_is_told_and_loses_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "seal", full)
        summary, events = drive(make_plan_of(A), Scripted(store))
    assert summary.ok
    assert [event.detail for event in events if event.kind == "done"] == ["disk full"]
    assert store.scan("accuracy").table.num_rows == 2
    store.sweep()
    assert store.storage.names("accuracy") == [f"{A.cell_id}.parquet"]


def test_an_attempt_that_cannot_be_recorded_stops_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageError("disk full")

    monkeypatch.setattr(Store, "commit_attempt", full)
    summary, events = drive(make_plan_of(A, OTHER), Scripted(store, {A.cell_id: [E.USER]}))
    assert summary.done == [OTHER.cell_id]
    assert [e.detail for e in events if e.kind == "failed"] == ["user after 1 try; disk full"]


def test_an_empty_plan_ends_at_once(store: Store) -> None:
    assert drive(Plan({}), Scripted(store))[0] == Summary()


def test_the_last_word_on_a_lost_try_is_what_it_said_at_its_start(
    store: Store, clock: Clock
) -> None:
    """It ran elsewhere: the driver's own host and pid have nothing to do with it."""

    class Lost(Scripted):
        def wait_any(self, timeout_s: float | None = None) -> tuple[Job, Outcome] | None:
            finished = super().wait_any(timeout_s)
            if finished is not None and not finished[1].ok:
                begun = begun_row(finished[0], Site("", "", micro_batches=4, loader_workers=8))
                store.commit_attempt({**begun, "host": "elsewhere", "pid": 7, "gpu": "GPU-1"})
            return finished

    executor = Lost(store, {A.cell_id: [E.HOST_OOM]})
    assert drive(make_plan_of(A), executor)[0].ok
    [row] = store.scan("attempts").table.to_pylist()
    assert (row["host"], row["pid"], row["gpu"]) == ("elsewhere", 7, "GPU-1")
    assert (row["micro_batches"], row["loader_workers"]) == (4, 8)
    assert (row["state"], row["error_kind"]) == ("failed", "host_oom")
    assert 0 <= row["seconds"] < 60
    assert row["finished_at"] > row["started_at"]


QUICK = [E.WORKER_CRASH, E.CUDA_OOM, E.PREEMPTED, E.BUG, E.DIVERGED]


@settings(max_examples=80, deadline=None)
@given(
    parents=st.lists(st.sets(st.integers(0, 8), max_size=3), min_size=1, max_size=9),
    scripts=st.dictionaries(
        st.integers(0, 8), st.lists(st.sampled_from(QUICK), max_size=5), max_size=4
    ),
    made=st.sets(st.integers(0, 8), max_size=2),
    capacity=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_any_graph_with_any_failures(
    tmp_path_factory: pytest.TempPathFactory,
    parents: list[set[int]],
    scripts: dict[int, list[E]],
    made: set[int],
    capacity: int,
    seed: int,
) -> None:
    cells: list[Cell] = []
    for i, above in enumerate(parents):
        cells.append(make_cell(f"c{i}", tuple(cells[p] for p in sorted(above) if p < i)))
    n = len(cells)
    weights = [cells[i] for i in made if i < n]
    plan = make_plan_of(*cells, evaluate=("val",), weights=weights)
    script = {cells[i].cell_id: kinds for i, kinds in scripts.items() if i < n}
    store = Store(str(tmp_path_factory.mktemp("store")))
    executor = Scripted(store, script, capacity, seed)
    summary, _ = drive(plan, executor)

    # What should have come of it, by other means: cell by cell, parents first.
    number = {cell.cell_id: i for i, cell in enumerate(cells)}
    ends: dict[int, str] = {}
    for i, cell in enumerate(cells):
        needed = [] if cell in weights else [p for p in cell.parents if p not in weights]
        if any(ends[number[p.cell_id]] != "done" for p in needed):
            ends[i] = "blocked"
        else:
            ends[i] = "failed" if gives_up(scripts.get(i, [])) else "done"
    found = dict.fromkeys((number[c] for c in summary.done), "done")
    found |= dict.fromkeys((number[c] for c in summary.failed), "failed")
    found |= dict.fromkeys((number[c] for c in summary.blocked), "blocked")
    assert found == ends
    assert len(summary.done) == len(set(summary.done))
    assert executor.most <= capacity
    succeeded: set[str] = set()
    ended = iter(executor.ended)
    for cell_id, ok in ended:
        for parent in plan.waits_for(cell_id):
            assert parent in succeeded
        if ok:
            assert cell_id not in succeeded
            succeeded.add(cell_id)
    assert set(store.committed().splits) == set(summary.done) == succeeded
    for cell_id, ancestor in summary.blocked.items():
        assert ancestor in summary.failed
        assert cell_id in set(plan.descendants(ancestor))


def gives_up(kinds: list[E]) -> bool:
    used = Counter[E]()
    for kind in kinds:
        used[kind] += 1
        limit = {E.WORKER_CRASH: 2, E.CUDA_OOM: 6, E.BUG: 0, E.DIVERGED: 0}.get(kind)
        if limit is not None and used[kind] > limit:
            return True
    return False


class TwoLanes(Scripted):
    """An executor on which cells called `gpu` wait for one machine and the others for another."""

    def lane(self, cell: Cell) -> str:
        return cell.label

    def idle(self, lane: str) -> int:
        return 0

    def capacity(self, lane: str) -> int:
        return 1 if lane == "gpu" else 2

    def submit(self, job: Job) -> None:
        super().submit(job)
        labels = Counter(other.cell.label for other in self.in_flight)
        assert labels["gpu"] <= 1
        assert labels["cpu"] <= 2


def test_cells_that_wait_for_gpus_keep_no_others_from_cpus(store: Store, clock: Clock) -> None:
    cells = [make_cell(label, seed=n) for label in ("gpu", "cpu") for n in range(8)]
    executor = TwoLanes(store, {cells[0].cell_id: [E.STORAGE, E.WORKER_CRASH]})
    summary, _ = drive(make_plan_of(*cells), executor)
    assert summary.ok
    assert executor.most == 3, "both lanes were full at once"
    assert {job.cell.label for job in executor.started[:3]} == {"gpu", "cpu"}
