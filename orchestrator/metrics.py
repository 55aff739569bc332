"""What a sweep tells Prometheus, through Ray: how many cells, how fast, on what, and how they end.

Ray puts `ray_` before each name, and `_total` behind those of counters. Nothing here is a cell's
own: the cells of a large grid would be as many series.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from orchestrator.driver import Event
from orchestrator.sweep_state import Flight, SweepState

BUCKETS = [1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0]
"""Bounds of the histogram of cells' durations, in seconds."""

LONGEST = 100
"""Characters of a label's value that are kept; names in grids may have any length."""


class Meter:
    """Measures one drive of a plan (see `orchestrator.watch.Watch`)."""

    def __init__(self, instruments: Any, grid: str, state: SweepState) -> None:
        """Make the metrics.

        Args:
            instruments: makes them: `ray.util.metrics`, or what is like it.
            grid: name of the grid, which every series has.
            state: of the sweep.
        """
        self._state = state
        self._grid = {"grid": _value(grid)}
        self._devices: set[tuple[str, str]] = set()

        def made(kind: str, name: str, meaning: str, *labels: str, **more: Any) -> Any:
            make = getattr(instruments, kind)
            return make(name, description=meaning, tag_keys=("grid", *labels), **more)

        self._cells = made("Gauge", "rib_cells", "Cells by state.", "state")
        self._left = made("Gauge", "rib_seconds_left", "Estimated seconds to the end.")
        self._on_device = made(
            "Gauge", "rib_device_cells", "Cells that run on a device.", "host", "device"
        )
        self._tries = made("Counter", "rib_tries", "Tries at cells, by how they ended.", "end")
        self._images = made(
            "Counter", "rib_images", "Images that finished cells went through.", "model", "phase"
        )
        self._seconds = made(
            *("Histogram", "rib_cell_seconds", "Seconds that finished cells took."),
            *("model", "method"),
            boundaries=BUCKETS,
        )

    def see(self, event: Event) -> None:
        if event.outcome is not None:
            self._tries.inc(1, {**self._grid, "end": str(event.outcome.error or "done")})
        if event.kind != "done" or event.outcome is None:
            return
        node = event.node
        of_model = {**self._grid, "model": _value(node.cell.model.name)}
        for phase, images in (("train", node.training_images), ("test", node.evaluation_images)):
            if images:
                self._images.inc(images, {**of_model, "phase": phase})
        method = {**of_model, "method": _value(node.cell.label)}
        self._seconds.observe(event.outcome.seconds, method)

    def look_round(self) -> None:
        for state, n in self._state.counts.items():
            self._cells.set(n, {**self._grid, "state": state})
        left = self._state.pace.seconds_left(time.monotonic())
        if left is not None:
            self._left.set(left, self._grid)
        busy = Counter(map(_device, self._state.running()))
        self._devices |= busy.keys()
        for host, device in self._devices:  # those that are idle now, too
            self._on_device.set(busy[host, device], {**self._grid, "host": host, "device": device})


def _device(flight: Flight) -> tuple[str, str]:
    """Return the host that a cell runs on, and the UUID and name of its GPU there, or `CPU`."""
    assert flight.place is not None, "it does not run"
    return _value(flight.place.host), _value(flight.place.gpu or "CPU")


def _value(text: str) -> str:
    return text[:LONGEST]
