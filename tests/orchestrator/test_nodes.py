"""How much host memory is reserved for which job, on what nodes."""

from typing import Any

from orchestrator.grid_file import Resources
from orchestrator.nodes import Memory, Node, free_slots
from tests.cells import make_cell
from workers.job import Job

GIB = 2**30


def node(alive: bool = True, labels: dict[str, str] | None = None, **has: float) -> Node:
    return {"Alive": alive, "Resources": has, "Labels": labels or {}}


NODES = [
    node(CPU=4, memory=8 * GIB),
    node(CPU=16, memory=64 * GIB, labels={"zone": "b"}),
    node(alive=False, CPU=1, memory=999 * GIB),
]


def reserved(resources: Resources, *factors: int, nodes: list[Node] = NODES) -> list[int | None]:
    """What is reserved for jobs that are submitted one after another."""
    memory = Memory.of(resources, nodes)
    return [memory.for_job(Job(make_cell(), (), memory_factor=factor)) for factor in factors]


def asking(**asked: Any) -> Resources:
    return Resources(**asked)


def test_as_long_as_memory_suffices_what_the_grid_says_is_reserved() -> None:
    assert reserved(asking(), 1, 1) == [None, None]
    assert reserved(asking(memory=GIB), 1, 1) == [GIB, GIB]


def test_a_cell_that_ran_out_of_it_gets_more_up_to_what_a_node_has() -> None:
    assert reserved(asking(memory=10 * GIB), 1, 2, 4, 8) == [
        10 * GIB,
        20 * GIB,
        40 * GIB,
        64 * GIB,
    ]


def test_without_a_number_it_is_shares_of_the_node_that_has_least_for_each_cell() -> None:
    # 8 GiB for 4 cells; from the first cell that ran out of it on, the others reserve theirs, too.
    assert reserved(asking(), 1, 2, 1, 4, 8, 64) == [
        None,
        4 * GIB,
        2 * GIB,
        8 * GIB,
        16 * GIB,
        64 * GIB,
    ]
    assert reserved(asking(cpus=4), 2) == [16 * GIB]


def test_only_nodes_that_can_run_a_cell_are_looked_at() -> None:
    assert reserved(asking(labels={"zone": "b"}), 2) == [8 * GIB]
    assert reserved(asking(cpus=8), 2, 4) == [64 * GIB, 64 * GIB]


def test_where_nobody_knows_of_memory_none_is_reserved() -> None:
    assert reserved(asking(), 1, 2, nodes=[node(CPU=4)]) == [None, None]


def test_room_that_is_free_now_is_counted_node_by_node() -> None:
    nodes = [{**one, "NodeID": name} for name, one in zip("abc", NODES, strict=True)]
    free = {"a": {"CPU": 3.0}, "b": {"CPU": 5.0, "memory": 64.0 * GIB}, "c": {"CPU": 9.0}}
    assert free_slots(asking(cpus=2), nodes, free) == 1 + 2  # c is dead
    assert free_slots(asking(cpus=2, labels={"zone": "b"}), nodes, free) == 2
    assert free_slots(asking(cpus=2, memory=GIB), nodes, free) == 2  # a has no memory left
    assert free_slots(asking(cpus=6), nodes, free) == 0
    assert free_slots(asking(cpus=1), nodes, {"b": {"CPU": 1.0}}) == 1  # of a nothing is known
