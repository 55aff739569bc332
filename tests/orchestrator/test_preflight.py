"""Checks before the first cell: what the cells that are to do will read, and nothing else."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator import preflight as module
from orchestrator.grid import Grid, load_grid
from orchestrator.plan import Plan, expand, make_plan
from orchestrator.preflight import preflight, undecodable, unfit_model
from workers.datasets import read_dataset
from workers.errors import UserError
from workers.store import Committed
from workers.suites import suites
from workers.suites.digits_rib import TRANSFORM

SUITE = suites()["digits-rib"]
PLAIN = {(None, None)}


@pytest.fixture
def root(digits_root: Path, tmp_path: Path) -> Path:
    """A part of the suite in hard links: unlink a file before writing it."""
    for folder in ("val", "digits-a", "digits-r", "models"):
        shutil.copytree(digits_root / folder, tmp_path / folder, copy_function=os.link)
    return tmp_path


def grid_of(root: Path, **keys: Any) -> Grid:
    value = {
        "name": "small",
        "suite": "digits-rib",
        "data_root": str(root),
        "models": ["resnet_digits"],
        "downstream": ["a"],
        "methods": ["ft"],
        "evaluate": ["val"],
        **keys,
    }
    path = root / "grid.yaml"
    path.write_text(yaml.safe_dump(value))
    return load_grid(path)


def plan_of(grid: Grid, committed: Committed | None = None) -> Plan:
    return make_plan(grid, committed or Committed())


def problems_of(grid: Grid, plan: Plan | None = None) -> list[str]:
    try:
        preflight(grid, plan or plan_of(grid))
    except UserError as error:
        return [str(problem) for problem in error.problems]
    return []


def test_a_suite_as_it_was_made_has_no_problem(digits_root: Path, tmp_path: Path) -> None:
    grid = grid_of(tmp_path, data_root=str(digits_root), evaluate="all")
    plan = plan_of(grid)
    assert {name for id_ in plan.todo for name in plan.nodes[id_].missing} == {*SUITE.splits()}
    assert problems_of(grid, plan) == []


def test_the_problems_of_every_set_and_model_are_told_at_once(root: Path) -> None:
    grid = grid_of(root, evaluate=["val", "sketch", "r"], models=["resnet_digits", "vit_digits"])
    plan = plan_of(grid)
    shutil.rmtree(root / "digits-a" / "d7")
    (root / "digits-r" / "d8").rename(root / "digits-r" / "d10")
    (root / "models" / "vit_digits.safetensors").unlink()
    told = "\n".join(problems_of(grid, plan))
    for what in ("digits-a: 1 class", "digits-r/d10", "sketch: there is no such", "vit_digits"):
        assert what in told


def test_sets_that_no_cell_reads_may_be_missing(root: Path) -> None:
    assert problems_of(grid_of(root)) == []
    told = problems_of(grid_of(root, evaluate=["sketch"]))
    assert told == [f"{root}/sketch: there is no such folder"]
    told = problems_of(grid_of(root, downstream=["v2"]))
    assert told == [f"{root}/digitsv2-matched-frequency-format-val: there is no such folder"]


def test_what_is_done_is_not_read_again(root: Path) -> None:
    grid = grid_of(root)
    baseline, tuned = (cell.cell_id for cell in expand(grid))
    shutil.rmtree(root / "digits-a")
    assert problems_of(grid)
    # Trained but not yet scored: its downstream set is not needed any more.
    assert problems_of(grid, plan_of(grid, Committed(checkpoints={tuned}))) == []
    shutil.rmtree(root / "val")
    done = {cell_id: {"val": set(PLAIN)} for cell_id in (baseline, tuned)}
    assert problems_of(grid, plan_of(grid, Committed(done))) == []


def test_the_downstream_set_of_a_prerequisite_is_read(root: Path) -> None:
    grid = grid_of(root, methods=[{"method": "soup", "members": ["pretrained", "ft"]}])
    shutil.rmtree(root / "digits-a")
    assert problems_of(grid) == [f"{root}/digits-a: there is no such folder"]


def test_a_root_that_is_not_there(root: Path, tmp_path: Path) -> None:
    grid = grid_of(root)
    gone = replace(grid, data_root=tmp_path / "gone", suite=replace(SUITE, make=None))
    told = problems_of(gone, plan_of(grid))
    assert told[0] == f"data_root {tmp_path}/gone: there is no such folder"


def test_images_are_decoded_up_to_a_limit(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = min((root / "val" / "d3").iterdir())
    image.unlink()
    image.write_bytes(b"no image")
    told = problems_of(grid_of(root))
    assert len(told) == 1
    assert told[0].startswith(f"{image}: this image does not decode")
    monkeypatch.setattr(module, "DECODE_LIMIT", 10)
    assert problems_of(grid_of(root)) == []


def test_every_image_that_does_not_decode_is_named(root: Path) -> None:
    damaged = [min((root / "digits-a" / name).iterdir()) for name in ("d1", "d9")]
    for image in damaged:
        data = image.read_bytes()
        image.unlink()
        image.write_bytes(data[: len(data) // 2])
    dataset = read_dataset(SUITE, SUITE.dataset("a"), root)
    assert [problem.where for problem in undecodable(dataset)] == [str(path) for path in damaged]


# ------------------------------------------------------------------------------ models


def check(grid: Grid) -> list[str]:
    (model,) = grid.models
    return [str(problem) for problem in unfit_model(model, grid.suite, grid.data_root)]


@pytest.fixture
def with_model(root: Path) -> Callable[..., Grid]:
    """Make a grid with one model of a user's own."""

    def make(**keys: Any) -> Grid:
        entry = {
            "name": "mine",
            "architecture": "test_resnet",
            "weights": str(root / "models" / "resnet_digits.safetensors"),
            "arguments": {"num_classes": 10},
            "transform": TRANSFORM,
        }
        return grid_of(root, models=[{**entry, **keys}])

    return make


