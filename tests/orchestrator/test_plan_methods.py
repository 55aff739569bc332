"""What methods make of a plan: soups over seeds, variants from a list, and work done once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from orchestrator.grid import Grid, load_grid, load_stored_grid
from orchestrator.plan import Plan, expand, make_plan
from workers.cell import Cell
from workers.store import Committed


def grid_of(tmp_path: Path, **keys: Any) -> Grid:
    value = {
        "name": "small",
        "suite": "digits-rib",
        "data_root": str(tmp_path / "none"),
        "models": ["resnet_digits"],
        "downstream": ["v2"],
        **keys,
    }
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(value))
    return load_grid(path)


def plan_of(tmp_path: Path, **keys: Any) -> Plan:
    return make_plan(grid_of(tmp_path, **keys), Committed())


def cells(plan: Plan, label: str) -> list[Cell]:
    return [node.cell for node in plan.nodes.values() if node.cell.label == label]


def test_a_soup_over_seeds_is_one_cell_made_of_all_of_them(tmp_path: Path) -> None:
    soup = {"name": "random-soup", "method": "soup", "members": ["ft"], "seeds": [0, 1, 5]}
    plan = plan_of(tmp_path, methods=["ft", soup], seeds=[0, 1])
    (made,) = cells(plan, "random-soup")
    assert made.seed == 0
    assert [(p.label, p.seed) for p in made.parents] == [("ft", 0), ("ft", 1), ("ft", 5)]
    asked = {cell.seed: plan.nodes[cell.cell_id].is_prerequisite for cell in cells(plan, "ft")}
    assert asked == {0: False, 1: False, 5: True}


def test_the_pretrained_model_is_in_a_soup_over_seeds_once(tmp_path: Path) -> None:
    soup = {"method": "soup", "members": ["pretrained", "ft"], "seeds": [0, 1]}
    (made,) = cells(plan_of(tmp_path, methods=[soup]), "soup")
    assert [(p.label, p.seed) for p in made.parents] == [
        ("pretrained", 0),
        ("ft", 0),
        ("ft", 1),
    ]


def test_a_soup_without_seeds_is_a_cell_for_each_seed(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, methods=[{"method": "soup", "members": ["ft", "lwf"]}], seeds=[3, 4])
    assert [[p.seed for p in cell.parents] for cell in cells(plan, "soup")] == [[3, 3], [4, 4]]


def test_a_list_of_alphas_is_a_cell_each_from_one_run(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, methods=[{"method": "wise-ft", "alpha": [0.25, 0.75]}])
    labels = {node.cell.label: node.cell for node in plan.nodes.values()}
    assert set(labels) == {"pretrained", "ft", "wise-ft-0.25", "wise-ft-0.75"}
    assert labels["wise-ft-0.25"].hyperparameters["alpha"] == 0.25
    assert labels["wise-ft-0.25"].parents == labels["wise-ft-0.75"].parents
    assert len(cells(plan, "ft")) == 1


def test_passes_of_the_pretrained_model_are_counted_once(tmp_path: Path) -> None:
    """v2 has 150 images; of four epochs of each cell one pass is left for each kind of work."""
    plan = plan_of(
        tmp_path,
        methods=[
            "ft",
            "lp",
            "feature-distill",
            "lwf",
            {"name": "lwf2", "method": "lwf", "alpha": 2},
        ],
        recipe={"epochs": 4},
        seeds=[0, 1],
    )
    features, logits = 2 * 2 * 4 * 150 - 150, 2 * 2 * 4 * 150 - 150
    assert plan.spared_passes == features + logits


def test_a_probe_that_trains_more_than_the_head_costs_what_fine_tuning_does(tmp_path: Path) -> None:
    probe = {"name": "lp-more", "method": "lp", "also_train": ["*norm*"]}
    plan = plan_of(tmp_path, methods=["ft", "lp", probe], recipe={"epochs": 4})
    cost = {node.cell.label: node.cost for node in plan.nodes.values()}
    assert cost["lp"] < cost["lp-more"] == cost["ft"]
    assert plan.spared_passes == 3 * 150


def test_a_method_is_for_the_models_that_it_names(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        models=["vit_digits", "resnet_digits"],
        methods=["ft", {"method": "lora", "only_models": ["vit*"]}],
    )
    assert [cell.model.name for cell in cells(plan, "lora")] == ["vit_digits"]
    assert len(cells(plan, "ft")) == 2


def test_a_stored_grid_keeps_which_models_a_method_is_for(tmp_path: Path) -> None:
    grid = grid_of(
        tmp_path,
        models=["vit_digits", "resnet_digits"],
        methods=["ft", {"method": "lora", "only_models": ["vit*"]}],
    )
    again = load_stored_grid(grid.to_yaml(), grid.store)
    assert [cell.cell_id for cell in expand(again)] == [cell.cell_id for cell in expand(grid)]


def test_nothing_is_spared_where_nothing_is_shared(tmp_path: Path) -> None:
    assert plan_of(tmp_path, methods=["ft", "l2sp"]).spared_passes == 0
