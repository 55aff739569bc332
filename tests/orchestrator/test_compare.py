"""Comparing two entries: who is meant, which test it is, and what is said of it."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from orchestrator.compare import BOOTSTRAP, Comparison, Difference, compare, find_entry
from orchestrator.leaderboard import leaderboard
from orchestrator.report.comparison import comparison_record, comparison_table
from orchestrator.results import read_results
from orchestrator.statistics import holm
from tests.orchestrator.answers import SETS, World, world
from tests.orchestrator.test_tables import POSTER
from workers.errors import UserError

FT, LP = ("m", "ft"), ("m", "lp")
FORTY = {"id": 60, "a": 60, "b": 60, "c": 60}


@pytest.fixture(scope="module")
def made() -> World:
    return world({FT: 0.15, LP: 0.05, ("n", "ft"): 0.0}, noise=0.2, sizes=FORTY)


@pytest.fixture(scope="module")
def paired(made: World) -> Comparison:
    return compare(made.results(made.predictions), "m:ft", "m:lp")


@pytest.fixture(scope="module")
def unpaired(made: World) -> Comparison:
    return compare(made.results(), "m:ft", "m:lp")


def by_name(found: Comparison) -> dict[str, Difference]:
    return {one.what: one for one in (*found.by_set, found.overall)}


# Names


KNOWN = [("vit", "pretrained"), ("vit", "ft"), ("vit", "lp-ft"), ("vit_large", "ft"), ("r", "soup")]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("vit:ft", [("vit", "ft")]),
        ("VIT:FT", [("vit", "ft")]),
        ("soup", [("r", "soup")]),
        ("lp", [("vit", "lp-ft")]),
        ("large", [("vit_large", "ft")]),
        ("vit_large", [("vit_large", "ft")]),
        ("ft", [("vit", "ft"), ("vit_large", "ft")]),
        ("vit", KNOWN[:3]),
        ("t:l", [("vit", "lp-ft")]),
        ("swa", []),
    ],
)
def test_an_entry_is_named_whole_or_by_a_part(given, found):
    assert find_entry(given, KNOWN) == found


def problems(*arguments: str | None) -> list[str]:
    with pytest.raises(UserError) as raised:
        compare(world({FT: 0.1, LP: 0.1}).results(), *arguments)  # type: ignore[arg-type]
    return [str(problem) for problem in raised.value.problems]


def test_every_mistake_is_told_at_once():
    assert problems("m", "m:ftt", "aa") == [
        "m: fits more than one entry (which of m:pretrained, m:ft, m:lp?)",
        "m:ftt: is no entry of this store (did you mean 'm:ft'?)",
        "--downstream: there is no set 'aa' (did you mean 'a'?)",
    ]
    assert problems("ft", "M:FT") == ["M:FT: is the same entry as ft"]


def test_a_published_table_has_nothing_to_test():
    with pytest.raises(UserError, match="a table does not say of how many images"):
        compare(read_results(str(POSTER)), "ft", "pretrained")


# Numbers


def test_the_numbers_are_those_of_the_leaderboard(made, unpaired):
    board = leaderboard(made.accuracies, SETS).set_index(["model", "method"])
    overall = unpaired.overall
    assert (overall.first, overall.second) == pytest.approx(
        (board.at[FT, "mRI"], board.at[LP, "mRI"])
    )
    on_sets = [one.first for one in unpaired.by_set if one.what in SETS.ood]
    assert np.mean(on_sets) == pytest.approx(board.at[FT, "OOD"])
    assert by_name(unpaired)["id"].first == pytest.approx(board.at[FT, "ID"])


def test_a_set_is_not_tested_on_those_tuned_on_it(made, unpaired):
    others = [made.accuracy(("m", "ft", 0, d), "b") for d in ("a", "c")]
    assert by_name(unpaired)["b"].first == pytest.approx(np.mean(others))
    on_b = compare(made.results(), "m:ft", "m:lp", "b")
    assert by_name(on_b)["b"].first == pytest.approx(made.accuracy(("m", "ft", 0, "b"), "b"))


def test_the_baseline_is_an_entry_whose_mri_is_0(made):
    found = by_name(compare(made.results(made.predictions), "m:ft", "m:pretrained"))
    assert found["mRI"].second == 0.0
    board = leaderboard(made.accuracies, SETS).set_index(["model", "method"])
    assert found["mRI"].difference == pytest.approx(board.at[FT, "mRI"])
    assert found["a"].second == pytest.approx(made.accuracy(("m", "pretrained", None, None), "a"))
    baselines = compare(made.results(), "m:pretrained", "n:pretrained")
    assert baselines.overall.tested is None, "both are 0 by definition"


def test_the_interval_against_the_baseline_is_that_of_the_leaderboard(made):
    board = leaderboard(made.accuracies, SETS, sources=made.results().sources)
    row = board.set_index(["model", "method"]).loc[FT]
    overall = compare(made.results(), "m:ft", "m:pretrained").overall
    assert (overall.low, overall.high) == pytest.approx((row["mRI low"], row["mRI high"]))


def test_two_models_bring_their_baselines_intervals_along(made):
    def width(*names: str) -> float:
        overall = compare(made.results(), *names).overall
        assert overall.low is not None
        assert overall.high is not None
        return overall.high - overall.low

    same, other = width("m:ft", "m:lp"), width("m:ft", "n:ft")
    assert other == pytest.approx(same * np.sqrt(2), rel=0.05)


# Tests


def test_two_cells_on_a_plain_set_are_tested_by_mcnemar(made):
    found = by_name(compare(made.results(made.predictions), "m:ft", "m:lp", "a"))
    for name in ("id", "a", "b"):
        first = made.answers["m", "ft", 0, "a"][name][0]
        second = made.answers["m", "lp", 0, "a"][name][0]
        b, c = int((first & ~second).sum()), int((second & ~first).sum())
        assert found[name].discordant == (b, c)
        assert found[name].images == 60
        assert found[name].tested.p == pytest.approx(stats.binomtest(b, b + c).pvalue)
        assert found[name].difference == pytest.approx(100 * (b - c) / 60)
        assert found[name].low < found[name].difference < found[name].high
    assert found["c"].tested.test == BOOTSTRAP, "its images are shown by several splits"
    assert found["RI a"].tested.test == BOOTSTRAP
    assert found["RI a"].images == 60, "b and c show the same images, and a is no part of RI a"


def test_means_of_cells_are_bootstrapped(paired):
    assert {one.tested.test for one in (*paired.by_set, paired.overall)} == {BOOTSTRAP}
    assert [one.images for one in paired.by_set] == [60] * 4
    assert paired.overall.images == 120, "b and c show the same images"


def test_several_seeds_are_means(made):
    several = world({FT: 0.15, LP: 0.05}, seeds=(0, 1), sizes=FORTY)
    found = by_name(compare(several.results(several.predictions), "m:ft", "m:lp", "a"))
    assert found["b"].tested.test == BOOTSTRAP


def test_without_predictions_the_test_is_one_of_different_images(made):
    found = by_name(compare(made.results(), "m:ft", "m:lp", "a"))
    first, second = (made.answers["m", x, 0, "a"]["b"].sum() for x in ("ft", "lp"))
    table = [[first, 60 - first], [second, 60 - second]]
    expected = stats.chi2_contingency(table, correction=False)
    assert found["b"].tested.test == "unpaired z"
    assert found["b"].tested.p == pytest.approx(expected.pvalue)
    overall = found["RI a"]
    assert (overall.tested.p < 0.05) == (overall.low > 0 or overall.high < 0)
    assert overall.images == 120


def test_pairing_makes_intervals_narrower_and_changes_no_difference(paired, unpaired):
    for one, other in zip(
        (*paired.by_set, paired.overall), (*unpaired.by_set, unpaired.overall), strict=True
    ):
        assert one.difference == pytest.approx(other.difference)
        assert one.high - one.low < other.high - other.low


def test_a_set_without_predictions_is_unpaired_alone(made):
    predictions = made.predictions
    kept = {cell: [j for j in sets if j != "b"] for cell, sets in predictions.kept.items()}
    found = by_name(compare(made.results(replace(predictions, kept=kept)), "m:ft", "m:lp"))
    tests = {name: one.tested.test for name, one in found.items()}
    assert tests == {
        "id": BOOTSTRAP, "a": BOOTSTRAP, "b": "unpaired z", "c": BOOTSTRAP, "mRI": "unpaired z"
    }  # fmt: skip


def test_p_values_are_adjusted_over_the_sets_alone(paired):
    p = [one.tested.p for one in paired.by_set]
    assert [one.p_holm for one in paired.by_set] == pytest.approx(holm(p).tolist())
    assert paired.overall.p_holm is None


def test_entries_that_do_not_differ_are_rarely_told_apart():
    """The share of p below 0.1 among equal entries is about 0.1; unpaired ones have fewer."""
    few = {"paired": 0, "unpaired": 0}
    for seed in range(30):
        equal = world({FT: 0.1, LP: 0.1}, seed, noise=0.3, sizes=FORTY)
        for way, predictions in (("paired", equal.predictions), ("unpaired", None)):
            found = compare(equal.results(predictions), "m:ft", "m:lp").overall
            few[way] += found.tested is not None and found.tested.p < 0.1
    assert few["unpaired"] <= few["paired"] <= 8, "0.1 of 30, and three standard errors"


# Holes


def test_what_is_missing_is_named_and_not_tested(made):
    results = made.results()
    lost = results.accuracies
    is_lost = lost["method"].eq("lp") & lost["downstream"].eq("a") & lost["eval_dataset"].eq("b")
    found = compare(replace(results, accuracies=lost[~is_lost]), "m:ft", "m:lp")
    assert found.missing == ["b", "mRI"]
    assert by_name(found)["b"].tested is None
    assert by_name(found)["a"].p_holm is not None
    assert "not there yet: b, mRI" in " ".join(shown(found))
    record = comparison_record(found)
    assert record["missing"] == ["b", "mRI"]
    assert record["overall"]["p"] is None


# What is printed


def shown(found: Comparison) -> list[str]:
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(comparison_table(found))
    return [" ".join(line.split()) for line in console.export_text().splitlines()]


def test_the_table(paired, unpaired):
    lines = shown(paired)
    assert lines[0] == "m:ft (A) against m:lp (B)"
    assert lines[2] == "on A B A - B 95% interval images test p Holm p"
    on_c = next(line for line in lines if line.startswith("c†"))
    assert "60 paired bootstrap" in on_c
    text = " ".join(lines)
    assert "scoring: each set over its own classes" in text
    assert "† contaminated: a model tuned on one of id, b, c" in text
    assert "unpaired" not in text
    assert "unpaired: predictions of both are not kept" in " ".join(shown(unpaired))


def test_the_table_of_two_cells(made):
    found = compare(made.results(made.predictions), "m:ft", "m:lp", "a")
    lines = shown(found)
    assert lines[0] == "m:ft (A) against m:lp (B), fine-tuned on a"
    b, c = by_name(found)["b"].discordant or (0, 0)
    assert any(f"McNemar, exact ({b}:{c})" in line for line in lines)
    assert any("in brackets: images that only A gets right" in line for line in lines)
    assert "contaminated" not in " ".join(lines), "a shares its images with no set"


def test_the_record_is_json_with_all_of_it(paired):
    record = json.loads(json.dumps(comparison_record(paired)))
    assert (record["first"], record["second"], record["downstream"]) == ("m:ft", "m:lp", None)
    assert (record["scoring"], record["missing"]) == ("masked", [])
    on_b = record["by_set"][2]
    one = by_name(paired)["b"]
    assert on_b["what"] == "b"
    assert (on_b["difference"], on_b["low"], on_b["p_holm"]) == (
        one.difference,
        one.low,
        one.p_holm,
    )
    assert (on_b["images"], on_b["test"], on_b["contaminated"]) == (60, BOOTSTRAP, True)
