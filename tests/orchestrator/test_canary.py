"""Baselines against published accuracies: exact at the tolerance, silent about nothing."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pandas as pd
import pytest

from orchestrator.canary import (
    COLUMNS,
    Verdict,
    check,
    complaints,
    is_as_published,
    measured_in_rows,
    measured_in_table,
)
from workers.cell import Model
from workers.suites import DatasetSpec, suites

SPLITS = {
    "val": ((None, None),),
    "a": ((None, None),),
    "c": (("fog", 1), ("fog", 2), ("snow", 1)),
}


def rows(*given: tuple[str, int, int], model: str = "m", **other: Any) -> pd.DataFrame:
    """Make baseline rows of (evaluation set, correct, total)."""
    blank = {"model": model, "method": "pretrained", "corruption": None, "severity": None}
    made = [
        {**blank, "eval_dataset": name, "n_correct": k, "n_total": n, **other}
        for name, k, n in given
    ]
    return pd.DataFrame(made, columns=COLUMNS)


def verdict(measured: pd.DataFrame, **published: float) -> Verdict:
    figures = {name: Fraction(str(value)) for name, value in published.items()}
    (found,) = check(["m"], {"m": figures}, measured_in_rows(measured, SPLITS))
    return found


# ------------------------------------------------------------------------------ the tolerance


@pytest.mark.parametrize(
    ("n_correct", "state"),
    [
        (39_677, "agrees"),  # 79.354 is exactly 0.2 above 79.154,
        (39_678, "differs"),  # one image more is 0.202 above,
        (39_477, "agrees"),  # 78.954 is exactly 0.2 below,
        (39_476, "differs"),
        (39_577, "agrees"),
    ],
)
def test_a_difference_of_just_the_tolerance_agrees(n_correct: int, state: str) -> None:
    assert verdict(rows(("val", n_correct, 50_000)), val=79.154).state == state


def test_floats_would_have_put_the_boundary_on_the_wrong_side() -> None:
    assert abs(100 * 39_677 / 50_000 - 79.154) > 0.2


def test_what_is_said_of_a_model() -> None:
    agreeing, low = ("val", 795, 1000), ("a", 120, 1000)
    assert str(verdict(rows(agreeing), val=79.5)) == "agrees"
    assert str(verdict(rows(agreeing))) == "no published value"
    text = str(verdict(rows(agreeing, low), val=79.5, a=14.907))
    assert text == "differs by -2.907 (a)"
    text = str(verdict(rows(("val", 800, 1000), low), val=79.5, a=14.907))
    assert text == "differs by +0.500 (val), -2.907 (a)"


def test_a_row_that_is_missing_does_not_pass() -> None:
    nothing = verdict(rows(), val=79.5, a=14.9)
    assert (nothing.state, nothing.passes) == ("missing", False)
    assert str(nothing) == "not evaluated yet (val, a)"
    half = verdict(rows(("val", 795, 1000)), val=79.5, a=14.9)
    assert (half.state, half.passes, half.missing) == ("missing", False, ("a",))
    # What differs already is said at once.
    wrong = verdict(rows(("val", 700, 1000)), val=79.5, a=14.9)
    assert (wrong.state, wrong.missing) == ("differs", ("a",))


def test_a_set_with_corruptions_is_the_mean_over_severities_then_corruptions() -> None:
    c = pd.concat(
        [
            rows(("c", 10, 100), corruption="fog", severity=1),
            rows(("c", 20, 100), corruption="fog", severity=2),
            rows(("c", 45, 100), corruption="snow", severity=1),
        ]
    )
    # fog is 15, snow is 45: 30. The mean of the three would be 25.
    assert verdict(c, c=30.2).state == "agrees"
    assert verdict(c, c=30.201).state == "differs"
    assert verdict(c.iloc[:2], c=15.0).state == "missing", "never a shorter mean"


def test_only_baselines_and_only_the_class_mask_count() -> None:
    tuned = rows(("val", 0, 1000)).assign(method="ft")
    assert verdict(pd.concat([rows(("val", 795, 1000)), tuned]), val=79.5).state == "agrees"
    assert "n_correct_unmasked" not in COLUMNS


def test_models_are_judged_one_by_one() -> None:
    measured = pd.concat([rows(("val", 50, 100)), rows(("val", 60, 100), model="other")])
    half = {"val": Fraction(50)}
    found = check(
        ["other", "m", "new"], {"m": half, "other": half}, measured_in_rows(measured, SPLITS)
    )
    assert [str(one) for one in found] == [
        "differs by +10.000 (val)",
        "agrees",
        "no published value",
    ]


def test_a_published_table_is_taken_as_the_decimals_it_gives() -> None:
    table = pd.DataFrame(
        [("m", "pretrained", "val", 79.354), ("m", "ft", "val", 1.0)],
        columns=["model", "method", "eval_dataset", "accuracy"],
    )
    measured = measured_in_table(table)
    assert measured == {"m": {"val": Fraction("79.354")}}
    (found,) = check(["m"], {"m": {"val": Fraction("79.154")}}, measured)
    assert found.state == "agrees"


# ------------------------------------------------------------------------------ which model


def timm_model(**changes: Any) -> Model:
    return replace(
        Model("resnet18.tv_in1k", "resnet18.tv_in1k", "timm:resnet18.tv_in1k"), **changes
    )


def test_a_model_with_something_of_the_user_s_own_is_not_the_published_one() -> None:
    suite = suites()["digits-rib"]
    assert is_as_published(timm_model(), suite)
    assert is_as_published(timm_model(pretraining="IN-1K"), suite)
    assert not is_as_published(timm_model(transform={"crop_pct": 1.0}), suite)
    assert not is_as_published(timm_model(arguments={"drop_rate": 0.1}), suite)
    assert not is_as_published(timm_model(file="/mine.safetensors"), suite)
    assert not is_as_published(timm_model(architecture="resnet18"), suite)
    for model in suite.models:
        assert is_as_published(model, suite)
        assert not is_as_published(replace(model, transform={}), suite)


# ------------------------------------------------------------------------------ in words


def test_every_set_that_differs_is_named_with_its_numbers() -> None:
    suite = replace(
        suites()["digits-rib"],
        id=DatasetSpec("val", ""),
        ood=(DatasetSpec("a", "", "index_folders"), DatasetSpec("c", "", classes=("d0",))),
    )
    found = verdict(rows(("val", 795, 1000), ("a", 10, 1000)), val=79.5, a=14.907, c=50.0)
    first, causes, missing = complaints([found], suite)
    assert first == "canary: m on a: 1.000 here, 14.907 published, -13.907"
    assert "numbered folders" in causes
    assert "class mask" not in causes
    assert missing == "canary: m has no accuracy yet on c"
    everywhere = verdict(rows(("val", 1, 1000), ("a", 1, 1000)), val=79.5, a=14.907)
    assert "transform" in complaints([everywhere], suite)[-1]
    assert complaints([verdict(rows()), verdict(rows(("a", 149, 1000)), a=14.9)], suite) == []
