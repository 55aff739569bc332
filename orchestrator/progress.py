"""Showing how a run goes: a live view on a terminal, a plain line per finished cell elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from orchestrator.driver import Event
from orchestrator.live_view import live_view, pace_line, states_line
from orchestrator.sweep_state import SweepState

QUIET_S = 600.0
"""After how long without a line it is said, where there is no live view, how things stand."""

REFRESHES_PER_S = 2.0


class Display:
    """Shows on a console (standard error) what a driver does."""

    def __init__(self, console: Console, is_live: bool | None = None) -> None:
        """Prepare to show.

        Args:
            console: to show on.
            is_live: whether it takes a live view; a terminal does, if not given.
        """
        self.console = console
        self.is_live = console.is_terminal if is_live is None else is_live
        self._shown: SweepDisplay | None = None

    @contextmanager
    def watching(self) -> Iterator[Display]:
        """Keep the live view up for as long as the run goes."""
        if not self.is_live:
            yield self
            return
        with Live(
            get_renderable=self._render,
            console=self.console,
            refresh_per_second=REFRESHES_PER_S,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        ):
            yield self

    def _render(self) -> RenderableType:
        return Text("") if self._shown is None else self._shown.view()

    def tell(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def watch(self, state: SweepState) -> SweepDisplay:
        """Return what the driver of a sweep is to tell; the live view is of this sweep from now."""
        self._shown = SweepDisplay(self, state)
        return self._shown


class SweepDisplay:
    """Shows one sweep (see `orchestrator.watch.Watch`)."""

    def __init__(self, display: Display, state: SweepState) -> None:
        self._display, self._state = display, state
        self._started = self._last_line = time.monotonic()

    def view(self) -> RenderableType:
        return live_view(self._state, self._started)

    def see(self, event: Event) -> None:
        """Tell what happened to a cell.

        On a terminal the view shows what is done; only what went wrong gets a line.
        """
        if event.kind == "submitted" or (event.kind == "done" and self._display.is_live):
            return
        count = f"[{self._state.n_ended}/{self._state.total}]"
        self._tell(f"{count} {describe(event)}  {pace_line(self._state)}")

    def look_round(self) -> None:
        """Tell which cells wait too long, and, where nothing else was told, how things stand."""
        for pending in self._state.pending():
            self._tell(f"{pending}: {self._state.why_waiting(pending)}")
        is_quiet = time.monotonic() - self._last_line > QUIET_S
        if is_quiet and not self._display.is_live:
            self._tell(f"{states_line(self._state)}  {pace_line(self._state)}")

    def _tell(self, text: str) -> None:
        self._last_line = time.monotonic()
        self._display.tell(text)


def describe(event: Event) -> str:
    """Say in a line what happened to a cell."""
    text = f"{event.kind:7} {event.node.cell}"
    if event.outcome is not None and event.outcome.ok:
        text += f"  {event.outcome.seconds:.1f} s"
    elif event.outcome is not None:
        first = event.outcome.message.splitlines()[0] if event.outcome.message else ""
        text += f"  {event.outcome.error}: {first}"
    return f"{text}  {event.detail}" if event.detail else text
