"""How a try at a cell ended: a value that crosses process boundaries, never an exception."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ErrorKind(StrEnum):
    """Why a try failed, as far as it decides what to do next."""

    HOST_OOM = "host_oom"
    CUDA_OOM = "cuda_oom"
    WORKER_CRASH = "worker_crash"
    NODE_LOST = "node_lost"
    NODE_UNFIT = "node_unfit"
    PREEMPTED = "preempted"
    DATA = "data"
    DIVERGED = "diverged"
    STORAGE = "storage"
    USER = "user"
    BUG = "bug"


@dataclass(frozen=True)
class Outcome:
    """The end of one try: done (`error` is None) or failed for a reason."""

    rows: int = 0
    """Accuracy rows committed by this try."""
    seconds: float = 0.0
    error: ErrorKind | None = None
    message: str = ""
    traceback: str = ""
    recorded: bool = False
    """Whether the worker itself has put the end of the try into the store."""

    @property
    def ok(self) -> bool:
        return self.error is None
