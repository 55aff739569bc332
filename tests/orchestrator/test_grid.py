"""Grids: what a file stands for, and that writing one out in full changes no cell."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.grid import UNMADE, Grid, load_grid, load_stored_grid, with_digests
from orchestrator.grid_file import ModelEntry
from orchestrator.plan import expand
from workers.cell import Cell
from workers.digests import file_digest
from workers.suites import suites
from workers.suites.digits_rib import TRANSFORM

PROJECT = Path(__file__).resolve().parents[2]
SUITE = suites()["digits-rib"]

Load = Callable[..., Grid]


@pytest.fixture
def load(tmp_path: Path, digits_root: Path) -> Load:
    """Load a small grid, with some of its keys replaced; None leaves one out."""

    def load(store: str | None = None, /, **keys: Any) -> Grid:
        value = {
            "name": "small",
            "suite": "digits-rib",
            "data_root": str(digits_root),
            "models": ["resnet_digits"],
            "downstream": ["v2", "a"],
            "methods": ["ft", "l2sp"],
            **keys,
        }
        path = tmp_path / "grid.yaml"
        path.write_text(yaml.safe_dump({k: v for k, v in value.items() if v is not None}))
        return load_grid(path, store)

    return load


def cells(grid: Grid) -> list[Cell]:
    return list(expand(grid))


def ids(grid: Grid) -> list[str]:
    return [cell.cell_id for cell in cells(grid)]


def mine(digits_root: Path, **keys: Any) -> dict[str, Any]:
    """An entry for the suite's own network, as a user would give it."""
    return {
        "name": "mine",
        "architecture": "test_resnet",
        "weights": str(digits_root / "models" / "resnet_digits.safetensors"),
        "arguments": {"num_classes": 10},
        "transform": TRANSFORM,
        **keys,
    }


def pinned(grid: Grid) -> tuple[ModelEntry, ...]:
    """The model entries of a grid, each with the digest of the weights it was resolved to."""
    models = zip(grid.entries, grid.models, strict=True)
    return tuple(entry.model_copy(update={"digest": model.weights}) for entry, model in models)


# ------------------------------------------------------------------------------ what is written


