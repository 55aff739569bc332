"""What a terminal shows of a sweep: cells by state, each device's current cell, the pace."""

from __future__ import annotations

import time

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.pace import clock
from orchestrator.sweep_state import Flight, SweepState

SHOWN = 16
"""How many running cells are shown; the others are counted."""

UUID_SHOWN = 12
"""Characters of a GPU's UUID that tell it from the others of a cluster."""


def live_view(state: SweepState, started: float) -> RenderableType:
    """Lay out how a sweep stands.

    Args:
        state: of the sweep.
        started: when it began, on the clock of `time.monotonic`.
    """
    running = state.running()
    lines: list[RenderableType] = [Text(states_line(state)), _bar(state, started)]
    if running:
        lines.append(_cells(running[:SHOWN]))
    if len(running) > SHOWN:
        lines.append(Text(f"and {len(running) - SHOWN} more"))
    return Group(*lines)


def states_line(state: SweepState) -> str:
    """Count the cells in each state, those that there are."""
    return "  ".join(f"{n:,} {name}" for name, n in state.counts.items() if n)


def pace_line(state: SweepState) -> str:
    """Say when it will be done, and how fast it is."""
    now = time.monotonic()
    rate = state.pace.images_per_second(now)
    images = "" if rate is None else f"  {rate:,.0f} images/s"
    return f"ETA {clock(state.pace.seconds_left(now))}{images}"


def device_of(flight: Flight) -> str:
    """Name what a cell runs on: its GPU by UUID and name, or the process on a CPU."""
    assert flight.place is not None, "it does not run"
    uuid, _, name = flight.place.gpu.partition(" ")
    return f"{uuid[:UUID_SHOWN]} {name}" if uuid else f"CPU, pid {flight.place.pid}"


def _bar(state: SweepState, started: float) -> Table:
    line = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=max(1, state.total), completed=state.n_ended, width=40)
    elapsed = clock(time.monotonic() - started)
    line.add_row(bar, f"{state.n_ended}/{state.total}", elapsed, pace_line(state))
    return line


def _cells(running: list[Flight]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    now = time.monotonic()
    for flight in running:
        assert flight.place is not None, "it does not run"
        table.add_row(
            Text(flight.place.host, overflow="ellipsis", no_wrap=True),
            Text(device_of(flight), overflow="ellipsis", no_wrap=True),
            Text(str(flight.node.cell), overflow="ellipsis", no_wrap=True),
            clock(now - flight.since),
        )
    return table
