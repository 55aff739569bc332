"""The check of a machine that joined after the others were asked: by the first cell it gets.

What is here is sent by value and uses the standard library alone until the versions are known to be
the same: such a machine may have another version of this project, or none.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.cluster.facts import facts_here

Unfit = tuple[str, str]
"""The id of a machine that must not run cells, and why."""


def guard(
    work: bytes,
    ours: Mapping[str, Any],
    question: bytes,
    digests: Mapping[str, str],
    checked: frozenset[str],
) -> Callable[[bytes, bytes], Any]:
    """Return a task that does some work, unless its machine must not.

    Args:
        work: what to call with a job and a site, pickled.
        ours: the facts of the driver's machine.
        question: what the machine is asked, pickled.
        digests: what it should answer.
        checked: the machines that have been asked.
    """
    known: dict[str, str] = {}

    def guarded(job: bytes, site: bytes) -> Any:
        node_id = node_here()
        if node_id not in checked:
            if node_id not in known:
                known[node_id] = fault_here(ours, question, digests, node_id)
            if known[node_id]:
                return node_id, known[node_id]
        # They come from this grid's own driver.
        call = pickle.loads(work)  # noqa: S301
        return call(pickle.loads(job), pickle.loads(site))  # noqa: S301

    return guarded


def node_here() -> str:
    """Return the id of the node that this runs on."""
    import ray

    return str(ray.get_runtime_context().get_node_id())


def fault_here(
    ours: Mapping[str, Any], question: bytes, digests: Mapping[str, str], node_id: str
) -> str:
    """Say why this machine must not run cells; empty when it may."""
    theirs = facts_here()
    faults = [
        f"{name} is {theirs['versions'].get(name) or 'not installed'} there, {version} here"
        for name, version in ours["versions"].items()
        if theirs["versions"].get(name) != version
    ]
    if faults:
        return "; ".join(faults)
    from orchestrator.cluster.comparison import Machine, compare
    from orchestrator.cluster.questions import answer

    asked = pickle.loads(question)  # noqa: S301  # from this grid's own driver
    machine = Machine(node_id, theirs["host"], 0.0, theirs, answer(asked, node_id))
    found = compare(ours, digests, [machine])
    return "; ".join(problem.message for problem in found.problems)
