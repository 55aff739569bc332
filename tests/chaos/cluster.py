"""A Ray cluster of several nodes on this machine, each with a pretended GPU."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass
from typing import Any

import psutil

from tests.chaos.sandbox import is_gone, until

SMALL_OBJECT_STORE = 100_000_000
TITLE = re.compile(r"ray::.* ([0-9a-f]{16})")
"""Of a process that runs a cell."""


@dataclass(frozen=True)
class Worker:
    """A process that runs a cell."""

    process: psutil.Process
    cell_id: str
    node: Any
    """Ray's, of the raylet that it belongs to."""


class Nodes:
    """A head that takes no cells, where drivers connect, and nodes that take one cell each."""

    def __init__(self) -> None:
        """Start the head."""
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "object_store_memory": SMALL_OBJECT_STORE}
        # Nothing is left to Ray's own exit hooks: `close` ends it all, and what it leaves shows.
        self._cluster = Cluster(
            initialize_head=True,
            shutdown_at_exit=False,
            head_node_args={**head, "include_dashboard": False},
        )
        self.nodes: list[Any] = []
        """Ray's, of those that take cells, in the order in which they came."""

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add(self) -> None:
        """Add a node that takes cells, and wait until it is up."""
        node = self._cluster.add_node(
            num_cpus=1, num_gpus=1, object_store_memory=SMALL_OBJECT_STORE
        )
        self.nodes.append(node)

    def workers(self) -> list[Worker]:
        """Return the processes that run a cell now, by the ids of their cells."""
        found = []
        for node in self.nodes:
            for process, title in _titles(raylet_of(node)):
                if match := TITLE.fullmatch(title):
                    found.append(Worker(process, match[1], node))
        return sorted(found, key=lambda worker: worker.cell_id)

    def lose(self, node: Any) -> bool:
        """SIGKILL a node's raylet; return whether that is what ended it."""
        raylet = raylet_of(node)
        os.kill(raylet, signal.SIGKILL)
        (info,) = node.all_processes["raylet"]
        info.process.wait()
        was_hit = info.process.returncode == -signal.SIGKILL
        self._cluster.remove_node(node, allow_graceful=False)  # what is left of it
        self.nodes.remove(node)
        return bool(was_hit)

    def close(self) -> None:
        for node in (*self.nodes, self._cluster.head_node):
            self._cluster.remove_node(node)


def raylet_of(node: Any) -> int:
    """Return the pid of a node's raylet."""
    return int(node.all_processes["raylet"][0].process.pid)


def kill(process: psutil.Process) -> bool:
    """SIGKILL a process; return whether it was there and has ended."""
    if is_gone(process):
        return False
    process.kill()
    return until(lambda: is_gone(process), 10)


def freeze(process: psutil.Process) -> bool:
    """SIGSTOP a process; return whether it has stopped."""
    try:
        process.suspend()
        return until(lambda: process.status() == psutil.STATUS_STOPPED, 2)
    except psutil.NoSuchProcess:
        return False


def _titles(raylet: int) -> list[tuple[psutil.Process, str]]:
    try:
        children = psutil.Process(raylet).children()
    except psutil.NoSuchProcess:
        return []
    found = []
    for process in children:
        try:
            found.append((process, " ".join(process.cmdline()).strip()))
        except psutil.Error:
            continue
    return found
