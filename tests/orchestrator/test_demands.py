"""What cells ask for, by the grid, their model and their method."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.demands import Demand, Demands, fitted, merged
from orchestrator.grid import Grid, load_grid, load_stored_grid
from orchestrator.grid_file import Resources
from orchestrator.nodes import check_feasible, matches, slots, why_waiting
from orchestrator.plan import make_plan
from orchestrator.report.plans import plan_summary, plan_table
from orchestrator.sweep import check_machine, read_estimates
from tests.cells import make_cell
from workers.errors import UserError
from workers.job import Site
from workers.store import Committed

Load = Callable[..., Grid]
USUAL = Resources(gpus=1, cpus=4, labels={"zone": "a"}, loader_workers=2)


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load a grid of two models, one of which may ask for something of its own."""

    def load(model: dict[str, Any], *methods: Any, **resources: Any) -> Grid:
        value = {
            "name": "small",
            "suite": "digits-rib",
            "data_root": str(tmp_path / "none"),
            "store": str(tmp_path / "store"),
            "models": [{"name": "vit_digits", **model}, "resnet_digits"],
            "downstream": ["v2"],
            "methods": list(methods),
            "resources": resources,
        }
        path = tmp_path / "grid.yaml"
        path.write_text(yaml.safe_dump(value))
        return load_grid(path)

    return load


# ---------------------------------------------------------------------- what comes first


def test_what_an_entry_does_not_give_stays_as_it_is_in_the_grid() -> None:
    found = merged(USUAL, Resources(gpus=0.5))
    assert found == Resources(gpus=0.5, cpus=4, labels={"zone": "a"}, loader_workers=2)
    assert merged(USUAL) == USUAL


def test_what_is_given_comes_first_though_it_is_the_default() -> None:
    assert merged(USUAL, Resources(gpus=0)).gpus == 0


def test_of_a_model_s_and_a_method_s_numbers_the_larger_is_taken() -> None:
    model, method = Resources(gpus=2, memory=10), Resources(gpus=1, memory=30, cpus=1)
    both = merged(USUAL, model, method)
    assert (both.gpus, both.memory, both.cpus) == (2, 30, 1)
    assert merged(USUAL, method, model) == both


def test_no_memory_is_less_than_any() -> None:
    nothing = Resources.model_validate({"memory": None})
    assert merged(Resources(memory=5), nothing).memory is None
    assert merged(Resources(memory=5), nothing, Resources(memory=7)).memory == 7


def test_labels_add_up() -> None:
    found = merged(USUAL, Resources(labels={"card": "A100"}), Resources(labels={"zone": "b"}))
    assert found.labels == {"zone": "b", "card": "A100"}


def test_cells_are_of_a_class_by_the_entries_that_say_what_they_ask_for() -> None:
    demands = Demands(USUAL, {"m": Resources(gpus=2)}, {"ewc": Resources(cpus=8)})
    cells = [make_cell("ft"), make_cell("ewc"), make_cell("lwf")]
    found = demands.distinct(cells)
    assert list(found) == ["model m", "model m, method ewc"]
    assert str(found["model m, method ewc"]) == "2 GPUs, 8 CPUs, zone=a"
    assert [demands.key(cell) for cell in cells] == ["model m", "model m, method ewc", "model m"]


def test_threads_are_what_loaders_leave_of_the_cpus() -> None:
    site = fitted(Site("", ""), Resources(cpus=4, loader_workers=1, micro_batches=2))
    assert (site.threads, site.loader_workers, site.micro_batches) == (3, 1, 2)


# ---------------------------------------------------------------------- in a grid


def test_a_grid_s_entries_ask_for_their_own_and_are_kept(load: Load) -> None:
    asked = {"gpus": 0, "labels": {"zone": "b"}}
    lwf = {"method": "lwf", "resources": {"memory": "2GiB"}}
    grid = load({"resources": asked}, "ft", lwf, gpus=1)
    again = load_stored_grid(grid.to_yaml(), grid.store)
    for one in (grid, again):
        cells = [node.cell for node in make_plan(one, Committed()).nodes.values()]
        told = {key: str(demand) for key, demand in one.demands.distinct(cells).items()}
        assert told == {
            "model vit_digits": "1 CPU, zone=b",
            "model vit_digits, method lwf": "1 CPU, 2,048 MiB of memory, zone=b",
            "": "1 GPU, 1 CPU",
            "method lwf": "1 GPU, 1 CPU, 2,048 MiB of memory",
        }


def test_what_cells_ask_for_is_no_part_of_what_they_are(load: Load) -> None:
    ft = {"method": "ft", "resources": {"gpus": 1}}
    asking = make_plan(load({"resources": {"cpus": 9}}, ft), Committed())
    assert list(asking.nodes) == list(make_plan(load({}, "ft"), Committed()).nodes)


