"""Comparing the machines of a cluster: what differs from the driver's, and who may run cells. Pure.

What decides numbers has to be the same: this project's code, the versions of what it stands on,
the data, the weights, the store. GPUs, drivers and disks may differ and are shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.cluster.questions import Answer
from orchestrator.sizes import size
from workers.errors import Problem, UserError

MIN_FREE = 2**30
"""Bytes of its temporary folder without which Ray itself fails on a machine."""

SHOWN = 3
"""How many faults of one kind are spelled out for a machine; the others are counted."""

Facts = Mapping[str, Any]
"""What `orchestrator.cluster.facts.facts_here` returns."""


@dataclass(frozen=True)
class Machine:
    """A machine of the cluster, and what it says."""

    node_id: str
    name: str
    """Its address in the cluster."""
    gpus: float = 0.0
    """How many Ray counts there."""
    facts: Facts | None = None
    answer: Answer | None = None
    fault: str = ""
    """Why it did not answer, if it did not."""


@dataclass(frozen=True)
class Cell:
    """A field of the table of machines."""

    text: str
    differs: bool = False


@dataclass(frozen=True)
class Comparison:
    """The machines of a cluster side by side."""

    rows: Sequence[tuple[str, Mapping[str, Cell]]]
    """The driver's machine first, then the others by name: column -> field."""
    problems: Sequence[Problem] = field(default=())

    @property
    def columns(self) -> list[str]:
        """Those in which a machine differs, and what is shown all the same."""
        every = dict.fromkeys(column for _, fields in self.rows for column in fields)
        odd = {c for _, fields in self.rows for c, found in fields.items() if found.differs}
        return [column for column in every if column in odd or column in ("GPUs", "driver")]


class NodesDifferError(UserError):
    """Machines of the cluster must not run cells of one grid together."""

    def __init__(self, problems: Sequence[Problem], comparison: Comparison | None = None) -> None:
        super().__init__(problems)
        self.comparison = comparison


def versions_differ(ours: Facts, theirs: Facts) -> dict[str, tuple[str, str]]:
    """Return what has another version on two machines: name -> (ours, theirs)."""
    mine, other = ours["versions"], theirs["versions"]
    return {
        name: (mine[name], other.get(name, "")) for name in mine if mine[name] != other.get(name)
    }


def compare(ours: Facts, digests: Mapping[str, str], machines: Sequence[Machine]) -> Comparison:
    """Compare machines with the driver's.

    Args:
        ours: what the driver's machine says.
        digests: of the driver's data sets and, by `weights of MODEL`, of weights that are known.
        machines: those that run cells; the driver's may be among them.
    """
    expected = {**_most_common_weights(machines), **digests}
    rows = [("driver", _driver_fields(ours))]
    problems: list[Problem] = []
    for machine in sorted(machines, key=lambda one: one.name):
        fields, faults = _examine(ours, expected, machine)
        rows.append((machine.name, fields))
        problems += [Problem(f"node {machine.name}", fault) for fault in faults]
    return Comparison(rows, problems)


def weights_key(model: str) -> str:
    """Return under what name the digest of a model's weights is expected."""
    return f"weights of {model}"


def _most_common_weights(machines: Sequence[Machine]) -> dict[str, str]:
    """Return the digest of each model that most machines have; no grid names published ones."""
    votes: dict[str, dict[str, int]] = {}
    for machine in machines:
        for model, digest in (machine.answer.weights if machine.answer else {}).items():
            counts = votes.setdefault(weights_key(model), {})
            counts[digest] = counts.get(digest, 0) + 1
    return {key: max(sorted(counts), key=lambda d: counts[d]) for key, counts in votes.items()}


def _driver_fields(ours: Facts) -> dict[str, Cell]:
    fields = {name: Cell(version or "none") for name, version in ours["versions"].items()}
    return {**fields, **_shown(ours), "data": Cell("as planned"), "weights": Cell("as planned")}


def _shown(facts: Facts) -> dict[str, Cell]:
    """Return what is shown of a machine and not compared."""
    counts: dict[str, int] = {}
    for name, _ in facts["gpus"]:
        counts[name] = counts.get(name, 0) + 1
    names = ", ".join(f"{n} x {name}" for name, n in counts.items())
    drivers = ", ".join(sorted({driver for _, driver in facts["gpus"]}))
    return {"GPUs": Cell(names or "none"), "driver": Cell(drivers or "none")}


def _examine(
    ours: Facts, expected: Mapping[str, str], machine: Machine
) -> tuple[dict[str, Cell], list[str]]:
    """Return a machine's row, and what is wrong with it."""
    if machine.facts is None:
        fault = machine.fault or "it does not answer"
        return {"answer": Cell(fault, differs=True)}, [fault]
    faults = [
        f"{name} is {theirs or 'not installed'} there, {mine or 'not installed'} here"
        for name, (mine, theirs) in versions_differ(ours, machine.facts).items()
    ]
    fields = {
        name: Cell(version or "none", version != ours["versions"].get(name))
        for name, version in machine.facts["versions"].items()
    }
    fields |= _shown(machine.facts)
    free = machine.facts["free"]
    fields["free disk"] = Cell(size(free), free < MIN_FREE)
    if free < MIN_FREE:
        faults.append(f"its temporary folder has {size(free)} left, Ray needs {size(MIN_FREE)}")
    if machine.answer is not None:
        more, wrong = _examine_answer(expected, machine, machine.answer)
        fields |= more
        faults += wrong
    elif machine.fault:
        fields["answer"] = Cell(machine.fault, differs=True)
        faults.append(machine.fault)
    return fields, faults


def _examine_answer(
    expected: Mapping[str, str], machine: Machine, answer: Answer
) -> tuple[dict[str, Cell], list[str]]:
    data = [*answer.data_faults, *_unlike(answer.datasets, expected)]
    named = {weights_key(model): digest for model, digest in answer.weights.items()}
    weights = [*answer.weight_faults, *_unlike(named, expected)]
    fields = {
        "data": Cell("differ" if data else "as planned", bool(data)),
        "weights": Cell("differ" if weights else "as planned", bool(weights)),
        "store": Cell(answer.store_fault or "shared", bool(answer.store_fault)),
    }
    faults = [*_some(data), *_some(weights)]
    if answer.store_fault:
        faults.append(f"the store: {answer.store_fault}")
    if answer.gpus is not None and answer.gpus < machine.gpus:
        faults.append(
            f"Ray counts {machine.gpus:g} GPUs there and PyTorch sees {answer.gpus}: cells would "
            "compute on the CPU"
        )
        fields["GPUs seen"] = Cell(f"{answer.gpus} of {machine.gpus:g}", differs=True)
    return fields, faults


def _unlike(found: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    return [
        f"{name} is another copy: digest {_short(digest)} there, {_short(expected[name])} here"
        for name, digest in found.items()
        if name in expected and digest != expected[name]
    ]


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:16]


def _some(faults: Sequence[str]) -> list[str]:
    hidden = len(faults) - SHOWN
    return [*faults[:SHOWN], *([f"and {hidden} more"] if hidden > 0 else [])]
