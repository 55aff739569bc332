"""Comparing the machines of a cluster: what is refused, what is only shown, and how it is told."""

import io
from typing import Any

import pytest

from orchestrator.cluster.comparison import (
    Comparison,
    Machine,
    NodesDifferError,
    compare,
    weights_key,
)
from orchestrator.cluster.questions import Answer
from orchestrator.report.machines import machines_table

VERSIONS = {"rib-orchestrator": "1.0", "code": "abc", "python": "3.11.7", "torch": "2.9"}
DIGESTS = {"v2": "d1", weights_key("mine"): "sha256:aa"}
GOOD = Answer({"v2": "d1"}, {"mine": "sha256:aa", "hub": "sha256:bb"})


def facts(**versions: str) -> dict[str, Any]:
    gpus = [["NVIDIA H100", "570.1"], ["NVIDIA H100", "570.1"]]
    return {"host": "h", "versions": VERSIONS | versions, "gpus": gpus, "free": 2**40}


def machine(name: str, answer: Answer | None = GOOD, fault: str = "", **other: Any) -> Machine:
    found = other.pop("facts", facts())
    return Machine(f"id-{name}", name, other.pop("gpus", 2.0), found, answer, fault)


def problems(*machines: Machine) -> list[str]:
    return [str(problem) for problem in compare(facts(), DIGESTS, machines).problems]


def test_machines_that_are_alike_are_admitted() -> None:
    assert problems(machine("a"), machine("b")) == []


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        (
            machine("b", None, facts=facts(torch="2.8")),
            ["node b: torch is 2.8 there, 2.9 here"],
        ),
        (
            machine("b", None, facts=facts(code="", torch="")),
            [
                "node b: code is not installed there, abc here",
                "node b: torch is not installed there, 2.9 here",
            ],
        ),
        (
            machine("b", Answer({"v2": "d2"}, GOOD.weights)),
            ["node b: v2 is another copy: digest d2 there, d1 here"],
        ),
        (
            machine("b", Answer({}, GOOD.weights, ("there is no folder /data",))),
            ["node b: there is no folder /data"],
        ),
        (
            machine("b", Answer(GOOD.datasets, {"mine": "sha256:cc"})),
            [f"node b: {weights_key('mine')} is another copy: digest cc there, aa here"],
        ),
        (
            machine("b", Answer(GOOD.datasets, {"hub": "sha256:cc"})),
            [f"node b: {weights_key('hub')} is another copy: digest cc there, bb here"],
        ),
        (
            machine("b", Answer(GOOD.datasets, GOOD.weights, store_fault="it is not there")),
            ["node b: the store: it is not there"],
        ),
        (
            machine("b", Answer(GOOD.datasets, GOOD.weights, gpus=1)),
            ["node b: Ray counts 2 GPUs there and PyTorch sees 1: cells would compute on the CPU"],
        ),
        (
            machine("b", facts=facts() | {"free": 2**20}),
            ["node b: its temporary folder has 1 MiB left, Ray needs 1,024 MiB"],
        ),
        (machine("b", None, "no answer in 5 s", facts=None), ["node b: no answer in 5 s"]),
        (machine("b", None, "it died"), ["node b: it died"]),
    ],
)
def test_what_differs_is_named(odd: Machine, said: list[str]) -> None:
    assert problems(machine("a"), machine("c"), odd) == said


def test_gpus_and_drivers_may_differ() -> None:
    other = facts() | {"gpus": [["NVIDIA L4", "550.2"]]}
    assert problems(machine("a"), machine("b", facts=other)) == []
    assert problems(machine("a"), machine("b", facts=facts() | {"gpus": []})) == []


def test_many_faults_of_one_kind_are_counted() -> None:
    faults = tuple(f"set {i}: gone" for i in range(9))
    assert problems(machine("a", Answer({}, {}, faults)))[-1] == "node a: and 6 more"


def table(comparison: Comparison) -> str:
    from rich.console import Console

    console = Console(width=120, record=True, file=io.StringIO())
    console.print(machines_table(comparison))
    return console.export_text()


def test_the_table_has_a_row_per_machine_and_marks_what_differs() -> None:
    odd = machine("10.0.0.2", Answer({"v2": "d2"}, GOOD.weights), facts=facts())
    old = machine("10.0.0.1", None, facts=facts(torch="2.8"))
    found = compare(facts(), DIGESTS, [odd, old])
    lines = table(found).splitlines()
    (head,) = [line for line in lines if line.lstrip().startswith("node")]
    assert head.split() == ["node", "torch", "GPUs", "driver", "data"]
    rows = {line.split()[0]: line for line in lines if "H100" in line}
    assert list(rows) == ["driver", "10.0.0.1", "10.0.0.2"]
    assert "✗ 2.8" in rows["10.0.0.1"]
    assert rows["10.0.0.2"].rstrip().endswith("✗ differ")
    assert "✗" not in rows["driver"]


def test_the_error_carries_every_problem() -> None:
    found = compare(facts(), DIGESTS, [machine("a", None, "gone", facts=None)])
    error = NodesDifferError(found.problems, found)
    assert str(error) == "node a: gone"
    assert error.comparison is found
