"""Checks before the first cell: what the cells that are to do will read, and nothing else."""

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator import preflight as module
from orchestrator.data_check import Decoding, check_data, specs_of
from orchestrator.grid import Grid, load_grid, load_stored_grid
from orchestrator.plan import Plan, expand, make_plan
from orchestrator.preflight import preflight, undecodable, unfit_model
from tests.cells import row
from tests.orchestrator.rib import rib
from workers.bench import Bench
from workers.datasets import read_dataset
from workers.errors import DataError, UserError
from workers.job import Job, Site
from workers.store import Committed, Store
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


def test_a_method_that_reads_id_images_needs_them(root: Path) -> None:
    grid = grid_of(root, methods=[{"method": "ewc", "data": "id-train"}])
    assert problems_of(grid) == [f"{root}/train: there is no such folder"]
    assert problems_of(grid_of(root, methods=["ewc"])) == []
    without = replace(grid, suite=replace(SUITE, id_train=None))
    assert problems_of(without) == [
        "method ewc: reads ID images that no evaluation uses, and digits-rib has none"
    ]


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


# ------------------------------------------------------------------------------ counts


def test_a_short_set_is_refused_and_the_message_says_how_to_accept_it(root: Path) -> None:
    min((root / "val" / "d3").iterdir()).unlink()
    (told,) = problems_of(grid_of(root))
    assert told.startswith(f"{root}/val: 199 images, 200 expected (unpack the archive again")
    key, _, value = told.rpartition("add to the grid ")[2].rstrip(")").partition(": ")
    accepted = grid_of(root, **{key: yaml.safe_load(value)})
    assert accepted.accept_images == {"val": 199}
    assert problems_of(accepted) == []
    (told,) = problems_of(grid_of(root, accept_images={"val": 198}))
    assert "199 images, 198 expected (take out what was added" in told


def test_what_is_accepted_is_in_the_stored_grid_and_in_what_is_trained_on_it(root: Path) -> None:
    plain = grid_of(root)
    grid = grid_of(root, accept_images={"a": 84, "train": 7})
    again = load_stored_grid(grid.to_yaml(), "store")
    assert again.accept_images == {"a": 84, "train": 7}
    assert again.suite.dataset("train").n_images == 7
    assert plan_of(grid).nodes.keys() == plan_of(again).nodes.keys()
    (base, tuned), (plain_base, plain_tuned) = list(expand(grid)), list(expand(plain))
    assert base == plain_base, "a baseline is trained on nothing"
    assert tuned != plain_tuned


def test_a_set_that_is_not_in_the_suite_cannot_be_accepted(root: Path) -> None:
    with pytest.raises(UserError) as raised:
        grid_of(root, accept_images={"vall": 3, "a": 0})
    told = [str(problem) for problem in raised.value.problems]
    assert any("should be greater than or equal to 1, not 0" in problem for problem in told)
    with pytest.raises(UserError) as raised:
        grid_of(root, accept_images={"vall": 3})
    assert "unknown data set 'vall' (did you mean 'val'?)" in str(raised.value)


def test_workers_read_the_number_that_was_accepted(root: Path) -> None:
    min((root / "val" / "d3").iterdir()).unlink()
    cell = next(expand(grid_of(root)))
    for accepted, complaint in (({}, "199 images, 200 expected"), ({"val": 199}, "")):
        site = Site(store=str(root / "store"), data_root=str(root), accept_images=accepted)
        bench = Bench(Job(cell, ("val",)), site, Store(site.store))
        if complaint:
            with pytest.raises(DataError, match=complaint):
                bench.dataset("val")
        else:
            assert len(bench.dataset("val")) == 199


# ---------------------------------------------------------------------------- manifests


def checked(root: Path, *names: str, decode: bool = True) -> None:
    """Do what `rib data check` does."""
    with ThreadPoolExecutor(2) as pool:
        decoding = Decoding(pool) if decode else None
        check_data(SUITE, root, specs_of(SUITE, names), decoding=decoding)


