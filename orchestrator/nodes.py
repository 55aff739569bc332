"""What fits on a cluster's nodes: whether a cell does, how many do, and memory for each. Pure.

A node is what `ray.nodes()` says of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.grid_file import Resources
from workers.errors import Problem, UserError
from workers.job import Job

Node = dict[str, Any]


def check_feasible(resources: Resources, nodes: Sequence[Node]) -> None:
    """Check that some node can run a cell; Ray itself would let it wait for ever.

    Raises:
        UserError: naming each thing that no node has enough of.
    """
    alive, labelled = _alive(nodes), _labelled(resources, nodes)
    problems = []
    if not labelled:
        shown = ", ".join(f"{key}={value}" for key, value in resources.labels.items())
        has = {f"{k}={n['Labels'][k]}" for n in alive for k in resources.labels if k in n["Labels"]}
        hint = f"nodes have {', '.join(sorted(has))}" if has else "nodes have none of these"
        problems.append(Problem("resources.labels", f"no node has the labels {shown}", hint))
    asked = _amounts(resources)
    for key, amount in asked.items():
        most = max((n["Resources"].get(key, 0.0) for n in labelled), default=0.0)
        if labelled and amount > most:
            name = {"GPU": "gpus", "CPU": "cpus"}.get(key, key)
            message = f"a cell asks for {amount:g}, no node has more than {most:g}"
            problems.append(Problem(f"resources.{name}", message))
    if not problems and not any(_fits(asked, node["Resources"]) for node in labelled):
        problems.append(Problem("resources", f"no single node has all of {asked}"))
    if problems:
        raise UserError(problems)


def able_nodes(resources: Resources, nodes: Sequence[Node]) -> list[Node]:
    """Return the nodes that can run a cell."""
    asked = _amounts(resources)
    return [node for node in _labelled(resources, nodes) if _fits(asked, node["Resources"])]


class Memory:
    """How much host memory is reserved for each job.

    What the grid says, or nothing; but once a cell has run out of it, at least an equal share of
    the node, so that there is room beside a cell that reserves more.
    """

    def __init__(self, asked: int | None, share: int, most: int) -> None:
        """Prepare to reserve.

        Args:
            asked: bytes that the grid says.
            share: bytes for each of the cells that a node can run at once.
            most: bytes that the largest node has.
        """
        self._asked, self._share, self._most = asked, share, most
        self._is_tight = False

    @classmethod
    def of(cls, resources: Resources, nodes: Sequence[Node]) -> Memory:
        """Look at the nodes that cells can run on."""
        asked_for = _amounts(resources)
        all_have = (node["Resources"] for node in _labelled(resources, nodes))
        fitting = [has for has in all_have if has.get("memory") and _fits(asked_for, has)]
        shares = [has["memory"] / slots(resources, has) for has in fitting]
        most = max((has["memory"] for has in fitting), default=0.0)
        asked = None if resources.memory is None else int(resources.memory)
        return cls(asked, int(min(shares, default=0.0)), int(most))

    def for_job(self, job: Job) -> int | None:
        """Return how many bytes to reserve for a job; None for none."""
        self._is_tight = self._is_tight or job.memory_factor > 1
        if not self._is_tight:
            return self._asked
        usual = self._asked or self._share
        return min(usual * job.memory_factor, self._most) or None


def _alive(nodes: Sequence[Node]) -> list[Node]:
    return [node for node in nodes if node["Alive"]]


def _labelled(resources: Resources, nodes: Sequence[Node]) -> list[Node]:
    """Return the nodes that live and have the labels that a cell asks for."""
    asked = resources.labels.items()
    return [node for node in _alive(nodes) if asked <= node.get("Labels", {}).items()]


def _amounts(resources: Resources) -> dict[str, float]:
    return {
        "GPU": resources.gpus,
        "CPU": resources.cpus,
        "memory": float(resources.memory or 0),
    }


def _fits(asked: dict[str, float], has: dict[str, float]) -> bool:
    return all(amount <= has.get(key, 0.0) for key, amount in asked.items())


def slots(resources: Resources, total: dict[str, float]) -> int:
    """Return how many cells can run at once on what a node, or all of them, have."""
    by_cpu = total.get("CPU", 0.0) / resources.cpus
    by_gpu = total.get("GPU", 0.0) / resources.gpus if resources.gpus else by_cpu
    return max(1, int(min(by_cpu, by_gpu)))
