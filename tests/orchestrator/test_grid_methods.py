"""The methods of a grid: lists that stand for several cells, and what does not go together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.grid import Grid, load_grid, load_stored_grid
from orchestrator.plan import expand
from workers.errors import UserError

Load = Callable[..., Grid]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load a small grid with some methods."""

    def load(*methods: Any, **keys: Any) -> Grid:
        value = {
            "name": "small",
            "suite": "digits-rib",
            "data_root": str(tmp_path / "none"),
            "models": ["resnet_digits"],
            "downstream": ["v2"],
            "methods": list(methods),
            **keys,
        }
        path = tmp_path / "grid.yaml"
        path.write_text(yaml.safe_dump(value))
        return load_grid(path)

    return load


def told(load: Load, *methods: Any, **keys: Any) -> str:
    """Everything that is said of a grid that is refused."""
    with pytest.raises(UserError) as refused:
        load(*methods, **keys)
    return str(refused.value)


# ---------------------------------------------------------------------------- lists of values


def test_a_list_of_alphas_is_an_entry_each(load: Load) -> None:
    grid = load("ft", {"method": "wise-ft", "alpha": [0, 0.25, 1.0], "start": "ft"})
    found = {entry.label: entry.hyperparameters for entry in grid.methods}
    assert found == {
        "ft": {},
        "wise-ft-0": {"alpha": 0.0, "start": "ft"},
        "wise-ft-0.25": {"alpha": 0.25, "start": "ft"},
        "wise-ft-1.0": {"alpha": 1.0, "start": "ft"},
    }


def test_entries_of_a_list_go_by_the_entry_s_name(load: Load) -> None:
    grid = load({"method": "wise-ft", "name": "line", "alpha": [0.1, 0.9]})
    assert [entry.label for entry in grid.methods] == ["line-0.1", "line-0.9"]


def test_one_value_is_one_entry_under_its_own_name(load: Load) -> None:
    for alpha in (0.3, [0.3]):
        (entry,) = load({"method": "wise-ft", "alpha": alpha}).methods
        assert entry.label == ("wise-ft" if alpha == 0.3 else "wise-ft-0.3")
        assert entry.hyperparameters["alpha"] == 0.3


def test_others_may_start_from_an_entry_of_a_list(load: Load) -> None:
    soup = {"method": "soup", "members": ["wise-ft-0.25", "wise-ft-0.75"]}
    grid = load({"method": "wise-ft", "alpha": [0.25, 0.75]}, soup)
    (made,) = [cell for cell in expand(grid) if cell.label == "soup"]
    assert [parent.hyperparameters["alpha"] for parent in made.parents] == [0.25, 0.75]


def test_a_stored_grid_has_the_same_cells(load: Load) -> None:
    grid = load("ft", {"method": "wise-ft", "alpha": [0.25, 0.75]}, {"method": "lora", "rank": 2})
    again = load_stored_grid(grid.to_yaml(), grid.store)
    assert [cell.cell_id for cell in expand(again)] == [cell.cell_id for cell in expand(grid)]
    assert again.methods == grid.methods


@pytest.mark.parametrize(
    ("alpha", "message"),
    [
        ([], "the list of alpha is empty"),
        ([0.5, 0.5], "'wise-ft-0.5' is there twice"),
        ([0.5, 1.5], "1.5"),
        (["half"], "alpha"),
        ([0, 0.0], "their cells are one"),
    ],
)
def test_lists_that_make_no_sense_are_refused(load: Load, alpha: Any, message: str) -> None:
    assert message in told(load, {"method": "wise-ft", "alpha": alpha})


def test_other_hyper_parameters_take_no_lists(load: Load) -> None:
    assert "strength" in told(load, {"method": "l2sp", "strength": [0.1, 1.0]})


# ---------------------------------------------------------------------------- with the recipe


def test_a_greedy_soup_without_a_holdout_is_refused(load: Load) -> None:
    greedy = {"method": "greedy-soup", "members": ["ft", "lwf"]}
    said = told(load, "ft", greedy)
    assert "'greedy-soup'" in said
    assert "holdout" in said
    grid = load("ft", greedy, recipe={"holdout": 0.1})
    (made,) = [cell for cell in expand(grid) if cell.label == "greedy-soup"]
    assert {parent.recipe["holdout"] for parent in made.parents if parent.recipe} == {0.1}


def test_a_greedy_soup_that_another_method_starts_from_needs_a_holdout_as_well(load: Load) -> None:
    wise = {"method": "wise-ft", "start": "greedy-soup"}
    assert "holdout" in told(load, wise)
    assert load(wise, recipe={"holdout": 0.1}).methods


def test_an_average_along_the_run_cannot_stop_early(load: Load) -> None:
    said = told(load, "ft", "ema", recipe={"holdout": 0.1, "patience": 2})
    assert "'ema'" in said
    assert "early stopping" in said
    assert load("ema", recipe={"holdout": 0.1}).methods


# ---------------------------------------------------------------------------- where to start from


@pytest.mark.parametrize(
    "method",
    [
        {"method": "lp-ft", "start": "visual-prompt"},
        {"method": "wise-ft", "start": "visual-prompt"},
        {"method": "soup", "members": ["ft", "visual-prompt"]},
        {"method": "greedy-soup", "members": ["ft", "visual-prompt"]},
    ],
    ids=lambda method: method["method"],
)
def test_nothing_starts_from_a_prompted_model(load: Load, method: dict[str, Any]) -> None:
    said = told(load, "ft", method, recipe={"holdout": 0.1})
    assert f"'{method['method']}' needs the weights of 'visual-prompt'" in said
    assert "changes the model" in said


def test_nor_by_the_name_that_a_grid_gives_it(load: Load) -> None:
    prompt = {"method": "visual-prompt", "name": "frame", "border": 10}
    said = told(load, prompt, {"method": "wise-ft", "start": "frame"})
    assert "needs the weights of 'frame'" in said
    assert "visual-prompt changes the model" in said


@pytest.mark.parametrize("start", ["lora", "soup", "ema", "lp-ft", "surgical"])
def test_any_other_method_may_be_started_from(load: Load, start: str) -> None:
    grid = load({"method": "wise-ft", "start": start})
    (made,) = [cell for cell in expand(grid) if cell.label == "wise-ft"]
    assert [parent.method for parent in made.parents] == ["pretrained", start]


def test_a_start_that_is_not_there_and_one_from_itself_are_refused(load: Load) -> None:
    assert "unknown method 'ftt'" in told(load, {"method": "lp-ft", "start": "ftt"})
    assert "needs itself" in told(load, {"method": "lp-ft", "start": "lp-ft"})
    first = {"method": "lp-ft", "name": "one", "start": "two"}
    second = {"method": "lp-ft", "name": "two", "start": "one"}
    assert "needs itself: one -> two -> one" in told(load, first, second)