def broken(path: Path) -> bytes:
    """Break an image without a change of its size; return what it was."""
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(bytes(len(data)))
    return data


def test_what_was_decoded_before_is_not_decoded_again(root: Path) -> None:
    image = min((root / "val" / "d3").iterdir())
    checked(root, "val", decode=False)
    data = broken(image)
    assert len(problems_of(grid_of(root))) == 1, "only names were looked at"
    image.write_bytes(data)
    checked(root, "val")
    broken(image)
    assert problems_of(grid_of(root)) == []


def test_what_did_not_decode_is_tried_again_and_refused_while_it_does_not(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = min((root / "val" / "d3").iterdir())
    data = broken(image)
    checked(root, "val")
    monkeypatch.setattr(module, "DECODE_LIMIT", 0)
    (told,) = problems_of(grid_of(root))
    assert told.startswith(f"{image}: this image does not decode")
    assert problems_of(grid_of(root, skip_undecodable=["val"])) == []
    image.write_bytes(data)
    assert problems_of(grid_of(root)) == []


def test_names_or_labels_other_than_those_that_were_checked_are_refused(root: Path) -> None:
    checked(root, "val", "a")
    image = min((root / "val" / "d3").iterdir())
    image.rename(root / "val" / "d4" / image.name)
    (told,) = problems_of(grid_of(root))
    assert told.startswith("data set val: its names or labels are others than on ")
    assert told.endswith(f"rib data check digits-rib --root {root} --sets val)")
    assert rib("data", "check", "digits-rib", "--root", root, "--sets", "val") == 0
    assert problems_of(grid_of(root)) == []


def test_a_manifest_elsewhere_and_one_that_cannot_be_read(root: Path, tmp_path: Path) -> None:
    image = min((root / "val" / "d3").iterdir())
    elsewhere = tmp_path / "elsewhere.json"
    with ThreadPoolExecutor(2) as pool:
        check_data(SUITE, root, specs_of(SUITE, ["val"]), elsewhere, Decoding(pool))
    broken(image)
    assert len(problems_of(grid_of(root))) == 1
    grid = grid_of(root, data_manifest=str(elsewhere))
    assert problems_of(grid) == []
    assert load_stored_grid(grid.to_yaml(), "store").data_manifest == elsewhere
    elsewhere.write_text("{")
    told = problems_of(grid)
    assert told[0].startswith(f"{elsewhere}: cannot be read as a manifest")
    elsewhere.unlink()
    assert problems_of(grid)[0].startswith(f"data_manifest {elsewhere}: there is no such file")


# ------------------------------------------------------------------- rows of other copies


def test_rows_of_another_copy_of_a_set_are_refused_before_anything_runs(root: Path) -> None:
    grid = grid_of(root, evaluate=["val", "a"])
    baseline, _ = expand(grid)
    store = Store(str(root / "store"))
    here = {name: read_dataset(SUITE, SUITE.dataset(name), root).digest for name in ("val", "a")}
    plan = make_plan(grid, Committed())
    preflight(grid, plan, store)

    def commit(name: str, digest: str | None, cell_id: str = baseline.cell_id) -> None:
        store.commit_accuracy(cell_id, name, [row(cell_id, name, dataset_digest=digest)])

    for name, digest in here.items():
        commit(name, digest)
    commit("val", "of-another-grid", cell_id="another")
    preflight(grid, plan, store)
    commit("a", None)
    preflight(grid, plan, store)
    commit("a", "older")
    with pytest.raises(UserError) as raised:
        preflight(grid, plan, store)
    (problem,) = raised.value.problems
    assert problem.where == "data set a"
    assert f"digest older there, {here['a']} here" in problem.message
    assert "--mixed-data" in problem.hint
    preflight(grid, plan, None)


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
