"""Who runs the grid: starts the driver in a process of its own, and does what an operator would.

A driver that died is started again. One that ended with failures has them cleared with `rib retry`
and is started again. One that is refused is started again a moment later.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from orchestrator.lease import queue_of, read_holder
from tests.chaos.sandbox import PROJECT, Sandbox
from workers.store import Store

TRACEBACK = "Traceback (most recent call last)"
ELSEWHERE = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'
"""Starts a command as if on another machine: one tells by the kernel's boot if it is the same."""
REFUSED_AGAIN_S = 1.0
DONE, FAILED, REFUSED = 0, 1, 2


@dataclass
class Driver:
    """A `rib run` or `rib resume`."""

    process: subprocess.Popen[bytes]
    log: Path
    host: Path | None
    """The file with the name of its pretended machine; None for this one."""
    was_killed: bool = False

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def kill(self) -> bool:
        """SIGKILL it; return whether that is what ended it."""
        self.was_killed = True
        self.process.kill()
        return self.process.wait() == -signal.SIGKILL

    @property
    def process_info(self) -> psutil.Process:
        return psutil.Process(self.pid)


class Operator:
    """Keeps a driver going at one store until there is nothing left to do."""

    def __init__(self, box: Sandbox, grid: Path, store: Path, address: str) -> None:
        self._box, self._grid, self.store, self._address = box, grid, store, address
        self.current: Driver | None = None
        self.displaced: list[Driver] = []
        """Drivers that were frozen, and whose place another takes."""
        self.host: Path | None = None
        self.is_done = False
        self.endings: Counter[str] = Counter()
        """How drivers ended."""
        self.n_started = 0
        self.n_retried = 0
        """Cells whose failure was cleared with `rib retry`."""
        self.problems: list[str] = []
        self._not_before = 0.0

    def tend(self) -> None:
        """Look after the driver; returns soon."""
        if self.is_done or time.monotonic() < self._not_before:
            return
        if self.current is None:
            self.current = self._start()
        elif not self.current.is_alive:
            self._take_note(self.current)
            self.current = None

    def start_over(self) -> None:
        """Have another driver look whether all is done."""
        assert self.current is None
        self.is_done = False

    def move(self) -> Driver:
        """Leave the driver alone and start the next one on another machine."""
        left = self.current
        assert left is not None
        self.displaced.append(left)
        self.host = self._box.root / f"host-{uuid.uuid4().hex}"
        self.host.write_text(f"{uuid.uuid4()}\n")
        self.current = None
        return left

    def drives(self, driver: Driver) -> bool:
        """Whether a driver has the lease of the store."""
        storage = Store(str(self.store)).storage
        first = next(iter(queue_of(storage)), None)
        holder = None if first is None else read_holder(storage, first.driver)
        return driver.is_alive and holder is not None and holder.pid == driver.pid

    @property
    def is_waiting(self) -> bool:
        """Whether the driver waits until the lease of a frozen one has expired."""
        return bool(self.displaced) and not (self.current and self.drives(self.current))

    def file_displaced(self, driver: Driver) -> None:
        """Take note that a frozen driver has woken and ended."""
        self.displaced.remove(driver)
        self.endings["displaced"] += 1

    def close(self) -> None:
        """End every driver."""
        for driver in (self.current, *self.displaced):
            if driver is not None and driver.is_alive:
                driver.kill()

    def _start(self) -> Driver:
        if (self.store / "grid.yaml").exists():
            command = rib("resume", self.store, "--address", self._address)
        else:
            command = rib("run", self._grid, "--store", self.store, "--address", self._address)
        if self.host is not None:
            command = ["unshare", "--mount", "sh", "-c", ELSEWHERE, str(self.host), *command]
        self.n_started += 1
        log = self._box.logs / f"{self.store.name}-driver-{self.n_started:03d}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=PROJECT
            )
        return Driver(process, log, self.host)

    def _take_note(self, driver: Driver) -> None:
        """File how a driver ended, and do what is to be done before the next."""
        code, said = driver.process.returncode, driver.said
        if TRACEBACK in said:
            self.problems.append(f"{driver.log.name} has a traceback")
        if driver.was_killed and code == -signal.SIGKILL:
            self.endings["killed"] += 1
        elif code == DONE:
            self.endings["done"] += 1
            self.is_done = True
        elif code == FAILED:
            self.endings["something failed or was missing"] += 1
            self._retry()
        elif code == REFUSED:
            self.endings["refused"] += 1
            self._not_before = time.monotonic() + REFUSED_AGAIN_S
        else:
            self.endings[f"exit code {code}"] += 1
            self.problems.append(f"{driver.log.name} ended with exit code {code}")

    def _retry(self) -> None:
        """Clear what failed, so that the next driver tries it again."""
        done = call_rib("retry", self.store, "--json")
        if done.returncode == DONE:
            self.n_retried += len(json.loads(done.stdout)["cleared"])
        else:
            self.endings["rib retry could not write"] += 1


def rib(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "orchestrator", *map(str, arguments)]


def call_rib(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command of rib to its end."""
    return subprocess.run(
        rib(*arguments), capture_output=True, text=True, cwd=PROJECT, env={**os.environ}
    )


def verification(store: Path) -> dict[str, Any]:
    """Return what `rib verify` finds, and its notes."""
    done = call_rib("verify", store, "--json")
    notes = [line.removeprefix("rib: note: ") for line in done.stderr.splitlines()]
    return {**json.loads(done.stdout), "exit_code": done.returncode, "notes": notes}
