"""A bad image stops a run, unless the grid says that its set may be read without such images."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from orchestrator.grid import Grid, load_grid
from orchestrator.plan import expand, make_plan
from orchestrator.sweep import run
from tests.orchestrator.rib import rib
from workers.errors import UserError
from workers.store import Committed, Store

RECIPE = {"epochs": 1, "batch_size": 32, "warmup_steps": 1, "precision": "fp32"}
MakeGrid = Callable[..., Grid]


@pytest.fixture
def make_grid(digits_root: Path, tmp_path: Path) -> MakeGrid:
    """Make a grid on a copy of the suite, in which an image of `val` and two of `a` are bad."""
    root = tmp_path / "data"
    for folder in ("val", "digits-a", "models"):
        shutil.copytree(digits_root / folder, root / folder, copy_function=os.link)
    for folder, n_bad in (("val/d3", 1), ("digits-a/d7", 2)):
        for image in sorted((root / folder).iterdir())[:n_bad]:
            image.unlink()
            image.write_bytes(b"no image")

    def make(**keys: Any) -> Grid:
        value = {
            "name": "skipping",
            "suite": "digits-rib",
            "data_root": str(root),
            "store": str(tmp_path / "store"),
            "models": ["resnet_digits"],
            "downstream": ["a"],
            "methods": ["ft", {"method": "soup", "members": ["pretrained", "ft"]}],
            "recipe": RECIPE,
            "evaluate": ["val", "a"],
            **keys,
        }
        (tmp_path / "grid.yaml").write_text(yaml.safe_dump(value))
        return load_grid(tmp_path / "grid.yaml")

    return make


def test_by_default_every_bad_image_is_named_and_nothing_runs(make_grid: MakeGrid) -> None:
    grid = make_grid()
    with pytest.raises(UserError) as caught:
        run(grid, executor="inline")
    assert len(caught.value.problems) == 3
    assert not Path(grid.store).exists()


def test_leaving_out_one_set_s_images_does_not_excuse_another_s(make_grid: MakeGrid) -> None:
    with pytest.raises(UserError) as caught:
        run(make_grid(skip_undecodable=["a"]), executor="inline")
    (problem,) = caught.value.problems
    assert "/val/d3/" in problem.where


def test_rows_say_how_many_images_were_scored_and_trained_on(
    make_grid: MakeGrid, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = make_grid(skip_undecodable="all")
    assert run(grid, executor="inline").ok
    store = Store(grid.store)
    rows = store.scan("accuracy").table.to_pandas()
    counts = rows.groupby("eval_dataset")[["n_total", "n_expected"]].agg(["min", "max"])
    assert counts.loc["val"].tolist() == [199, 199, 200, 200]
    assert counts.loc["a"].tolist() == [82, 82, 84, 84]
    assert len(rows) == 3 * 2
    history = store.scan("history").table.to_pandas()
    assert history["n_total"].tolist() == [82]
    ft = rows[rows["method"] == "ft"]
    assert ft["recipe"].str.contains('"skip_undecodable":true').all()
    assert rib("report", grid.store) == 1  # RI needs more than one downstream set
    assert "6 rows were scored on fewer images than their set has" in capsys.readouterr().err
    assert make_plan(load_grid(grid_path(grid)), store.committed()).todo == frozenset()


def grid_path(grid: Grid) -> Path:
    return Path(grid.store).parent / "grid.yaml"


def test_accuracy_is_over_the_images_that_were_scored(make_grid: MakeGrid) -> None:
    from orchestrator.results import read_results

    grid = make_grid(skip_undecodable="all", methods=["ft"])
    assert run(grid, executor="inline").ok
    rows = Store(grid.store).scan("accuracy").table.to_pandas()
    found = read_results(grid.store).accuracies.set_index(["method", "eval_dataset"])["accuracy"]
    expected = 100 * rows["n_correct"] / rows["n_total"]
    by_key = pd.Series(expected.to_numpy(), index=[rows["method"], rows["eval_dataset"]])
    assert found.sort_index().to_dict() == pytest.approx(by_key.sort_index().to_dict())


# ---------------------------------------------------------------------------- identity


def ids(grid: Grid) -> dict[str, str]:
    return {f"{cell.label} {cell.downstream}": cell.cell_id for cell in expand(grid)}


def test_only_cells_that_train_on_such_a_set_are_others(make_grid: MakeGrid) -> None:
    plain = ids(make_grid(downstream=["a", "r"]))
    skipping = ids(make_grid(downstream=["a", "r"], skip_undecodable=["a", "val"]))
    changed = {name for name in plain if plain[name] != skipping[name]}
    assert changed == {"ft a", "soup a"}  # the soup by its parents


def test_a_stored_grid_goes_on_leaving_out(make_grid: MakeGrid) -> None:
    grid = make_grid(skip_undecodable=["a"])
    written = yaml.safe_load(grid.to_yaml())
    assert written["skip_undecodable"] == ["a"]
    assert yaml.safe_load(make_grid().to_yaml())["skip_undecodable"] == []
    assert make_plan(grid, Committed()).nodes.keys() == set(ids(grid).values())


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (True, "should be a list of names, or 'all', not true"),
        ("val", "should be a list of names, or 'all', not 'val'"),
        (["vall"], "unknown data set 'vall' (did you mean 'val'?)"),
        (["a", "a"], "'a' is there twice"),
    ],
)
def test_what_is_no_list_of_sets_is_refused(make_grid: MakeGrid, value: Any, told: str) -> None:
    with pytest.raises(UserError) as caught:
        make_grid(skip_undecodable=value)
    assert told in "\n".join(map(str, caught.value.problems))