@pytest.mark.parametrize("path", sorted((PROJECT / "grids").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_grids_that_come_with_the_project_are_read_and_written(path: Path) -> None:
    grid = load_grid(path)
    again = load_stored_grid(grid.to_yaml(), grid.store)
    assert again.data_root == grid.data_root
    assert ids(again) == ids(grid)


def test_a_stored_grid_is_the_grid(load: Load, digits_root: Path) -> None:
    grid = load(
        models=[
            "vit_digits",
            {"name": "resnet_digits", "pretraining": "few digits", "transform": {"crop_pct": 0.9}},
            mine(digits_root, arguments={"num_classes": 10, "drop_rate": 0.1}),
        ],
        methods=[
            "ft",
            {"name": "weak", "method": "l2sp", "strength": 1e-3},
            {"method": "soup", "members": ["pretrained", "weak", "lwf"]},
        ],
        downstream="all",
        evaluate=["val", "a", "c"],
        seeds=[3, 1],
        recipe={"lr": 0.01, "epochs": 2, "optimizer": "adamw", "precision": "fp32"},
        resources={"gpus": 0.5, "cpus": 2, "memory": "2GiB", "labels": {"zone": "a"}},
    )
    again = load_stored_grid(grid.to_yaml(), grid.store)
    assert ids(again) == ids(grid)
    assert len(set(ids(again))) == 3 * (1 + 8 * 3 * 2)
    assert again.entries == pinned(grid)
    assert replace(again, entries=grid.entries) == grid
    assert again.to_yaml() == grid.to_yaml()


def test_a_stored_grid_needs_neither_its_folder_nor_its_environment(
    load: Load, digits_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(digits_root.parent)
    monkeypatch.setenv("RIB_WEIGHTS", "models")
    weights = f"{digits_root.name}/$RIB_WEIGHTS/resnet_digits.safetensors"
    grid = load(data_root=digits_root.name, models=[mine(digits_root, weights=weights)])
    text = grid.to_yaml()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RIB_WEIGHTS")
    again = load_stored_grid(text, "elsewhere")
    assert again.store == "elsewhere"
    assert ids(again) == ids(grid)
    assert again.data_root == digits_root


def test_what_a_grid_leaves_out(load: Load) -> None:
    grid = load(downstream=None)
    assert grid.seeds == (0,)
    assert grid.store == "runs/small"
    assert grid.downstream == SUITE.ood_names
    assert grid.evaluate == ("val", *SUITE.ood_names)
    assert grid.recipe.model_dump() == {
        "optimizer": "sgd",
        "lr": 1e-3,
        "momentum": 0.9,
        "weight_decay": 0.0,
        "decay_norms_and_biases": True,
        "layer_decay": None,
        "clip_grad": None,
        "label_smoothing": 0.0,
        "schedule": "cosine",
        "warmup_steps": 196,
        "warmup_epochs": None,
        "epochs": 10,
        "batch_size": 64,
        "precision": "fp16",
        "augment": None,
        "holdout": 0.0,
        "patience": None,
    }
    assert (grid.acknowledge, grid.throughput) == ((), {})
    assert (grid.resources.gpus, grid.resources.cpus) == (0, 1)


def test_all_stands_for_every_set(load: Load) -> None:
    grid = load(downstream="all", evaluate="all")
    assert grid.downstream == ("v2", "a", "r", "sketch", "objectnet", "cartoon", "drawing", "c")
    assert grid.evaluate == ("val", *grid.downstream)
    assert [cell.method for cell in cells(grid)] == ["pretrained"] + ["ft", "l2sp"] * 8


def test_the_baseline_is_there_once_whether_or_not_it_is_named(load: Load) -> None:
    assert ids(load(methods=["pretrained", "ft", "l2sp"])) == ids(load())


# ------------------------------------------------------------------------------ places


def test_where_the_store_is(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIB_SCRATCH", "/scratch/me")
    monkeypatch.setenv("HOME", "/home/me")
    assert load().store == "runs/small"
    assert load(store="here").store == "here"
    assert load("there", store="here").store == "there"
    assert load("s3://bucket/there").store == "s3://bucket/there"
    assert load(store="$RIB_SCRATCH/store").store == "/scratch/me/store"
    assert load(store="~/store").store == "/home/me/store"


def test_a_data_root_may_be_said_by_the_environment(
    load: Load, digits_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RIB_DATA", str(digits_root.parent))
    monkeypatch.setenv("HOME", str(digits_root.parent))
    for written in (f"$RIB_DATA/{digits_root.name}", f"${{RIB_DATA}}/{digits_root.name}"):
        assert load(data_root=written).data_root == digits_root
    assert load(data_root=f"~/{digits_root.name}").data_root == digits_root


def test_a_data_root_starts_at_the_current_folder(
    load: Load, digits_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(digits_root.parent)
    assert load(data_root=digits_root.name).data_root == digits_root


# ------------------------------------------------------------------------------ values


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-3", 1e-3),
        ("1E-3", 1e-3),
        ("2.5e-4", 2.5e-4),
        ("1.e-3", 1e-3),
        (".5", 0.5),
        ("1e+1", 10.0),
        ("1", 1.0),
    ],
)
def test_numbers_are_numbers(written: str, value: float, digits_root: Path, tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(
        f"{{name: n, suite: digits-rib, data_root: {digits_root}, models: [resnet_digits], "
        f"methods: [ft], recipe: {{lr: {written}}}}}"
    )
    assert load_grid(path).recipe.lr == value


def test_a_whole_number_will_do_for_a_fraction(load: Load) -> None:
    assert ids(load(recipe={"lr": 1})) == ids(load(recipe={"lr": 1.0}))
    as_written = load(methods=[{"method": "l2sp", "strength": 2}])
    assert ids(as_written) == ids(load(methods=[{"method": "l2sp", "strength": 2.0}]))


# ------------------------------------------------------------------------------ identity


def test_names_and_places_change_no_cell(load: Load, digits_root: Path, tmp_path: Path) -> None:
    plain = ids(load())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.symlink_to(digits_root)
    for keys in (
        {"name": "other"},
        {"store": "elsewhere"},
        {"data_root": str(elsewhere)},
        {"models": [{"name": "resnet_digits", "pretraining": "another label"}]},
        {"models": [mine(digits_root)]},
        {"methods": [{"name": "tuned", "method": "ft"}, {"name": "near", "method": "l2sp"}]},
        {"methods": [{"method": "ft"}, {"method": "l2sp", "strength": 1.0}]},
        {"evaluate": ["val"]},
        {"resources": {"gpus": 1, "cpus": 2}},
    ):
        assert ids(load(**keys)) == plain, keys


def test_what_decides_the_numbers_changes_the_cells(load: Load, digits_root: Path) -> None:
    plain = load()
    for keys in (
        {"recipe": {"lr": 0.01}},
        {"recipe": {"precision": "fp32"}},
        {"seeds": [1]},
        {"methods": ["lwf", {"method": "l2sp", "strength": 2.0}]},
    ):
        baseline, *tuned = ids(load(**keys))
        assert baseline == ids(plain)[0], keys
        assert not set(tuned) & set(ids(plain)), keys
    for keys in (
        {"models": ["vit_digits"]},
        {"models": [{"name": "resnet_digits", "transform": {"crop_pct": 0.9}}]},
        {"models": [{"name": "resnet_digits", "arguments": {"drop_rate": 0.1}}]},
    ):
        assert not set(ids(load(**keys))) & set(ids(plain)), keys


def test_the_label_of_a_method_is_what_tables_show(load: Load) -> None:
    grid = load(methods=[{"name": "weak", "method": "l2sp", "strength": 0.1}, "l2sp"])
    tuned = [cell for cell in cells(grid) if not cell.is_baseline]
    assert {(cell.label, cell.method) for cell in tuned} == {("weak", "l2sp"), ("l2sp", "l2sp")}
    assert {cell.hyperparameters["strength"] for cell in tuned} == {0.1, 1.0}


# ------------------------------------------------------------------------------ weights files


def test_a_weights_file_with_its_architecture(load: Load, digits_root: Path) -> None:
    weights = digits_root / "models" / "resnet_digits.safetensors"
    (model,) = load(models=[mine(digits_root, pretraining="digits")]).models
    assert model.name == "mine"
    assert model.architecture == "test_resnet"
    assert model.arguments == {"num_classes": 10}
    assert model.weights == file_digest(weights)
    assert model.file == str(weights)
    assert model.pretraining == "digits"


def test_the_overrides_of_a_suite_s_model_are_added_to_its_own(load: Load) -> None:
    (model,) = load(
        models=[
            {"name": "vit_digits", "transform": {"crop_pct": 0.8}, "arguments": {"drop_rate": 0.1}}
        ]
    ).models
    assert model.transform == {**TRANSFORM, "crop_pct": 0.8}
    assert model.arguments["depth"] == 4
    assert model.arguments["drop_rate"] == 0.1


def test_a_model_of_timm_is_known_by_its_tag(load: Load) -> None:
    (model,) = load(models=["test_vit.r160_in1k"]).models
    assert model.architecture == "test_vit.r160_in1k"
    assert model.weights == "timm:test_vit.r160_in1k"
    assert model.file is None


def test_a_grid_can_be_read_before_its_suite_is_made(
    load: Load, digits_root: Path, tmp_path: Path
) -> None:
    grid = load(data_root=str(tmp_path / "unmade"), models=["resnet_digits", "vit_digits"])
    assert [model.weights for model in grid.models] == [UNMADE, UNMADE]
    assert not grid.is_made
    made = with_digests(replace(grid, data_root=digits_root))
    assert made.is_made
    assert ids(made) == ids(load(models=["resnet_digits", "vit_digits"]))
