"""What to do after a try has failed. Pure: (ErrorKind, history) -> Retry | GiveUp."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workers.outcome import ErrorKind


@dataclass(frozen=True)
class Budget:
    """How often a kind of failure may happen to a cell before it counts as failed."""

    retries: int | None
    """None: as often as it takes."""
    backoff_s: float = 0.0
    """Wait before the first retry; it doubles with each."""


BUDGETS: dict[ErrorKind, Budget] = {
    ErrorKind.HOST_OOM: Budget(2, backoff_s=5.0),
    ErrorKind.CUDA_OOM: Budget(6),
    ErrorKind.WORKER_CRASH: Budget(2),
    ErrorKind.NODE_LOST: Budget(5, backoff_s=1.0),
    ErrorKind.PREEMPTED: Budget(None),
    ErrorKind.STORAGE: Budget(5, backoff_s=1.0),
    # Trying these again gives the same again.
    ErrorKind.DATA: Budget(0),
    ErrorKind.DIVERGED: Budget(0),
    ErrorKind.USER: Budget(0),
    ErrorKind.BUG: Budget(0),
}

MAX_BACKOFF_S = 60.0


@dataclass(frozen=True)
class Retry:
    """Try again, after a while, with changes that cure what went wrong."""

    delay_s: float = 0.0
    micro_batches_factor: int = 1


@dataclass(frozen=True)
class GiveUp:
    """The cell has failed."""

    reason: str


def decide(kind: ErrorKind, history: Sequence[ErrorKind]) -> Retry | GiveUp:
    """Decide on a cell whose last try failed.

    Args:
        kind: how the last try failed.
        history: how the tries before it failed, in this run of the driver.
    """
    budget = BUDGETS[kind]
    before = sum(1 for earlier in history if earlier is kind)
    if budget.retries is not None and before >= budget.retries:
        tries = before + 1
        return GiveUp(f"{kind} after {tries} {'try' if tries == 1 else 'tries'}")
    delay = min(MAX_BACKOFF_S, budget.backoff_s * 2**before)
    return Retry(delay, micro_batches_factor=2 if kind is ErrorKind.CUDA_OOM else 1)
