"""What watches a driver beside its user's store: displays and metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from orchestrator.driver import Event
from orchestrator.executor import Executor
from orchestrator.metrics import Meter
from orchestrator.plan import Plan
from orchestrator.sweep_state import SweepState
from workers.store import Store


class Watch(Protocol):
    """Watches one drive of a plan."""

    def see(self, event: Event) -> None:
        """Take note of what happened to a cell; the sweep's state has it already."""

    def look_round(self) -> None:
        """Look at the sweep's state, every few seconds."""


MakeWatch = Callable[[SweepState], Watch]


class Unwatched:
    """Watches nothing."""

    def __init__(self, state: SweepState) -> None: ...

    def see(self, event: Event) -> None: ...

    def look_round(self) -> None: ...


class Watcher:
    """Keeps the state of a sweep, and lets others watch it."""

    def __init__(self, state: SweepState, watches: Sequence[Watch]) -> None:
        self._state, self._watches = state, watches

    def see(self, event: Event) -> None:
        self._state.see(event)
        for watch in self._watches:
            watch.see(event)

    def look_round(self) -> None:
        if self._state.look_round():
            for watch in self._watches:
                watch.look_round()


def watching(grid: str, plan: Plan, executor: Executor, store: Store, watch: MakeWatch) -> Watcher:
    """Return what a driver is to tell of what happens; it shows in metrics where there are any.

    Args:
        grid: its name.
        plan: what is driven.
        executor: that runs it.
        store: where workers say what they do.
        watch: makes what else watches.
    """
    state = SweepState(plan, executor, store)
    watches = [watch(state)]
    if executor.instruments is not None:
        watches.append(Meter(executor.instruments, grid, state))
    return Watcher(state, watches)
