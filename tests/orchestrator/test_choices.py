"""What was chosen: by what rule, for which cells, and how it is written into a grid and read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.grid import Grid, load_grid, load_stored_grid, resolve_grid
from orchestrator.plan import expand, make_plan
from orchestrator.search import Finding, Search, findings_of, searches_of, to_run
from orchestrator.tuned_grid import tuned_grid
from orchestrator.yaml_source import parse_yaml
from workers.cell import Cell
from workers.errors import UserError
from workers.store import Committed

GRID = """\
# A grid that somebody wrote.
name: small
suite: digits-rib
data_root: {root}
models: [resnet_digits, vit_digits]   # both
downstream: [v2, a]
methods:
  - ft
  - l2sp
  - {{method: l2sp, name: l2sp-strong, strength: 100}}
  - lp-ft
  - {{method: soup, members: [ft, l2sp]}}
recipe: {{lr: 1e-3, epochs: 3}}
tune:
  trials: 3
  space:
    recipe: {{lr: {{log_uniform: [1e-4, 1e-1]}}}}
    l2sp: {{strength: {{log_uniform: [1e-3, 10]}}}}
"""
CHOICE = {
    "model": "resnet_digits",
    "downstream": "a",
    "method": "l2sp",
    "recipe": {"lr": 0.02},
    "hyperparameters": {"strength": 0.5},
}

Key = tuple[str, str | None, str]


@pytest.fixture
def text(tmp_path: Path) -> str:
    return GRID.format(root=tmp_path / "none")


def read(text: str, *choices: dict[str, Any]) -> Grid:
    block = yaml.safe_dump({"choices": list(choices)}, sort_keys=False) if choices else ""
    return resolve_grid(parse_yaml(text + block, "grid.yaml"))


def cells(grid: Grid) -> dict[Key, Cell]:
    return {(c.model.name, c.downstream, c.label): c for c in expand(grid)}


def problems(text: str, *choices: dict[str, Any]) -> list[str]:
    with pytest.raises(UserError) as caught:
        read(text, *choices)
    return [str(problem).split(": ", 1)[1] for problem in caught.value.problems]


# ------------------------------------------------------------------------------ which cells


def test_only_what_was_chosen_for_and_what_is_made_of_it_changes(text: str) -> None:
    plain, tuned = cells(read(text)), cells(read(text, CHOICE))
    changed = {key for key in plain if plain[key].cell_id != tuned[key].cell_id}
    assert changed == {("resnet_digits", "a", "l2sp"), ("resnet_digits", "a", "soup")}
    cell = tuned["resnet_digits", "a", "l2sp"]
    before = plain["resnet_digits", "a", "l2sp"]
    assert cell.recipe == {**(before.recipe or {}), "lr": 0.02}
    assert cell.hyperparameters == {"strength": 0.5}
    assert cell.label == "l2sp"


def test_a_choice_of_the_grid_s_own_values_changes_no_cell(text: str) -> None:
    own = {**CHOICE, "recipe": {"lr": 1e-3}, "hyperparameters": {"strength": 1.0}}
    assert cells(read(text)) == cells(read(text, own))


def test_what_a_method_starts_from_has_what_was_chosen_for_it(text: str) -> None:
    with_probe = text.replace("  - lp-ft\n", "  - lp\n  - lp-ft\n")
    grid = read(with_probe, {**CHOICE, "method": "lp", "hyperparameters": {}})
    cell = cells(grid)["resnet_digits", "a", "lp-ft"]
    (probe,) = cell.parents
    assert probe.recipe is not None
    assert cell.recipe is not None
    assert (probe.recipe["lr"], cell.recipe["lr"]) == (0.02, 1e-3)


def test_training_that_was_chosen_to_be_longer_is_planned_as_longer(text: str) -> None:
    longer = {**CHOICE, "recipe": {"epochs": 12}}
    images = [
        {
            (n.cell.model.name, n.cell.downstream, n.cell.label): n.training_images
            for n in make_plan(read(text, *choices), Committed()).nodes.values()
        }["resnet_digits", "a", "l2sp"]
        for choices in ((), (longer,))
    ]
    assert images == [84 * 3, 84 * 12]  # the set `a` has 84 images


def test_a_stored_grid_keeps_its_choices(text: str) -> None:
    grid = read(text, CHOICE)
    again = load_stored_grid(grid.to_yaml(), grid.store)
    assert cells(again) == cells(grid)
    assert again.choices == grid.choices
    assert again.tune == grid.tune


# ------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"model": "resnet"}, ["choices[0].model: the grid has no model 'resnet' (did you mean"]),
        ({"downstream": "val"}, ["choices[0].downstream: the grid has no downstream 'val'"]),
        ({"method": "l2-sp"}, ["choices[0].method: the grid has no method 'l2-sp' (did you mean"]),
        ({"recipe": {"lr": 0}}, ["choices[0].recipe.lr: should be greater than 0, not 0"]),
        ({"recipe": {"rate": 1}}, ["choices[0].recipe.rate: unknown key"]),
        ({"recipe": {"lr": "0.1"}}, ["choices[0].recipe.lr: should be a valid number"]),
        ({"recipe": {"holdout": 0.1}}, ["choices[0].recipe: 'holdout' is the grid's"]),
        (
            {"hyperparameters": {"strenght": 1}},
            ["choices[0].hyperparameters.strenght: unknown key (did you mean 'strength'?)"],
        ),
        ({"hyperparameter": {}}, ["choices[0].hyperparameter: unknown key (did you mean"]),
        (
            {"method": "soup", "hyperparameters": {}},
            ["choices[0].recipe: 'soup' trains nothing"],
        ),
        (
            {"method": "lp-ft", "hyperparameters": {"start": "ft"}},
            ["choices[0].hyperparameters: what a method starts from is the same in all"],
        ),
        (
            {"recipe": {}, "hyperparameters": {"strength": 100}},
            ["choices[0]: 'l2sp' is then the same as 'l2sp-strong': their cells are one"],
        ),
        (
            {"recipe": {"lr": -1}, "hyperparameters": {"strength": -1}},
            ["choices[0].recipe.lr: ", "choices[0].hyperparameters.strength: "],
        ),
    ],
)
def test_every_mistake_is_named_with_its_place(
    text: str, change: dict[str, Any], expected: list[str]
) -> None:
    said = problems(text, {**CHOICE, **change})
    assert len(said) == len(expected), said
    for line, start in zip(said, expected, strict=True):
        assert line.startswith(start)


def test_two_choices_for_one_thing_are_a_mistake(text: str) -> None:
    said = problems(text, CHOICE, {**CHOICE, "recipe": {}})
    assert said == ["choices[1]: resnet_digits / a / l2sp is there twice"]


# ------------------------------------------------------------------------------ the rule


def row(search: Search, trial: int, correct: int, state: str = "done") -> dict[str, Any]:
    return {
        "search": search.search_id,
        "trial": trial,
        "state": state,
        "epochs": 3,
        "held_out_correct": correct,
        "held_out_total": 40,
        "held_out_by_epoch": [correct] * 3,
    }


def search_of(text: str, label: str = "l2sp") -> Search:
    key = ("resnet_digits", "a", label)
    return next(one for one in searches_of(read(text)) if one.key == key)


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([(0, 30, "done"), (1, 31, "done"), (2, 29, "done")], 1),
        ([(0, 30, "done"), (1, 30, "done"), (2, 30, "done")], 0),
        ([(0, 29, "done"), (1, 30, "done"), (2, 30, "done")], 1),
        ([(0, 30, "done"), (1, 40, "stopped"), (2, 29, "done")], 0),
        ([(0, 30, "done"), (1, 40, "diverged"), (2, 40, "failed")], 0),
        ([(0, 30, "diverged"), (1, 2, "done"), (2, 40, "stopped")], 1),
        ([(0, 30, "diverged"), (1, 31, "stopped"), (2, 31, "failed")], None),
        ([], None),
    ],
)
def test_the_best_finished_trial_is_chosen_and_of_equals_the_first(
    text: str, rows: list[tuple[int, int, str]], best: int | None
) -> None:
    search = search_of(text)
    (finding,) = findings_of([search], [row(search, *one) for one in reversed(rows)])
    assert (None if finding.best is None else finding.best["trial"]) == best
    choice = finding.choice
    if best is None:
        assert choice is None
        return
    cell = search.trials[best].cell
    assert choice is not None
    assert cell.recipe is not None
    assert choice.recipe == {"lr": cell.recipe["lr"]}
    assert choice.hyperparameters == {"strength": cell.hyperparameters["strength"]}


def test_rows_of_other_searches_and_of_trials_beyond_the_last_count_for_nothing(text: str) -> None:
    search, other = search_of(text), search_of(text, "ft")
    rows = [row(search, 0, 10), row(other, 1, 40), row(search, 3, 40)]
    (finding,) = findings_of([search], rows)
    assert [one["trial"] for one in finding.rows] == [0]
    assert not finding.is_complete


def test_what_has_ended_is_not_run_again_unless_it_failed_and_that_is_asked_for(text: str) -> None:
    search = search_of(text)
    for state in ("done", "stopped", "diverged", "failed"):
        (finding,) = findings_of([search], [row(search, 1, 5, state)])
        assert [trial.number for trial in to_run([finding])] == [0, 2]
        again = [0, 1, 2] if state == "failed" else [0, 2]
        assert [trial.number for trial in to_run([finding], retry=True)] == again


def test_every_search_starts_before_one_is_gone_through(text: str) -> None:
    findings = findings_of(searches_of(read(text)), [])
    assert len(findings) == 2 * 2 * 4
    numbers = [trial.number for trial in to_run(findings)]
    assert numbers == [0] * 16 + [1] * 16 + [2] * 16


# ------------------------------------------------------------------------------ the tuned grid


def found(text: str) -> Finding:
    search = search_of(text)
    rows = [row(search, 0, 30), row(search, 1, 33), row(search, 2, 31)]
    return findings_of([search], rows)[0]


def test_a_tuned_grid_is_the_grid_with_its_choices(text: str, tmp_path: Path) -> None:
    grid, finding = read(text), found(text)
    written = tuned_grid(text, grid, [finding])
    assert written.startswith(text.rstrip("\n"))  # comments and all
    path = tmp_path / "tuned.yaml"
    path.write_text(written)
    tuned = load_grid(path)
    assert replace(tuned, choices={}) == grid
    (choice,) = tuned.choices.values()
    search = finding.search
    assert choice.key == search.key
    chosen = cells(tuned)[search.key]
    assert chosen.recipe is not None
    trial = search.trials[1].cell
    assert chosen.recipe == {**(trial.recipe or {}), "holdout": 0.0}  # all images are trained on
    assert chosen.hyperparameters == trial.hyperparameters
    assert choice.source is not None
    for part in (search.search_id, "3 trials", "trial 1", "33/40", "30", grid.store):
        assert part in choice.source


def test_tuning_again_replaces_choices_and_keeps_those_of_others(text: str) -> None:
    other = {**CHOICE, "downstream": "v2", "source": "by hand"}
    block = yaml.safe_dump({"choices": [CHOICE, other]}, sort_keys=False)
    before = text.replace("methods:\n", f"{block}methods:\n")
    grid = resolve_grid(parse_yaml(before, "grid.yaml"))
    written = tuned_grid(before, grid, [found(text)])
    tuned = resolve_grid(parse_yaml(written, "tuned.yaml"))
    assert (
        tuned.choices["resnet_digits", "v2", "l2sp"] == grid.choices["resnet_digits", "v2", "l2sp"]
    )
    assert tuned.choices["resnet_digits", "a", "l2sp"] != grid.choices["resnet_digits", "a", "l2sp"]
    assert tuned_grid(written, tuned, [found(text)]) == written


def test_a_search_that_found_nothing_leaves_the_grid_as_it_is(text: str) -> None:
    nothing = findings_of([search_of(text)], [])
    assert tuned_grid(text, read(text), nothing) == text


def test_a_grid_in_braces_cannot_be_added_to(text: str) -> None:
    value = yaml.safe_load(text)
    braces = yaml.safe_dump(value, default_flow_style=True, width=10**6)
    with pytest.raises(UserError, match="written in braces"):
        tuned_grid(braces, read(text), [found(text)])
