"""What a plan says that it will take: hours by hand, disk by the file, counts as published."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from orchestrator.estimate import (
    Speed,
    checkpoint_size,
    known_speeds,
    make_estimates,
    measured_speeds,
)
from orchestrator.grid import Grid, load_grid
from orchestrator.grid_file import Resources, Throughput
from orchestrator.plan import Node, Plan, make_plan
from orchestrator.sweep import priority_of
from tests.imagenet_archives import PUBLISHED_COUNTS
from tests.orchestrator.rib import rib
from tests.orchestrator.test_cli import HEAVY, imported_by
from tests.orchestrator.test_plan import entry, make_grid
from workers.cell import Model
from workers.methods import methods
from workers.recipe import Recipe
from workers.store import Committed
from workers.suites import suites

GRIDS = Path(__file__).resolve().parents[2] / "grids"
LWF = 1.5
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def _dear_lwf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let training with LwF take half as long again as fine-tuning."""
    monkeypatch.setattr(methods()["lwf"], "relative_cost", LWF)


def nodes_of(plan: Plan, model: str, *labels: str) -> list[Node]:
    cells = ((node, node.cell) for node in plan.nodes.values())
    return [node for node, cell in cells if cell.model.name == model and cell.label in labels]


# ------------------------------------------------------------------------------ hours


def two_models(monkeypatch: pytest.MonkeyPatch, **sizes: int) -> tuple[Grid, Plan]:
    """A grid of two models whose checkpoints have these sizes, and its plan."""
    monkeypatch.setattr("orchestrator.estimate.checkpoint_size", lambda m, _: sizes.get(m.name))
    grid = make_grid(entry("ft"))
    return grid, make_plan(grid, Committed())


def test_the_cells_of_a_slow_model_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    grid, plan = two_models(monkeypatch)
    speeds = {"m1": Speed(train=10.0, evaluate=30.0), "m2": Speed(train=1.0, evaluate=3.0)}
    estimates = make_estimates(grid, speeds)
    slowness = estimates.slowness(plan.nodes.values())
    assert slowness["m2"] == pytest.approx(10 * slowness["m1"])
    # In their own seconds, all of a model's cells together.
    for name, speed in speeds.items():
        mine = [node for node in plan.nodes.values() if node.cell.model.name == name]
        total = sum(speed.seconds(node) or 0.0 for node in mine)
        assert slowness[name] * sum(node.cost for node in mine) == pytest.approx(total)


