"""What can be searched: every mistake is named, and trial i is the same on every run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator.grid import Grid, load_grid
from orchestrator.search import Search, searches_of
from orchestrator.tune_keys import Domain
from workers.errors import UserError

LR = {"recipe": {"lr": {"log_uniform": [1e-4, 1e-1]}}}
QUANTILES = st.floats(0, 1, exclude_max=True)


def grid_of(tmp_path: Path, tune: Any, **keys: Any) -> Grid:
    value = {
        "name": "small",
        "suite": "digits-rib",
        "data_root": str(tmp_path / "none"),
        "models": ["resnet_digits"],
        "downstream": ["v2"],
        "methods": ["ft", "l2sp", "lora", "visual-prompt", "lp-ft", {"method": "soup"}],
        "tune": tune,
        **keys,
    }
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(value, sort_keys=False))
    return load_grid(path)


def searches(tmp_path: Path, space: Any = LR, **keys: Any) -> dict[str, Search]:
    tune = {"space": space, **keys.pop("tune", {})}
    return {one.start.label: one for one in searches_of(grid_of(tmp_path, tune, **keys))}


def problems(tmp_path: Path, tune: Any, **keys: Any) -> list[str]:
    """What is said of a grid, without the file's name and line."""
    with pytest.raises(UserError) as caught:
        grid_of(tmp_path, tune, **keys)
    return [str(problem).split(": ", 1)[1] for problem in caught.value.problems]


# ------------------------------------------------------------------------------ mistakes


MISTAKES: list[tuple[str, Any, list[str]]] = [
    ("no space", {}, ["tune: the space is empty"]),
    ("a space of nothing", {"space": {"ft": {}}}, ["tune: the space is empty"]),
    (
        "an unknown method",
        {"space": {"l2ps": {"strength": {"choice": [1]}}}},
        ["tune.space.l2ps: the grid has no method 'l2ps' (did you mean 'l2sp'?)"],
    ),
    (
        "a method that the grid does not have",
        {"space": {"ewc": {"strength": {"choice": [1]}}}},
        ["tune.space.ewc: the grid has no method 'ewc'"],
    ),
    (
        "a method that trains nothing",
        {"space": {"soup": {"recalibrate": {"choice": [True]}}}},
        ["tune.space.soup: 'soup' trains nothing"],
    ),
    (
        "an unknown hyper-parameter",
        {"space": {"l2sp": {"strenght": {"choice": [1]}}}},
        ["tune.space.l2sp.strenght: unknown key (did you mean 'strength'?)"],
    ),
    (
        "an unknown key of the recipe",
        {"space": {"recipe": {"learning_rate": {"choice": [1]}}}},
        ["tune.space.recipe.learning_rate: unknown key"],
    ),
    (
        "values out of range, at both ends",
        {"space": {"recipe": {"momentum": {"uniform": [-0.1, 1]}}}},
        [
            "tune.space.recipe.momentum: should be greater than or equal to 0",
            "tune.space.recipe.momentum: should be less than 1",
        ],
    ),
    (
        "a choice with one value that cannot be",
        {"space": {"recipe": {"optimizer": {"choice": ["sgd", "adam"]}}}},
        ["tune.space.recipe.optimizer: should be 'sgd' or 'adamw', not 'adam'"],
    ),
    (
        "fractions of what is whole",
        {"space": {"lora": {"rank": {"uniform": [4.5, 16]}}}},
        [
            "tune.space.lora.rank: should be a valid integer, not 4.5",
            "tune.space.lora.rank: should be a valid integer, not 16.0",
        ],
    ),
    (
        "what cannot be searched",
        {
            "space": {
                "recipe": {
                    "holdout": {"uniform": [0.1, 0.5]},
                    "patience": {"choice": [1, 2]},
                    "epochs": {"int_uniform": [1, 9]},
                }
            }
        },
        [
            "tune.space.recipe.holdout: cannot be searched",
            "tune.space.recipe.patience: cannot be searched",
            "tune.space.recipe.epochs: cannot be searched",
        ],
    ),
    (
        "what a method starts from",
        {"space": {"lp-ft": {"start": {"choice": ["ft"]}}}},
        ["tune.space.lp-ft.start: cannot be searched: it decides what the method starts from"],
    ),
    (
        "two kinds of values",
        {"space": {"l2sp": {"strength": {"uniform": [0, 1], "choice": [1]}}}},
        ["tune.space.l2sp.strength: should have one key"],
    ),
    (
        "an unknown kind of values",
        {"space": {"l2sp": {"strength": {"loguniform": [1, 2]}}}},
        ["tune.space.l2sp.strength.loguniform: unknown key (did you mean 'log_uniform'?)"],
    ),
    (
        "bounds the wrong way round",
        {"space": {"l2sp": {"strength": {"uniform": [2, 1]}}}},
        ["tune.space.l2sp.strength: should be two numbers, the lower one first"],
    ),
    (
        "one bound",
        {"space": {"l2sp": {"strength": {"int_uniform": [2]}}}},
        ["tune.space.l2sp.strength: should be two numbers, the lower one first"],
    ),
    (
        "the logarithm of zero",
        {"space": {"l2sp": {"strength": {"log_uniform": [0, 1]}}}},
        ["tune.space.l2sp.strength: should be above 0"],
    ),
    (
        "a value twice",
        {"space": {"lora": {"rank": {"choice": [4, 8, 4]}}}},
        ["tune.space.lora.rank: should not have a value twice"],
    ),
    (
        "no values",
        {"space": {"lora": {"rank": {"choice": []}}}},
        ["tune.space.lora.rank.choice: should not be empty"],
    ),
    (
        "a test set as the objective",
        {"space": LR, "objective": "v2"},
        ["tune.objective: can only be 'held-out': choosing by a set that models are tested on"],
    ),
    (
        "a test set as the metric",
        {"space": LR, "metric": "val"},
        ["tune.objective: can only be 'held-out': choosing by a set that models are tested on"],
    ),
    (
        "numbers that make no search",
        {"space": LR, "trials": 0, "holdout": 0, "grace_epochs": 0, "reduction_factor": 1},
        ["tune.trials: ", "tune.holdout: ", "tune.grace_epochs: ", "tune.reduction_factor: "],
    ),
    (
        "an unknown key",
        {"space": LR, "trails": 3},
        ["tune.trails: unknown key (did you mean 'trials'?)"],
    ),
    (
        "several at once",
        {"space": {"lwf": {"alpha": {"choice": [1]}}, "l2sp": {"strength": {"choice": [-1]}}}},
        ["tune.space.lwf: the grid has no method", "tune.space.l2sp.strength: should be greater"],
    ),
]


