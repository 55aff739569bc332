"""Which machines of a Ray cluster may run a grid's cells: all are asked before the first of them.

What this relies on (Ray 2.60): a task can be pinned to a node by its id; functions of modules that
are registered so are sent by value; `!in(...)` over `ray.io/node-id` keeps tasks off nodes.
"""

from __future__ import annotations

import pickle
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orchestrator.cluster.settings  # noqa: F401  # first: ray reads what it sets

# isort: split
import ray
from ray import cloudpickle, exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.cluster import facts, guard
from orchestrator.cluster.comparison import (
    Comparison,
    Facts,
    Machine,
    NodesDifferError,
    compare,
    versions_differ,
    weights_key,
)
from orchestrator.cluster.questions import Answer, Probe, Question, answer
from orchestrator.executor import Work

Tell = Callable[[str], None]
Node = Mapping[str, Any]
"""A node as `ray.nodes()` shows it."""

FACTS_S = 120.0
"""How long a machine may take to start a process and say what it has installed."""

ANSWER_S = 1800.0
"""How long it may take to list its data and read its weights: ImageNet-C on NFS takes minutes."""

SILENT_S = 15.0
"""After how long it is said who has not answered yet."""

for _module in (facts, guard):
    cloudpickle.register_pickle_by_value(_module)


class Admission:
    """Asks the machines of a cluster, and keeps those out that do not answer as they should."""

    def __init__(
        self,
        question: Question,
        digests: Mapping[str, str],
        tell: Tell = lambda _: None,
        facts_s: float = FACTS_S,
        answer_s: float = ANSWER_S,
    ) -> None:
        """Prepare to ask.

        Args:
            question: what is asked.
            digests: of the driver's data sets by name; known weights by `weights_key`.
            tell: is told in words of what is found.
            facts_s: patience with the first answer, in seconds.
            answer_s: patience with the second, in seconds.
        """
        self.question, self.tell = question, tell
        self.digests = dict(digests)
        self.patience = (facts_s, answer_s)
        self.ours: Facts = facts.facts_here()
        self.checked: frozenset[str] = frozenset()

    def check(self, nodes: Sequence[Node], runtime_env: Mapping[str, Any] | None = None) -> None:
        """Ask machines, and admit them.

        Args:
            nodes: those that cells can run on, as Ray shows them.
            runtime_env: of the cells, so that they find the processes warm that answered here.

        Raises:
            NodesDifferError: when any differs from the others or the driver in what it must not.
        """
        machines = [
            Machine(n["NodeID"], n["NodeManagerAddress"], n["Resources"].get("GPU", 0.0))
            for n in nodes
        ]
        comparison = compare(self.ours, self.digests, self._ask(machines, runtime_env or {}))
        if comparison.problems:
            raise NodesDifferError(comparison.problems, comparison)
        self.tell(summary(comparison))

    def _ask(self, machines: list[Machine], runtime_env: Mapping[str, Any]) -> list[Machine]:
        answers, faults = _ask_all(
            facts.facts_here,
            {m.node_id: () for m in machines},
            machines,
            self.patience[0],
            self.tell,
        )
        machines = [
            replace(m, facts=answers.get(m.node_id), fault=faults.get(m.node_id, ""))
            for m in machines
        ]
        alike = [m for m in machines if m.facts and not versions_differ(self.ours, m.facts)]
        probe = uuid.uuid4().hex
        asked = replace(self.question, probe=probe)
        with Probe(self.question.store, probe) as trial:
            answers, faults = _ask_all(
                answer,
                {m.node_id: (asked, m.node_id) for m in alike},
                alike,
                self.patience[1],
                self.tell,
                runtime_env,
            )
            answers = {
                node_id: _seen(found, trial.sees(node_id)) if not found.store_fault else found
                for node_id, found in answers.items()
            }
        self._learn(answers.values())
        self.checked = frozenset(answers)
        return [
            replace(m, answer=answers.get(m.node_id), fault=m.fault or faults.get(m.node_id, ""))
            for m in machines
        ]

    def _learn(self, answers: Any) -> None:
        """Expect of machines that join later the published weights that these have."""
        for found in answers:
            for model, digest in found.weights.items():
                self.digests.setdefault(weights_key(model), digest)

    def guarded(self, work: Work) -> Callable[[bytes, bytes], Any]:
        """Return what runs pickled jobs, on machines that were not asked after asking them."""
        return guard.guard(
            cloudpickle.dumps(work),
            self.ours,
            pickle.dumps(self.question),
            self.digests,
            self.checked,
        )


def _seen(found: Answer, is_seen: bool) -> Answer:
    fault = "" if is_seen else "the driver does not see what this node writes there"
    return replace(found, store_fault=fault)


def _ask_all(
    function: Callable[..., Any],
    arguments: Mapping[str, tuple[Any, ...]],
    machines: Sequence[Machine],
    patience_s: float,
    tell: Tell,
    runtime_env: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Call a function on machines; return what it answered there, and why it did not elsewhere."""
    names = {machine.node_id: machine.name for machine in machines}
    task = ray.remote(num_cpus=0, max_retries=0)(function)
    waiting = {}
    for node_id, given in arguments.items():
        options: dict[str, Any] = {"runtime_env": dict(runtime_env)} if runtime_env else {}
        pinned = task.options(
            name=f"check of node {names[node_id]}",
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
            **options,
        )
        waiting[pinned.remote(*given)] = node_id
    answers: dict[str, Any] = {}
    faults: dict[str, str] = {}
    started, is_told = time.monotonic(), False
    while waiting:
        ready, _ = ray.wait(list(waiting), num_returns=1, timeout=1.0)
        for reference in ready:
            node_id = waiting.pop(reference)
            try:
                answers[node_id] = ray.get(reference)
            except exceptions.RayError as error:
                faults[node_id] = _reason(error)
        elapsed = time.monotonic() - started
        silent = ", ".join(sorted(names[node_id] for node_id in waiting.values()))
        if waiting and elapsed > SILENT_S and not is_told:
            tell(f"waiting for the answers of {silent}")
            is_told = True
        if waiting and elapsed > patience_s:
            faults |= dict.fromkeys(waiting.values(), f"no answer in {patience_s:g} s")
            for reference in waiting:
                ray.cancel(reference, force=True)
            break
    return answers, faults


def _reason(error: Exception) -> str:
    cause = getattr(error, "cause", None) or error
    text = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {text[0] if text else ''}".rstrip(": ")


def summary(comparison: Comparison) -> str:
    """Say of machines that are alike how many they are, and what they compute on."""
    machines = comparison.rows[1:]
    if not machines:
        return "no node is up yet: each is asked by the first cell that it gets"
    kinds: dict[str, int] = {}
    for _, fields in machines:
        gpus, driver = fields["GPUs"].text, fields["driver"].text
        kind = "no GPU" if gpus == "none" else f"{gpus}, driver {driver}"
        kinds[kind] = kinds.get(kind, 0) + 1
    told = "; ".join(f"{n} with {kind}" for kind, n in sorted(kinds.items()))
    who = "1 node has" if len(machines) == 1 else f"{len(machines)} nodes have"
    return f"{who} the driver's code, data, weights and store: {told}"