def test_a_weights_file_that_fits(with_model: Callable[..., Grid]) -> None:
    assert check(with_model()) == []


def test_weights_of_another_shape_are_named_with_both(with_model: Callable[..., Grid]) -> None:
    (told,) = check(with_model(arguments={"num_classes": 7}))
    assert "fc.weight has shape [10, 96], the architecture has [7, 96]" in told
    assert "fc.bias has shape [10], the architecture has [7]" in told
    assert told.endswith("(models entry 'mine')")


def test_weights_of_another_architecture(with_model: Callable[..., Grid]) -> None:
    (told,) = check(with_model(architecture="test_vit"))
    assert "is missing" in told
    assert "and " in told
    assert told.count(";") == 3, "three of them, and how many more"


def test_arguments_that_the_architecture_does_not_take(with_model: Callable[..., Grid]) -> None:
    (told,) = check(with_model(arguments={"num_classes": 10, "widht": 2}))
    assert told.startswith("models entry 'mine': test_resnet cannot be built with {'num_classes'")
    assert "unexpected keyword argument 'widht'" in told


def test_a_hub_model_with_another_label_space(root: Path) -> None:
    told = check(grid_of(root, models=["test_vit.r160_in1k"]))
    assert told == [
        "models entry 'test_vit.r160_in1k': it has 1000 outputs, digits-rib has 10 classes"
    ]


def test_models_with_nothing_to_do_are_not_checked(root: Path) -> None:
    grid = grid_of(root, models=["resnet_digits", "vit_digits"])
    only = {"model": frozenset({"resnet_digits"})}
    plan = make_plan(grid, Committed({}, set()), only)
    baselines = {plan.nodes[id_].cell.model.name for id_ in plan.todo}
    assert baselines == {"resnet_digits", "vit_digits"}, "baselines come along"
    (vit,) = (c for c in expand(grid) if c.is_baseline and c.model.name == "vit_digits")
    done = make_plan(grid, Committed({vit.cell_id: {"val": set(PLAIN)}}), only)
    weights = root / "models" / "vit_digits.safetensors"
    weights.unlink()
    weights.write_bytes(b"no weights")
    assert problems_of(grid, plan) != []
    assert problems_of(grid, done) == []