@pytest.mark.parametrize(
    ("tune", "expected"), [case[1:] for case in MISTAKES], ids=[case[0] for case in MISTAKES]
)
def test_every_mistake_is_named_with_its_place(
    tune: Any, expected: list[str], tmp_path: Path
) -> None:
    said = problems(tmp_path, tune)
    assert len(said) == len(expected), said
    for line, start in zip(said, expected, strict=True):
        assert line.startswith(start)


def test_a_grid_that_trains_nothing_has_nothing_to_search(tmp_path: Path) -> None:
    said = problems(tmp_path, {"space": LR}, methods=["pretrained"])
    assert said == ["tune: no method of the grid trains: there is nothing to search"]


# ------------------------------------------------------------------------------ domains


@given(st.floats(1e-9, 1e3), st.floats(1.001, 1e6), QUANTILES)
def test_a_log_uniform_value_has_as_much_below_it_in_orders_of_magnitude(
    low: float, factor: float, quantile: float
) -> None:
    high = low * factor
    value = Domain(log_uniform=[low, high]).at(quantile)
    assert low <= value <= high
    # Rounding to four digits moves a value by at most 5e-4 of itself.
    expected = math.log(low) + quantile * (math.log(high) - math.log(low))
    assert math.log(value) == pytest.approx(expected, abs=6e-4)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), QUANTILES)
def test_a_uniform_value_is_between_its_bounds(low: float, width: float, quantile: float) -> None:
    high = low + width
    value = Domain(uniform=[low, high]).at(quantile)
    assert low <= value <= high
    assert value == pytest.approx(low + quantile * width, rel=6e-4, abs=1e-6)


@given(st.integers(-50, 50), st.integers(1, 100))
def test_every_whole_number_is_as_likely(low: int, width: int) -> None:
    domain = Domain(int_uniform=[low, low + width])
    n = width + 1
    drawn = [domain.at((i + 0.5) / n) for i in range(n)]
    assert drawn == list(range(low, low + width + 1))


def test_every_choice_is_as_likely() -> None:
    domain = Domain(choice=["a", None, [1, 2]])
    assert [domain.at(q) for q in (0.0, 0.33, 0.34, 0.66, 0.67, 0.999)] == [
        *["a", "a", None, None],
        *[[1, 2], [1, 2]],
    ]


def test_a_domain_is_one_thing() -> None:
    with pytest.raises(ValidationError, match="one key"):
        Domain()