def test_a_run_starts_with_the_slow_model(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, plan = two_models(monkeypatch)
    for slow, quick in (("m1", "m2"), ("m2", "m1")):
        speeds = {slow: Throughput(train=1, evaluate=3), quick: Throughput(train=10, evaluate=30)}
        priority = priority_of(replace(plain, throughput=speeds), plan)
        (first, *_, last) = sorted(priority, key=lambda cell_id: -priority[cell_id])
        assert plan.nodes[first].cell.model.name == slow
        assert plan.nodes[last].cell.model.name == quick


def test_without_speeds_models_are_as_slow_as_they_are_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grid, plan = two_models(monkeypatch, m1=100, m2=400)
    guessed = make_estimates(grid, {}).slowness(plan.nodes.values())
    assert guessed["m2"] == pytest.approx(4 * guessed["m1"])
    one = make_estimates(grid, {"m1": Speed(train=10.0, evaluate=30.0)})
    scaled = one.slowness(plan.nodes.values())
    assert scaled["m2"] == pytest.approx(4 * scaled["m1"])


def test_models_of_which_nothing_is_known_are_as_slow_as_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grid, plan = two_models(monkeypatch)
    assert make_estimates(grid, {}).slowness(plan.nodes.values()) == {"m1": 1.0, "m2": 1.0}
    one = make_estimates(grid, {"m1": Speed(train=10.0, evaluate=30.0)})
    slowness = one.slowness(plan.nodes.values())
    assert slowness["m2"] == slowness["m1"] != 1.0


@pytest.mark.usefixtures("_dear_lwf")
def test_hours_are_images_over_images_per_second() -> None:
    # Of a model: 60 images to evaluate per cell; sets of 20 and 30 images to train on twice.
    grid = replace(make_grid(entry("ft"), entry("lwf")), resources=Resources(gpus=0.5))
    plan = make_plan(grid, Committed())
    estimates = make_estimates(grid, {"m1": Speed(train=10.0, evaluate=30.0)})
    seconds = {"pretrained": 60 / 30, "ft": 100 / 10 + 120 / 30, "lwf": LWF * 100 / 10 + 120 / 30}
    for label, expected in seconds.items():
        hours = estimates.hours(nodes_of(plan, "m1", label))
        assert hours == pytest.approx(0.5 * expected / 3600), label
    assert estimates.device == "GPU"
    assert estimates.hours(nodes_of(plan, "m1", *seconds)) == pytest.approx(
        0.5 * sum(seconds.values()) / 3600
    )


def test_without_a_gpu_hours_are_those_of_cpus() -> None:
    grid = replace(make_grid(entry("ft")), resources=Resources(cpus=3))
    estimates = make_estimates(grid, {"m1": Speed(evaluate=30.0)})
    plan = make_plan(grid, Committed())
    assert estimates.device == "CPU"
    assert estimates.hours(nodes_of(plan, "m1", "pretrained")) == pytest.approx(3 * 2 / 3600)


def test_what_is_not_known_is_named_and_makes_no_sum() -> None:
    grid = make_grid(entry("ft"))
    plan = make_plan(grid, Committed())
    estimates = make_estimates(grid, {"m1": Speed(10.0, 30.0), "m2": Speed(evaluate=30.0)})
    assert estimates.hours(plan.nodes.values()) is None
    assert estimates.without_speed(plan.nodes.values()) == ["m2"]
    # m2 can be scored but not trained.
    assert estimates.hours(nodes_of(plan, "m2", "pretrained")) is not None
    assert estimates.hours(nodes_of(plan, "m2", "ft")) is None
    assert make_estimates(grid, {}).hours([]) == 0


@pytest.mark.usefixtures("_dear_lwf")
def test_speeds_are_measured_over_all_images_together() -> None:
    grid = make_grid(entry("ft"), entry("lwf"))
    plan = make_plan(grid, Committed())
    (ft, _), (lwf, _) = nodes_of(plan, "m1", "ft"), nodes_of(plan, "m1", "lwf")
    columns = ["cell_id", "n_total", "seconds"]
    epochs = [
        (ft.cell.cell_id, 100, 10.0),
        (ft.cell.cell_id, 100, 30.0),
        (lwf.cell.cell_id, 100, 20.0),
        ("another-grid-s-cell", 100, 0.001),
    ]
    start = pd.Timestamp("2026-01-01", tz="UTC")
    rows = [
        (ft.cell.cell_id, 300, start, start + pd.Timedelta(seconds=2)),
        (ft.cell.cell_id, 100, start, start + pd.Timedelta(seconds=6)),
        (lwf.cell.cell_id, 100, start, start),  # took no time that a clock shows
    ]
    history = pd.DataFrame(epochs, columns=columns)
    accuracy = pd.DataFrame(rows, columns=["cell_id", "n_total", "started_at", "finished_at"])
    (found,) = measured_speeds(plan, history, accuracy).items()
    assert found[0] == "m1"
    assert found[1].train == pytest.approx((100 + 100 + LWF * 100) / 60)
    assert found[1].evaluate == pytest.approx(400 / 8)
    # What took a minute is then estimated to take one.
    node = replace(lwf, training_images=100, evaluation_images=0)
    plain = replace(ft, training_images=200, evaluation_images=0)
    seconds = [found[1].seconds(node), found[1].seconds(plain)]
    assert sum(s for s in seconds if s is not None) == pytest.approx(60)
    assert measured_speeds(plan, history.iloc[:0], accuracy.iloc[:0]) == {}


def test_what_was_measured_outweighs_what_was_given() -> None:
    given = {"a": Throughput(train=1, evaluate=2), "b": Throughput(evaluate=3)}
    measured = {"a": Speed(train=10.0), "c": Speed(4.0, 5.0)}
    assert known_speeds(given, measured) == {
        "a": Speed(10.0, 2.0),
        "b": Speed(None, 3.0),
        "c": Speed(4.0, 5.0),
    }


def test_held_out_images_are_not_trained_on() -> None:
    grid = replace(make_grid(entry("ft")), recipe=Recipe(epochs=2, holdout=0.2))
    nodes = nodes_of(make_plan(grid, Committed()), "m1", "ft")
    assert [node.training_images for node in nodes] == [2 * (20 - 4), 2 * (30 - 6)]


# ------------------------------------------------------------------------------ disk


def grid_of(models: list[Any], root: Path, folder: Path, **keys: Any) -> Path:
    value = {
        "name": "g",
        "suite": "digits-rib",
        "data_root": str(root),
        "store": str(folder / "store"),
        "models": models,
        "downstream": ["v2", "a"],
        "methods": ["ft"],
        "recipe": {"warmup_steps": 1, "epochs": 2, "precision": "fp32"},
        **keys,
    }
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


def sizes(grid: Grid) -> dict[str, int | None]:
    return {model.name: checkpoint_size(model, grid) for model in grid.models}


def test_a_checkpoint_is_as_large_as_the_weights_file(digits_root: Path, tmp_path: Path) -> None:
    grid = load_grid(grid_of(["resnet_digits"], digits_root, tmp_path))
    file = digits_root / "models" / "resnet_digits.safetensors"
    assert sizes(grid) == {"resnet_digits": file.stat().st_size}
    plan = make_plan(grid, Committed())
    estimates = make_estimates(grid, {})
    assert estimates.checkpoint_bytes(plan.nodes.values()) == 2 * file.stat().st_size


def test_without_its_file_a_checkpoint_is_of_its_parameters(tmp_path: Path) -> None:
    import timm

    grid = load_grid(grid_of(["test_vit.r160_in1k"], tmp_path, tmp_path))
    n = sum(p.numel() for p in timm.create_model("test_vit").parameters())
    assert sizes(grid) == {"test_vit.r160_in1k": 4 * n}
    unfit = Model("x", "test_vit", "timm:x", arguments={"depth": "deep"})
    assert checkpoint_size(unfit, grid) is None


def test_a_file_that_is_yet_to_be_made_has_no_size(tmp_path: Path, capsys: Capture) -> None:
    path = grid_of(["vit_digits"], tmp_path / "unmade", tmp_path)
    assert sizes(load_grid(path)) == {"vit_digits": None}
    assert rib("plan", path) == 0
    assert "those of vit_digits not counted" in capsys.readouterr().out


@pytest.mark.slow
def test_the_benchmark_s_models_have_the_parameters_that_timm_gives_them() -> None:
    import timm
    import torch

    suite = suites()["imagenet-rib"]
    assert set(suite.parameters) == {model.name for model in suite.models}
    for name, n_parameters in suite.parameters.items():
        with torch.device("meta"):
            module = timm.create_model(name)
        assert sum(p.numel() for p in module.parameters()) == n_parameters, name
        state = module.state_dict().values()
        size = sum(tensor.numel() * tensor.element_size() for tensor in state)
        assert 4 * n_parameters == pytest.approx(size, rel=0.01), name


# ------------------------------------------------------------------------------ rib plan


def test_the_paper_s_grid_is_planned_without_data_weights_or_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RIB_DATA", str(tmp_path / "nothing"))
    store = tmp_path / "store"
    code, out, modules = imported_by("plan", GRIDS / "paper.yaml", "--json", "--store", store)
    assert code == 0
    assert not modules & HEAVY
    plan = json.loads(out)
    trained = {"ft", "lp", "lp-ft", "visual-prompt", "l2sp", "ewc", "lwf"}
    of_vits = {"lora", "lp-paper", "lora-paper"}
    others = {"pretrained", "wise-ft", "soup"}
    assert {c["method"] for c in plan["todo"]} == trained | of_vits | others
    assert {c["model"] for c in plan["todo"] if c["method"] in of_vits} == {
        c["model"] for c in plan["todo"] if c["model"].startswith("vit_")
    }
    n_vits = 16
    n_trained, n_all = 8 * (19 * 7 + n_vits * 3), 8 * (19 * 9 + n_vits * 3)
    every = sum(PUBLISHED_COUNTS.values())
    tuned_on = every - PUBLISHED_COUNTS["imagenet-1k"]
    assert plan["cells"] == 19 + n_all
    made_from = {"soup": ("ft", "l2sp", "lwf"), "lp-ft": ("lp",), "wise-ft": ("ft",)}
    assert plan["edges"] == 19 * 8 * sum(map(len, made_from.values()))
    assert plan["prerequisites"] == 0
    assert plan["training_images"] == n_trained // 8 * 10 * tuned_on
    assert plan["evaluation_images"] == plan["cells"] * every
    parameters = suites()["imagenet-rib"].parameters
    of_each = {name: 12 if name.startswith("vit_") else 9 for name in parameters}
    assert plan["checkpoint_bytes"] == 8 * 4 * sum(of_each[k] * n for k, n in parameters.items())
    assert plan["device_hours"] is None
    assert len(plan["device_hours_unknown_of"]) == 19
    assert [(c["name"], c["cells"], c["acknowledged"]) for c in plan["clauses"]] == [
        ("objectnet-no-tuning-clause", n_trained // 8, False)
    ]
    assert not list(tmp_path.iterdir())


def test_the_poster_s_grid_trains_what_its_soup_needs(tmp_path: Path, capsys: Capture) -> None:
    assert rib("plan", GRIDS / "poster.yaml", "--store", tmp_path / "store") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "33 cells (16 prerequisites), 24 edges" in out
    assert (
        "GPU-hours: no images per second known of vit_base_patch16_224.augreg_in1k: give "
        "`throughput` in the grid"
    ) in out
    assert rib("plan", GRIDS / "poster.yaml", "--json") == 0
    cells = json.loads(capsys.readouterr().out)["todo"]
    asked_for = {cell["method"] for cell in cells if not cell["prerequisite"]}
    assert asked_for == {"pretrained", "ft", "soup"}
    contaminated = {cell["downstream"] for cell in cells if cell["contaminated"]}
    assert contaminated == {"imagenet-c", "imagenet-cartoon", "imagenet-drawing"}


def test_where_the_data_are_is_said_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RIB_DATA", str(tmp_path))
    assert load_grid(GRIDS / "paper.yaml").data_root == tmp_path
    monkeypatch.chdir(tmp_path)
    for unset in (
        lambda: monkeypatch.setenv("RIB_DATA", ""),
        lambda: monkeypatch.delenv("RIB_DATA"),
    ):
        unset()
        assert load_grid(GRIDS / "paper.yaml").data_root == tmp_path / "data" / "imagenet-rib"


def test_images_per_second_that_the_grid_gives(tmp_path: Path, capsys: Capture) -> None:
    given = {"resnet_digits": {"train": 150 * 2, "evaluate": 5660}}
    path = grid_of(["resnet_digits"], tmp_path / "none", tmp_path, throughput=given)
    assert rib("plan", path, "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    # v2 has 150 images, a has 84; all sets together have 5660, for each of three cells.
    assert plan["device_hours"] == pytest.approx((1 + 2 * 84 / 300 + 3) / 3600)
    assert rib("plan", path) == 0
    assert "about 0.0013 CPU-hours" in capsys.readouterr().out
    assert load_grid(path).throughput == {"resnet_digits": Throughput(train=300, evaluate=5660)}


def test_images_per_second_that_make_no_sense(tmp_path: Path, capsys: Capture) -> None:
    given = {"resnet_digit": {"train": 1}, "resnet_digits": {"train": 0, "evalute": 1}}
    path = grid_of(["resnet_digits"], tmp_path / "none", tmp_path, throughput=given)
    assert rib("plan", path) == 2
    told = capsys.readouterr().err
    assert "throughput.resnet_digits.train: should be greater than 0, not 0" in told
    assert "throughput.resnet_digits.evalute: unknown key (did you mean 'evaluate'?)" in told
    path = grid_of(["resnet_digits"], tmp_path, tmp_path, throughput={"resnet_digit": {}})
    assert rib("plan", path) == 2
    told = capsys.readouterr().err
    assert "the grid has no model 'resnet_digit' (did you mean 'resnet_digits'?)" in told


def test_images_per_second_that_the_store_has_seen(
    digits_root: Path, tmp_path: Path, capsys: Capture
) -> None:
    given = {"resnet_digits": {"train": 1e-3, "evaluate": 1e-3}}
    keys = {"downstream": ["v2"], "evaluate": ["val", "v2"], "throughput": given}
    path = grid_of(["resnet_digits"], digits_root, tmp_path, **keys)
    assert rib("run", path, "--executor", "inline") == 0
    grid_of(["resnet_digits"], digits_root, tmp_path, **{**keys, "downstream": ["v2", "a"]})
    capsys.readouterr()
    assert rib("plan", path, "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    history = pd.read_parquet(tmp_path / "store" / "history")
    rows = pd.read_parquet(tmp_path / "store" / "accuracy")
    took = (rows["finished_at"] - rows["started_at"]).dt.total_seconds().sum()
    speed = plan["images_per_second"]["resnet_digits"]
    assert speed["train"] == pytest.approx(300 / history["seconds"].sum())
    assert speed["evaluate"] == pytest.approx(2 * 350 / took)
    assert plan["to_run"] == 1
    seconds = 2 * 84 / speed["train"] + 350 / speed["evaluate"]
    assert plan["device_hours"] == pytest.approx(seconds / 3600)
