"""Showing how a run goes: a live bar on a terminal, a plain line per finished cell elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from orchestrator.driver import Event, Observer
from orchestrator.plan import Plan

FINAL = frozenset({"done", "failed", "blocked"})


class Estimate:
    """Time left, from the cost of what is done and of what is not."""

    def __init__(self, plan: Plan) -> None:
        self.total = sum(plan.nodes[cell_id].cost for cell_id in plan.todo)
        self.done = 0.0
        self.started = time.monotonic()

    def add(self, cost: float) -> None:
        self.done += cost

    def __str__(self) -> str:
        if not self.done:
            return "ETA ?"
        left = (time.monotonic() - self.started) * (self.total / self.done - 1.0)
        minutes, seconds = divmod(round(left), 60)
        hours, minutes = divmod(minutes, 60)
        return f"ETA {hours}:{minutes:02d}:{seconds:02d}"


class Display:
    """Observes a driver and shows what happens on a console (standard error)."""

    def __init__(self, console: Console, is_live: bool | None = None) -> None:
        """Prepare to show.

        Args:
            console: to show on.
            is_live: whether it takes a live bar; a terminal does, if not given.
        """
        self.console = console
        self.is_live = console.is_terminal if is_live is None else is_live

    @contextmanager
    def watching(self) -> Iterator[Display]:
        """Keep the live view up for as long as the run goes."""
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[eta]}"),
            console=self.console,
            disable=not self.is_live,
            transient=True,
        )
        with self.progress:
            yield self

    def tell(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def observer(self, plan: Plan) -> Observer:
        """Return what the driver of a plan is to tell."""
        estimate = Estimate(plan)
        total = len(plan.todo)
        task = self.progress.add_task("cells", total=total, eta="ETA ?")
        finished = 0

        def observe(event: Event) -> None:
            nonlocal finished
            if event.kind in FINAL:
                finished += 1
                estimate.add(event.node.cost)
                self.progress.update(task, advance=1, eta=str(estimate))
            if event.kind != "submitted" and self._is_worth_a_line(event):
                count = f"[{finished}/{total}]"
                self.tell(f"{count} {describe(event)}  {estimate}")

        return observe

    def _is_worth_a_line(self, event: Event) -> bool:
        """On a terminal the bar shows what is done; only what went wrong gets a line."""
        return event.kind != "done" or not self.is_live


def describe(event: Event) -> str:
    """Say in a line what happened to a cell."""
    text = f"{event.kind:7} {event.node.cell}"
    if event.outcome is not None and event.outcome.ok:
        text += f"  {event.outcome.seconds:.1f} s"
    elif event.outcome is not None:
        first = event.outcome.message.splitlines()[0] if event.outcome.message else ""
        text += f"  {event.outcome.error}: {first}"
    return f"{text}  {event.detail}" if event.detail else text
