"""What is done after a try has failed, kind by kind."""

import pytest

from orchestrator.retry import BUDGETS, GiveUp, Retry, decide
from workers.outcome import ErrorKind as E

# kind: how often it is retried, and the wait before each retry.
EXPECTED: dict[E, list[float]] = {
    E.HOST_OOM: [5, 10],
    E.CUDA_OOM: [0, 0, 0, 0, 0, 0],
    E.WORKER_CRASH: [0, 0],
    E.NODE_LOST: [1, 2, 4, 8, 16],
    E.STORAGE: [1, 2, 4, 8, 16],
    E.DATA: [],
    E.DIVERGED: [],
    E.USER: [],
    E.BUG: [],
}


def test_every_kind_has_a_budget() -> None:
    assert set(BUDGETS) == set(E) == {*EXPECTED, E.PREEMPTED}


@pytest.mark.parametrize("kind", EXPECTED)
def test_each_kind_is_retried_as_often_as_its_budget_allows(kind: E) -> None:
    delays = EXPECTED[kind]
    for n, delay in enumerate(delays):
        factor = 2 if kind is E.CUDA_OOM else 1
        assert decide(kind, [kind] * n) == Retry(delay, micro_batches_factor=factor)
    end = decide(kind, [kind] * len(delays))
    tries = "1 try" if not delays else f"{len(delays) + 1} tries"
    assert end == GiveUp(f"{kind.value} after {tries}")


def test_being_preempted_does_not_count() -> None:
    assert decide(E.PREEMPTED, [E.PREEMPTED] * 1000) == Retry()
    assert decide(E.WORKER_CRASH, [E.PREEMPTED] * 1000) == Retry()


def test_other_kinds_use_up_nothing_of_a_budget() -> None:
    mixed = [E.NODE_LOST, E.HOST_OOM, E.WORKER_CRASH, E.NODE_LOST]
    assert decide(E.WORKER_CRASH, mixed) == Retry()
    assert decide(E.NODE_LOST, mixed) == Retry(4.0)


def test_the_wait_has_a_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.retry.MAX_BACKOFF_S", 3.0)
    assert decide(E.NODE_LOST, [E.NODE_LOST] * 4) == Retry(3.0)
