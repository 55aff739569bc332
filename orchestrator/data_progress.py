"""Showing how decoding goes: a live bar per set on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from orchestrator.data_decode import Progress

SECONDS_BETWEEN_LINES = 10.0


class DecodeDisplay:
    """Observes the decoding of data sets and shows it on a console (standard error)."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.tasks: dict[str, TaskID] = {}
        self.last_line = time.monotonic()

    @contextmanager
    def watching(self) -> Iterator[DecodeDisplay]:
        """Keep the live view up for as long as the check goes."""
        self.bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[bad]}"),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )
        with self.bars:
            yield self

    def tell(self, text: str) -> None:
        """Print a line where there is a terminal to see it pass."""
        if self.console.is_terminal:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def observe(self, progress: Progress) -> None:
        """Show how far a data set is."""
        if not self.console.is_terminal:
            self._line(progress)
            return
        name = progress.dataset
        if name not in self.tasks:
            self.tasks[name] = self.bars.add_task(name, total=progress.total, bad="")
        bad = f"{progress.bad} bad" if progress.bad else ""
        self.bars.update(self.tasks[name], completed=progress.done, bad=bad)

    def _line(self, progress: Progress) -> None:
        is_over = progress.done == progress.total
        if is_over or time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES:
            self.last_line = time.monotonic()
            bad = f", {progress.bad} bad" if progress.bad else ""
            count = f"{progress.done:,} of {progress.total:,} images decoded"
            self.console.print(f"{progress.dataset}: {count}{bad}", markup=False, highlight=False)