def test_every_mistake_is_told_at_once(load: Load) -> None:
    lwf = {"method": "lwf", "resources": {"memry": 1, "labels": {"card": "H100"}}}
    ft = {"method": "ft", "resources": {"gpus": 1, "labels": {"card": "H100"}}}
    with pytest.raises(UserError) as refused:
        load({"resources": {"gpus": 1.5, "labels": {"card": "A100"}}}, ft, lwf)
    told = str(refused.value)
    assert "models[0].resources.gpus: should be a whole number when it is above 1" in told
    assert "methods[1].resources.memry: unknown key (did you mean 'memory'?)" in told
    with pytest.raises(UserError) as refused:
        load({"resources": {"labels": {"card": "A100"}}}, ft)
    [problem] = refused.value.problems
    assert problem.message == "'ft' asks for card=H100, 'vit_digits' for A100"
    assert problem.hint == "no node has both"


def test_a_plan_shows_what_each_class_of_cells_asks_for(load: Load) -> None:
    grid = load({"resources": {"gpus": 2}}, "ft")
    plan = make_plan(grid, Committed())
    estimates = read_estimates(grid, plan)
    caption = str(plan_table(grid, plan, estimates).caption)
    assert "a cell of model vit_digits asks for 2 GPUs, 1 CPU (2 to run)" in caption
    assert "every other cell asks for 1 CPU (2 to run)" in caption
    asked = [
        (one["of"], one["cells"], one["gpus"])
        for one in plan_summary(*(grid, plan, estimates))["resources"]
    ]
    assert asked == [("model vit_digits", 2, 2.0), ("", 2, 0.0)]
    assert "each cell asks for 1 CPU" in str(plan_table(load({}, "ft"), plan, estimates).caption)


# ---------------------------------------------------------------------- what there is

NODES = [
    {"Alive": True, "Resources": {"CPU": 8, "GPU": 2}, "Labels": {"card": "A100"}},
    {"Alive": True, "Resources": {"CPU": 8, "GPU": 4}, "Labels": {"card": "T4"}},
]


def test_each_class_that_fits_nowhere_is_named_at_once() -> None:
    usual = Demand(Resources(cpus=64))
    vit = Demand(Resources(gpus=4, labels={"card": "A100"}), "model vit")
    ewc = Demand(Resources(gpus=1, labels={"card": "H100"}), "method ewc")
    fine = Demand(Resources(gpus=4), "model resnet")
    with pytest.raises(UserError) as refused:
        check_feasible([usual, vit, ewc, fine], NODES)
    assert [str(problem) for problem in refused.value.problems] == [
        "resources.cpus: a cell asks for 64, no node has more than 8",
        "resources.gpus: a cell of model vit asks for 4, no node has more than 2",
        "resources.labels: no node has the labels card=H100 that a cell of method ewc asks for "
        "(nodes have card=A100, card=T4)",
    ]


@pytest.mark.parametrize(
    ("asked", "free", "why"),
    [
        (
            {"gpus": 1},
            {"a": {"CPU": 8.0}, "b": {"CPU": 7.0, "GPU": 0.5}},
            "2 nodes could run them, with 0.5 of 6 GPUs and 15 of 16 CPUs free; each asks for "
            "1 GPU, 1 CPU",
        ),
        ({"cpus": 7}, {"b": {"CPU": 7.0}}, "there is room for one of them, and Ray has yet to"),
        ({"gpus": 5}, {}, "resources.gpus: a cell asks for 5, no node has more than 4"),
    ],
)
def test_why_cells_wait(asked: dict[str, Any], free: dict[str, Any], why: str) -> None:
    nodes = [{**node, "NodeID": node_id} for node, node_id in zip(NODES, "ab", strict=True)]
    assert why_waiting(Demand(Resources(**asked)), nodes, free).startswith(why)


def test_a_node_that_is_yet_to_come_may_have_any_label() -> None:
    to_come = [{"Alive": True, "Resources": {"CPU": 8, "GPU": 1}, "Labels": None}]
    check_feasible([Demand(Resources(gpus=1, labels={"card": "H100"}))], to_come)
    with pytest.raises(UserError):
        check_feasible([Demand(Resources(gpus=2))], to_come)


@pytest.mark.parametrize(
    ("wanted", "fitting"),
    [
        ("A100", {"A100"}),
        ("!A100", {"T4", None}),
        ("in(A100,H100)", {"A100"}),
        ("in(A100, T4)", {"A100", "T4"}),
        ("!in(A100,T4)", {None}),
    ],
)
def test_labels_are_matched_as_ray_does(wanted: str, fitting: set[str | None]) -> None:
    assert {value for value in ("A100", "T4", None) if matches(wanted, value)} == fitting


def test_only_nodes_that_can_run_a_cell_have_slots() -> None:
    assert slots(Resources(gpus=0.5), NODES) == 4 + 8
    assert slots(Resources(gpus=0.5, labels={"card": "A100"}), NODES) == 4
    assert slots(Resources(gpus=3, cpus=3), NODES) == 1


def test_this_machine_is_asked_for_what_each_class_asks_for() -> None:
    with pytest.raises(UserError) as refused:
        check_machine([Demand(Resources()), Demand(Resources(cpus=9999), "method ewc")])
    assert [problem.message.split(", ")[0] for problem in refused.value.problems] == [
        "a cell of method ewc asks for 9999"
    ]
