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
    ErrorKind.HOST_OOM: Budget(3, backoff_s=5.0),
    ErrorKind.CUDA_OOM: Budget(6),
    ErrorKind.WORKER_CRASH: Budget(2),
    ErrorKind.NODE_LOST: Budget(5, backoff_s=1.0),
    # Each such node is avoided from then on: so many of them, and there may be no other.
    ErrorKind.NODE_UNFIT: Budget(10, backoff_s=1.0),
    ErrorKind.PREEMPTED: Budget(None),
    ErrorKind.STORAGE: Budget(5, backoff_s=1.0),
    # Trying these again gives the same again.
    ErrorKind.DATA: Budget(0),
    ErrorKind.DIVERGED: Budget(0),
    ErrorKind.USER: Budget(0),
    ErrorKind.BUG: Budget(0),
}

LASTING = frozenset(
    {ErrorKind.DIVERGED, ErrorKind.WORKER_CRASH, ErrorKind.HOST_OOM, ErrorKind.CUDA_OOM}
)
"""Kinds that lie in the cell itself: the next run does not try such a cell again either. What the
others lie in (data, a mistake, a bug, the storage, a node) may have been mended before it."""

MAX_BACKOFF_S = 60.0


@dataclass(frozen=True)
class Retry:
    """Try again, after a while."""

    delay_s: float = 0.0


@dataclass(frozen=True)
class GiveUp:
    """The cell has failed."""

    reason: str


@dataclass(frozen=True)
class Cure:
    """What a cell gets less or more of since it ran out of memory; no part of its identity."""

    micro_batches: int = 1
    """Times as many parts of each batch, at the same effective batch."""
    loader_share: float = 1.0
    """Part of its loader workers."""
    memory_factor: int = 1
    """Times as much host memory is reserved."""


def decide(kind: ErrorKind, history: Sequence[ErrorKind]) -> Retry | GiveUp:
    """Decide on a cell whose last try failed.

    Args:
        kind: how the last try failed.
        history: how the tries before it failed, in this run of the driver, and of the LASTING
            kinds in earlier runs.
    """
    budget = BUDGETS[kind]
    before = history.count(kind)
    if budget.retries is not None and before >= budget.retries:
        tries = before + 1
        return GiveUp(f"{kind} after {tries} {'try' if tries == 1 else 'tries'}")
    return Retry(min(MAX_BACKOFF_S, budget.backoff_s * 2**before))


def try_once(kind: ErrorKind, history: Sequence[ErrorKind]) -> Retry | GiveUp:  # noqa: ARG001
    """Decide in the place of `decide` where somebody looks at what fails."""
    return GiveUp(f"{kind}, tried once")


def lasting_failure(history: Sequence[ErrorKind]) -> ErrorKind | None:
    """Return the LASTING kind whose budget a cell has used up, if there is one.

    Args:
        history: how its tries failed, the last included.
    """
    for kind in reversed(history):
        retries = BUDGETS[kind].retries
        if kind in LASTING and retries is not None and history.count(kind) > retries:
            return kind
    return None


def cure(history: Sequence[ErrorKind]) -> Cure:
    """Return what may help a cell whose tries have failed so.

    Each time a GPU's memory did not suffice, micro-batches are halved. Each time a host's did not,
    half as many processes decode images, on the last try none, and twice as much is reserved.
    """
    n_cuda, n_host = history.count(ErrorKind.CUDA_OOM), history.count(ErrorKind.HOST_OOM)
    is_last = n_host >= (BUDGETS[ErrorKind.HOST_OOM].retries or 0)
    return Cure(2**n_cuda, 0.0 if is_last else 0.5**n_host, 2**n_host)
