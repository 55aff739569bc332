"""OTDD beside the ID drop: whose mean it is, and what is no point."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from orchestrator.distance_points import correlations, otdd_points

SETS = ["a", "b", "c", "d"]
DISTANCES = pd.DataFrame({"downstream": SETS, "value": [1.0, 2.0, 3.0, 4.0]})


def rows(*values: tuple[str, str, int, str | None, str, float]) -> pd.DataFrame:
    columns = ["model", "method", "seed", "downstream", "eval_dataset", "accuracy"]
    return pd.DataFrame(list(values), columns=columns)


def entries(*values: tuple[str, str, int]) -> pd.DataFrame:
    return pd.DataFrame(list(values), columns=["model", "method", "seed"])


def test_the_drop_is_the_baselines_accuracy_less_the_mean_over_the_seeds() -> None:
    accuracies = rows(
        ("m", "pretrained", 0, None, "id", 90.0),
        ("m", "pretrained", 0, None, "a", 10.0),
        ("m", "ft", 0, "a", "id", 80.0),
        ("m", "ft", 1, "a", "id", 84.0),
        ("m", "ft", 0, "a", "a", 99.0),
        ("m", "ft", 0, "b", "id", 95.0),
        ("m", "ft", 1, "b", "id", 93.0),
        ("m", "ft", 0, "c", "id", 50.0),  # seed 1 is still to come: no point
    )
    points = otdd_points(accuracies, entries(("m", "ft", 0), ("m", "ft", 1)), "id", DISTANCES)
    assert points["downstream"].tolist() == SETS
    assert points["otdd"].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert points["id_drop"].tolist()[:2] == [8.0, -4.0]
    assert points["id_drop"].isna().tolist() == [False, False, True, True]


def test_without_a_baseline_there_is_no_drop() -> None:
    points = otdd_points(
        rows(("m", "ft", 0, "a", "id", 80.0)), entries(("m", "ft", 0)), "id", DISTANCES
    )
    assert points["id_drop"].isna().all()


def test_models_and_methods_are_kept_apart_and_correlated_one_by_one() -> None:
    """The drop of m grows with the distance, that of n shrinks; lwf lacks a set."""
    values = [("m", "pretrained", 0, None, "id", 90.0), ("n", "pretrained", 0, None, "id", 80.0)]
    for place, name in enumerate(SETS):
        values.append(("m", "ft", 0, name, "id", 90.0 - place**2))
        values.append(("n", "ft", 0, name, "id", 70.0 + place))
        if name != "d":
            values.append(("n", "lwf", 0, name, "id", 70.0))
    listed = entries(("m", "ft", 0), ("n", "ft", 0), ("n", "lwf", 0))
    found = list(correlations(otdd_points(rows(*values), listed, "id", DISTANCES)))
    assert [(one.model, one.method) for one in found] == [("m", "ft"), ("n", "ft"), ("n", "lwf")]
    first, second, third = (one.correlation for one in found)
    assert first.pearson is not None
    assert first.spearman is not None
    # Of (1, 2, 3, 4) and (0, 1, 4, 9): 15 / sqrt(5 * 49).
    assert first.pearson.value == pytest.approx(15 / math.sqrt(5 * 49))
    assert first.spearman.value == pytest.approx(1)
    assert second.pearson is not None
    assert second.pearson.value == pytest.approx(-1)
    assert third.pearson is None
    assert third.n == 3
    assert found[2].missing == ("d",)