# ------------------------------------------------------------------------------ drawing


def configurations(search: Search) -> list[Any]:
    return [dict(trial.values) for trial in search.trials]


def test_the_first_trial_has_the_grid_s_own_values_and_holds_images_out(tmp_path: Path) -> None:
    found = searches(tmp_path, recipe={"lr": 0.02, "epochs": 3}, tune={"holdout": 0.3})
    first = found["ft"].trials[0]
    assert first.values == {}
    assert first.cell.recipe is not None
    assert (first.cell.recipe["lr"], first.cell.recipe["holdout"]) == (0.02, 0.3)


def test_trials_differ_in_what_is_searched_and_in_nothing_else(tmp_path: Path) -> None:
    space = {**LR, "l2sp": {"strength": {"log_uniform": [1e-3, 10]}}}
    search = searches(tmp_path, space)["l2sp"]
    first, *others = (trial.cell for trial in search.trials)
    assert len(others) == 15
    for cell in others:
        assert first.recipe is not None
        assert cell.recipe is not None
        differing = {key for key in first.recipe if first.recipe[key] != cell.recipe[key]}
        assert differing == {"lr"}
        assert 1e-4 <= cell.recipe["lr"] <= 1e-1
        assert cell.hyperparameters["strength"] != first.hyperparameters["strength"]
        assert cell.seed == first.seed
    assert len({cell.cell_id for cell in others}) == 15


def test_a_trial_is_the_same_on_every_run(tmp_path: Path) -> None:
    one, again = (searches(tmp_path)["ft"] for _ in range(2))
    assert configurations(one) == configurations(again)
    assert one.search_id == again.search_id


def test_a_longer_search_goes_on_with_the_same_trials(tmp_path: Path) -> None:
    short, long = (searches(tmp_path, tune={"trials": n})["ft"] for n in (4, 9))
    assert short.search_id == long.search_id
    assert configurations(long)[:4] == configurations(short)


@pytest.mark.parametrize(
    "keys",
    [
        {"tune": {"seed": 1}},
        {"tune": {"holdout": 0.3}},
        {"tune": {"reduction_factor": 4}},
        {"recipe": {"epochs": 11}},
        {"seeds": [1]},
        {"downstream": ["a"]},
        {"space": {"recipe": {"lr": {"log_uniform": [1e-4, 1e-2]}}}},
    ],
)
def test_what_decides_the_trials_makes_another_search(tmp_path: Path, keys: Any) -> None:
    one, other = searches(tmp_path)["ft"], searches(tmp_path, **keys)["ft"]
    assert one.search_id != other.search_id
    assert configurations(one)[1:] != configurations(other)[1:]


def test_searches_of_one_grid_draw_apart(tmp_path: Path) -> None:
    found = searches(tmp_path)
    assert configurations(found["ft"])[1:] != configurations(found["l2sp"])[1:]


def test_a_small_space_is_tried_once_through(tmp_path: Path) -> None:
    search = searches(tmp_path, {"lora": {"rank": {"choice": [4, 8, 16]}}})["lora"]
    # 8 is the default, which the first trial has.
    ranks = [trial.cell.hyperparameters["rank"] for trial in search.trials]
    assert ranks[0] == 8
    assert sorted(ranks[1:]) == [4, 16]


def test_what_is_searched_for_whom(tmp_path: Path) -> None:
    """Soups train nothing; the prompt's learning rate takes the place of the recipe's."""
    space = {**LR, "l2sp": {"strength": {"choice": [0.1, 10]}}}
    found = searches(tmp_path, space)
    assert {label: set(search.space) for label, search in found.items()} == {
        "ft": {("recipe", "lr")},
        "l2sp": {("recipe", "lr"), ("hyperparameters", "strength")},
        "lora": {("recipe", "lr")},
        "lp-ft": {("recipe", "lr")},
    }
    own = {"visual-prompt": {"lr": {"log_uniform": [0.1, 40]}}}
    assert list(searches(tmp_path, own)) == ["visual-prompt"]


def test_what_a_trial_starts_from_holds_the_same_images_out(tmp_path: Path) -> None:
    search = searches(tmp_path, tune={"holdout": 0.25})["lp-ft"]
    for trial in search.trials:
        (probe,) = trial.cell.parents
        assert probe.recipe is not None
        assert (probe.recipe["holdout"], probe.recipe["lr"]) == (0.25, 1e-3)


def test_seeds_are_not_searched_over(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, {"space": LR}, seeds=[3, 4, 5], methods=["ft"])
    assert [search.start.seed for search in searches_of(grid)] == [3]
