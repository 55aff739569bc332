"""What fits on a cluster's nodes: whether a cell does, how many do, and memory for each. Pure.

A node is what `ray.nodes()` says of it. One that is yet to come may have None for its labels, which
means any.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from orchestrator.demands import Demand
from orchestrator.grid_file import Resources
from workers.errors import Problem, UserError
from workers.job import Job

Node = dict[str, Any]


def check_feasible(demands: Iterable[Demand], nodes: Sequence[Node]) -> None:
    """Check that some node can run each class of cells; Ray itself would let them wait for ever.

    Raises:
        UserError: naming, for each class, each thing that no node has enough of.
    """
    problems = [problem for demand in demands for problem in infeasible(demand, nodes)]
    if problems:
        raise UserError(problems)


def infeasible(demand: Demand, nodes: Sequence[Node]) -> Iterator[Problem]:
    """Yield what keeps a class of cells from running on any node."""
    resources, labelled = demand.resources, _labelled(demand.resources, nodes)
    if not labelled:
        yield _without_labels(demand, nodes)
        return
    asked, is_met = _amounts(resources), True
    for key, amount in asked.items():
        most = max(node["Resources"].get(key, 0.0) for node in labelled)
        if amount > most:
            is_met = False
            name = {"GPU": "gpus", "CPU": "cpus"}.get(key, key)
            message = f"{demand.a_cell} asks for {amount:g}, no node has more than {most:g}"
            yield Problem(f"resources.{name}", message)
    if is_met and not any(_fits(asked, node["Resources"]) for node in labelled):
        of_whom = f" that {demand.a_cell} asks for" if demand.of else ""
        yield Problem("resources", f"no single node has all{of_whom}: {demand}")


def _without_labels(demand: Demand, nodes: Sequence[Node]) -> Problem:
    asked = demand.resources.labels
    shown = ", ".join(f"{key}={value}" for key, value in asked.items())
    has = {f"{k}={n['Labels'][k]}" for n in _alive(nodes) for k in asked if k in n["Labels"]}
    hint = f"nodes have {', '.join(sorted(has))}" if has else "nodes have none of these"
    of_whom = f" that {demand.a_cell} asks for" if demand.of else ""
    return Problem("resources.labels", f"no node has the labels {shown}{of_whom}", hint)


def able_nodes(demands: Iterable[Demand], nodes: Sequence[Node]) -> list[Node]:
    """Return the nodes that can run a cell of any of these classes."""
    able = {n["NodeID"] for demand in demands for n in _fitting(demand.resources, nodes)}
    return [node for node in nodes if node["NodeID"] in able]


def why_waiting(
    demand: Demand, nodes: Sequence[Node], free: Mapping[str, Mapping[str, float]]
) -> str:
    """Say why submitted cells of a class do not run.

    Args:
        demand: of the class.
        nodes: those that may run cells.
        free: what nothing uses of each node's resources, by its id.
    """
    able = able_nodes([demand], nodes)
    if not able:
        problems = (str(problem) for problem in infeasible(demand, nodes))
        return "; ".join(problems) or "there is no node"
    asked = _amounts(demand.resources)
    if any(_fits(asked, free.get(node["NodeID"], {})) for node in able):
        return "there is room for one of them, and Ray has yet to start it"
    shown = []
    for key, name in (("GPU", "GPUs"), ("CPU", "CPUs")):
        if asked[key]:
            has = sum(node["Resources"].get(key, 0.0) for node in able)
            left = sum(free.get(node["NodeID"], {}).get(key, 0.0) for node in able)
            shown.append(f"{left:g} of {has:g} {name}")
    nodes_have = "1 node" if len(able) == 1 else f"{len(able)} nodes"
    return f"{nodes_have} could run them, with {' and '.join(shown)} free; each asks for {demand}"


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
        all_have = (node["Resources"] for node in _fitting(resources, nodes))
        fitting = [has for has in all_have if has.get("memory")]
        shares = [has["memory"] / _side_by_side(resources, has) for has in fitting]
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


def slots(resources: Resources, nodes: Sequence[Node]) -> int:
    """Return how many cells of a class can run at once on the nodes; at least one."""
    return _room(resources, nodes) or 1


def free_slots(
    resources: Resources, nodes: Sequence[Node], free: Mapping[str, Mapping[str, float]]
) -> int:
    """Return how many more cells of a class can run on the nodes now.

    Args:
        resources: that each asks for.
        nodes: those that may run cells.
        free: what nothing uses of each node's resources, by its id.
    """
    has = [{**node, "Resources": dict(free.get(node["NodeID"], {}))} for node in nodes]
    return _room(resources, has)


def _room(resources: Resources, nodes: Sequence[Node]) -> int:
    return sum(_side_by_side(resources, n["Resources"]) for n in _fitting(resources, nodes))


def _alive(nodes: Sequence[Node]) -> list[Node]:
    return [node for node in nodes if node["Alive"]]


def _labelled(resources: Resources, nodes: Sequence[Node]) -> list[Node]:
    """Return the nodes that live and have the labels that a cell asks for."""
    return [node for node in _alive(nodes) if _has_labels(node["Labels"], resources)]


def _has_labels(labels: dict[str, str] | None, resources: Resources) -> bool:
    asked = resources.labels.items()
    return labels is None or all(matches(wanted, labels.get(key)) for key, wanted in asked)


def matches(wanted: str, value: str | None) -> bool:
    """Whether a node's label is what a cell asks for, in Ray's terms.

    Args:
        wanted: `value`, `!value`, `in(value,value)` or `!in(value,value)`.
        value: of the node's label; None where it has none.
    """
    positive = wanted.removeprefix("!")
    listed = positive.startswith("in(") and positive.endswith(")")
    values = [one.strip() for one in positive[3:-1].split(",")] if listed else [positive]
    return (value in values) == (positive == wanted)


def _fitting(resources: Resources, nodes: Sequence[Node]) -> list[Node]:
    """Return the nodes that can run a cell."""
    asked = _amounts(resources)
    return [node for node in _labelled(resources, nodes) if _fits(asked, node["Resources"])]


def _amounts(resources: Resources) -> dict[str, float]:
    return {
        "GPU": resources.gpus,
        "CPU": resources.cpus,
        "memory": float(resources.memory or 0),
    }


def _fits(asked: dict[str, float], has: Mapping[str, float]) -> bool:
    return all(amount <= has.get(key, 0.0) for key, amount in asked.items())


def _side_by_side(resources: Resources, has: dict[str, float]) -> int:
    """Return how many cells can run at once on what a node has, memory not counted."""
    by_cpu = has.get("CPU", 0.0) / resources.cpus
    by_gpu = has.get("GPU", 0.0) / resources.gpus if resources.gpus else by_cpu
    return max(1, int(min(by_cpu, by_gpu)))
