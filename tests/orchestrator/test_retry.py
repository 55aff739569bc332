"""What is done after a try has failed, kind by kind."""

import pytest

from orchestrator.retry import (
    BUDGETS,
    LASTING,
    Cure,
    GiveUp,
    Retry,
    cure,
    decide,
    lasting_failure,
    try_once,
)
from workers.outcome import ErrorKind as E

# kind: how often it is retried, and the wait before each retry.
EXPECTED: dict[E, list[float]] = {
    E.HOST_OOM: [5, 10, 20],
    E.CUDA_OOM: [0, 0, 0, 0, 0, 0],
    E.WORKER_CRASH: [0, 0],
    E.NODE_LOST: [1, 2, 4, 8, 16],
    E.NODE_UNFIT: [1, 2, 4, 8, 16, 32, 60, 60, 60, 60],
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
        assert decide(kind, [kind] * n) == Retry(delay)
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


def test_what_lies_in_the_cell_lasts_once_its_budget_is_used_up() -> None:
    assert {E.DIVERGED, E.WORKER_CRASH, E.HOST_OOM, E.CUDA_OOM} == LASTING
    for kind in EXPECTED:
        tries = len(EXPECTED[kind]) + 1
        assert lasting_failure([kind] * (tries - 1)) is None
        assert lasting_failure([kind] * tries) is (kind if kind in LASTING else None)


def test_other_failures_neither_make_nor_hide_a_lasting_one() -> None:
    crash, bug = E.WORKER_CRASH, E.BUG
    assert lasting_failure([bug, crash, bug, crash, bug]) is None
    assert lasting_failure([bug, crash, crash, bug, crash, bug]) is crash


def test_every_cure_is_for_the_memory_that_did_not_suffice() -> None:
    assert cure([]) == cure([E.WORKER_CRASH, E.NODE_LOST]) == Cure(1, 1.0, 1)
    assert cure([E.CUDA_OOM] * 3) == Cure(micro_batches=8)
    # Half of the loader workers, a quarter, and none on the last try that the budget allows.
    shares = [cure([E.HOST_OOM] * n).loader_share for n in range(4)]
    assert shares == [1.0, 0.5, 0.25, 0.0]
    assert [cure([E.HOST_OOM] * n).memory_factor for n in range(4)] == [1, 2, 4, 8]
    assert cure([E.HOST_OOM, E.CUDA_OOM, E.HOST_OOM]) == Cure(2, 0.25, 4)


def test_under_a_debugger_nothing_is_tried_again() -> None:
    assert try_once(E.PREEMPTED, []) == GiveUp("preempted, tried once")
