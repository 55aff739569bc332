"""The keys `curve` and `predictions` of a grid."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.grid import Grid, load_stored_grid, resolve_grid
from orchestrator.plan import expand
from orchestrator.yaml_source import parse_yaml
from tests.stores import SUITE
from workers.curve import Curve
from workers.errors import UserError

GRID = """\
name: g
suite: digits-rib
data_root: /nowhere
models: [{name: m, architecture: resnet10t, weights: WEIGHTS}]
methods: [ft]
evaluate: [val, v2, c]
"""


@pytest.fixture
def text(tmp_path: Path) -> str:
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"any")
    return GRID.replace("WEIGHTS", str(weights))


def read(text: str) -> Grid:
    return resolve_grid(parse_yaml(text, "g.yaml"), "store")


def problems(text: str) -> list[str]:
    with pytest.raises(UserError) as raised:
        read(text)
    return [str(problem) for problem in raised.value.problems]


def test_a_curve_and_predictions_as_they_are_written(text: str) -> None:
    asked = "curve: {every: 2, sets: [a, val], fraction: 0.5, seed: 7}\npredictions: [c, v2]\n"
    grid = read(text + asked + "top_classes: 3\n")
    assert grid.curve == Curve(("a", "val"), every=2, fraction=0.5, seed=7)
    assert grid.predictions == ("c", "v2")
    assert grid.top_classes == 3
    again = load_stored_grid(grid.to_yaml(), "store")
    assert (again.curve, again.predictions, again.top_classes) == (grid.curve, ("c", "v2"), 3)


def test_all_are_all_sets_of_the_suite_and_all_that_are_evaluated(text: str) -> None:
    grid = read(text + "curve: {}\npredictions: all\n")
    assert grid.curve == Curve(tuple(SUITE.evaluation_sets), every=1, fraction=0.1, seed=0)
    assert grid.predictions == ("val", "v2", "c")


def test_a_grid_that_asks_for_neither_has_neither(text: str) -> None:
    grid = read(text)
    assert grid.curve is None
    assert grid.predictions == ()


def test_what_is_asked_for_beside_is_no_part_of_a_cell_s_identity(text: str) -> None:
    asked = "curve: {fraction: 0.5}\npredictions: all\ntop_classes: 3\n"
    ids = [[cell.cell_id for cell in expand(read(one))] for one in (text, text + asked)]
    assert ids[0] == ids[1]


def test_every_mistake_is_told_at_once(text: str) -> None:
    asked = (
        "curve: {every: 0, fraction: 1.5, seed: -1, evrey: 2}\n"
        "predictions: [v2, v2, r, v3]\ntop_classes: 0\n"
    )
    found = "\n".join(problems(text + asked))
    for said in ("curve.every", "curve.fraction", "curve.seed", "evrey", "top_classes"):
        assert said in found
    names = problems(text + "curve: {sets: [v2, val, v4, val]}\npredictions: [v2, v2, r, v3]\n")
    for line, (where, message) in zip(
        names,
        [
            ("curve.sets[2]", "unknown data set 'v4'"),
            ("curve.sets[3]", "'val' is there twice"),
            ("predictions[1]", "'v2' is there twice"),
            ("predictions[2]", "the grid does not evaluate 'r' (allowed: c, v2, val)"),
            ("predictions[3]", "unknown data set 'v3'"),
        ],
        strict=True,
    ):
        assert f"{where}: {message}" in line
