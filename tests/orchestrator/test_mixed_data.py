"""A store with rows of two copies of a data set: no report mixes them unless it is told to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from orchestrator.grid import Grid, load_grid, with_digests
from orchestrator.plan import expand
from tests.orchestrator.rib import rib
from workers.cell import Cell
from workers.rows import describe
from workers.store import Store

SETS = ("val", "v2", "a", "r", "sketch", "objectnet", "cartoon", "drawing")


@pytest.fixture
def grid(digits_root: Path, tmp_path: Path) -> Grid:
    value = {
        "name": "small",
        "suite": "digits-rib",
        "data_root": str(digits_root),
        "store": str(tmp_path / "store"),
        "models": ["resnet_digits"],
        "downstream": ["v2"],
        "methods": ["ft"],
        "evaluate": list(SETS),
    }
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(value))
    return with_digests(load_grid(path))


def fill(grid: Grid, odd: str | None) -> tuple[Cell, Cell]:
    """Commit the rows of a whole run; the baseline's on `odd` are of another copy."""
    store = Store(grid.store)
    store.create(grid.suite.name, grid.suite.version)
    store.write_grid(grid.to_yaml())
    baseline, tuned = expand(grid)
    for cell in (baseline, tuned):
        for name in SETS:
            copy = "older" if cell.is_baseline and name == odd else "newer"
            counts = {"n_correct": 3, "n_correct_unmasked": 2, "n_total": 4, "n_expected": 4}
            row = {**describe(cell), "eval_dataset": name, "dataset_digest": copy, **counts}
            store.commit_accuracy(cell.cell_id, name, [row])
    return baseline, tuned


@pytest.mark.parametrize("command", ["report", "matrix"])
def test_a_mixed_store_is_refused_unless_told_to(
    command: str, grid: Grid, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline, _ = fill(grid, odd="sketch")
    assert rib(command, grid.store) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "rib: sketch: its rows are of different copies of this set: 1 rows of newer, "
        f"1 rows of older (cells {baseline.cell_id}) "
        "(they must not be compared; --mixed-data does so all the same)\n"
    )
    assert rib(command, grid.store, "--mixed-data", "--json") == 1, "seven downstream sets are open"
    out, err = capsys.readouterr()
    assert json.loads(out)
    assert err.startswith("rib: mixed: sketch: its rows are of different copies of this set")


def test_a_store_of_one_copy_says_nothing(grid: Grid, capsys: pytest.CaptureFixture[str]) -> None:
    fill(grid, odd=None)
    assert rib("report", grid.store) == 1
    assert capsys.readouterr().err == ""


def test_a_run_refuses_too_and_says_with_what_it_would_go_on(
    grid: Grid, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rows in the store are of neither copy that is on the disk: nothing is computed."""
    fill(grid, odd=None)
    wider = yaml.safe_load((tmp_path / "grid.yaml").read_text()) | {"seeds": [0, 1]}
    (tmp_path / "wider.yaml").write_text(yaml.safe_dump(wider))
    assert rib("run", tmp_path / "wider.yaml", "--executor", "inline") == 2
    lines = capsys.readouterr().err.splitlines()
    told = [line for line in lines if "rows in the store are of another copy of it" in line]
    assert len(told) == len(SETS)
    assert all(line.endswith("name another store, or run with --mixed-data)") for line in told)
    assert {row["seed"] for row in Store(grid.store).scan("accuracy").table.to_pylist()} == {0}
