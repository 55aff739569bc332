"""What stands beside the numbers of a leaderboard: intervals, deviations, ranges of ranks."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from orchestrator.accuracies import ACCURACY_COLUMNS, IMAGES
from orchestrator.leaderboard import leaderboard, number_columns
from orchestrator.matrix import matrices
from orchestrator.ranks import certainly_better_paired, rank_ranges
from orchestrator.set_names import IMAGENET_RIB, SetNames

SETS = SetNames("id", ("a", "b", "c"))
SIZES = {"id": 500, "a": 200, "b": 1000, "c": 400}
N = len(SETS.ood)


def counted(counts: dict[tuple[str, str, int, str | None, str], int]) -> pd.DataFrame:
    """Accuracies of counts: (model, method, seed, downstream, set) -> right ones."""
    rows = [(*key, 100 * k / SIZES[key[-1]], SIZES[key[-1]]) for key, k in counts.items()]
    return pd.DataFrame(rows, columns=[*ACCURACY_COLUMNS, IMAGES])


def entry(
    share: float, model: str = "m", method: str = "ft", seeds: int = 1, before: float = 0.5
) -> pd.DataFrame:
    """A model and method that is right on one share everywhere."""
    counts = {(model, "pretrained", 0, None, j): round(before * SIZES[j]) for j in SETS.names}
    for seed in range(seeds):
        for i in SETS.ood:
            for j in SETS.names:
                counts[model, method, seed, i, j] = round(share * SIZES[j])
    return counted(counts)


def random_counts(seed: int, seeds: int = 2) -> dict[tuple[str, str, int, str | None, str], int]:
    generator = np.random.default_rng(seed)
    draw = {j: lambda j=j: int(generator.integers(0, SIZES[j] + 1)) for j in SETS.names}
    counts = {("m", "pretrained", 0, None, j): draw[j]() for j in SETS.names}
    counts |= {
        ("m", "ft", s, i, j): draw[j]() for s in range(seeds) for i in SETS.ood for j in SETS.names
    }
    return counts


def limits(k: float, n: int) -> tuple[float, float]:
    """Wilson's distances from k / n, by scipy where it can: k need not be whole here."""
    z = stats.norm.ppf(0.975)
    p = k / n
    if float(k).is_integer():
        found = stats.binomtest(int(k), n).proportion_ci(0.95, method="wilson")
        return p - found.low, found.high - p
    centre = (k + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(k * (n - k) / n + z * z / 4)
    return p - (centre - half), centre + half - p


def plain_limits(
    counts: dict[tuple[str, str, int, str | None, str], int],
    downstream: tuple[str, ...],
    strata: dict[str, str],
) -> tuple[float, float]:
    """Distances of mRI's limits (of RI's with one downstream set), written out in loops."""
    totals: dict[str, list[float]] = {"below": [], "above": []}
    for k, side in enumerate(("below", "above")):
        parts: dict[tuple[str, str], float] = {}
        for j in SETS.ood:
            others = [i for i in downstream if i != j]
            if not others:
                continue
            weight = len(others) / len(downstream) / (N - 1)
            right = [counts["m", "ft", s, i, j] for i in others for s in (0, 1)]
            tuned = limits(sum(right) / len(right), SIZES[j])[k]
            before = limits(counts["m", "pretrained", 0, None, j], SIZES[j])[1 - k]
            for what, distance in (("tuned", tuned), ("before", before)):
                key = (what, strata.get(j, j))
                parts[key] = parts.get(key, 0.0) + weight * distance
        totals[side].append(100 * math.sqrt(sum(part**2 for part in parts.values())))
    return totals["below"][0], totals["above"][0]


@pytest.mark.parametrize("strata", [{}, {"b": "val", "c": "val"}], ids=["apart", "shared"])
@pytest.mark.parametrize("seed", range(3))
def test_the_intervals_of_mri_and_ri_are_those_of_the_formula(seed, strata):
    counts = random_counts(seed)
    board = leaderboard(counted(counts), SETS, sources=strata).iloc[0]
    for name, downstream in [("mRI", SETS.ood), *((f"RI {i}", (i,)) for i in SETS.ood)]:
        below, above = plain_limits(counts, downstream, strata)
        assert board[name] - board[f"{name} low"] == pytest.approx(below)
        assert board[f"{name} high"] - board[name] == pytest.approx(above)
    assert board["interval"] == "counts"


def test_an_interval_of_shared_images_is_wider():
    accuracies = entry(0.6)
    apart = leaderboard(accuracies, SETS).iloc[0]
    shared = leaderboard(accuracies, SETS, sources={"b": "a", "c": "a"}).iloc[0]
    assert shared["mRI low"] < apart["mRI low"] < apart["mRI high"] < shared["mRI high"]
    assert shared["ID low"] == apart["ID low"]


def test_the_interval_of_the_id_accuracy_is_wilsons_of_its_mean():
    board = leaderboard(entry(0.82), SETS).iloc[0]
    expected = stats.binomtest(410, 500).proportion_ci(0.95, method="wilson")
    assert (board["ID low"], board["ID high"]) == pytest.approx(
        (100 * expected.low, 100 * expected.high)
    )
    before = stats.binomtest(250, 500).proportion_ci(0.95, method="wilson")
    low = board["ID drop"] - 100 * math.hypot(0.5 - before.low, expected.high - 0.82)
    assert board["ID drop low"] == pytest.approx(low)


def test_the_downstream_and_the_ood_mean():
    board = leaderboard(entry(0.6), SETS).iloc[0]
    each = [limits(round(0.6 * SIZES[j]), SIZES[j])[0] for j in SETS.ood]
    below = 100 * math.sqrt(sum((one / N) ** 2 for one in each))
    for name in ("downstream", "OOD"):
        assert board[name] - board[f"{name} low"] == pytest.approx(below)


def test_deviations_are_those_of_samples_over_seeds():
    counts = random_counts(7, seeds=3)
    accuracies = counted(counts)
    board = leaderboard(accuracies, SETS).iloc[0]
    alone = [
        leaderboard(accuracies[accuracies["seed"].eq(s) | accuracies["method"].ne("ft")], SETS)
        for s in range(3)
    ]
    for name in number_columns(SETS):
        values = [one.at[0, name] for one in alone]
        assert board[name] == pytest.approx(statistics.mean(values))
        assert board[f"{name} sd"] == pytest.approx(statistics.stdev(values))
        assert math.isnan(alone[0].at[0, f"{name} sd"]), "one seed has no deviation"


def test_seeds_are_of_the_same_images_and_make_no_interval_narrower():
    one, four = (leaderboard(entry(0.6, seeds=n), SETS).iloc[0] for n in (1, 4))
    for name in number_columns(SETS):
        assert four[f"{name} low"] == pytest.approx(one[f"{name} low"])


def test_images_that_were_left_out_count_for_every_seed():
    accuracies = entry(0.6, seeds=2)
    second = accuracies["seed"].eq(1) & accuracies["eval_dataset"].eq("a")
    fewer = accuracies.assign(**{IMAGES: accuracies[IMAGES].mask(second, 50)})
    assert (
        leaderboard(fewer, SETS).at[0, "mRI low"] < leaderboard(accuracies, SETS).at[0, "mRI low"]
    )


def test_a_table_without_counts_has_no_intervals_and_plain_ranks():
    both = pd.concat([entry(0.6), entry(0.7, method="lp")]).drop(columns=IMAGES)
    board = leaderboard(both, SETS)
    assert board["rank"].tolist() == [1, 2]
    assert board[["rank low", "rank high", "mRI low", "interval"]].isna().all(axis=None)


def test_a_hole_leaves_the_intervals_of_what_it_is_no_part_of():
    accuracies = entry(0.6)
    hole = accuracies["downstream"].eq("a") & accuracies["eval_dataset"].eq("b")
    board = leaderboard(accuracies[~hole], SETS).iloc[0]
    assert board[["mRI low", "RI a high", "OOD low", "rank low", "interval"]].isna().all()
    assert board[["RI b low", "RI c high", "ID low", "downstream high"]].notna().all()


# Ranks


def places(*boards: pd.DataFrame) -> dict[str, tuple[int, int]]:
    board = leaderboard(pd.concat(boards).drop_duplicates(), SETS)
    return {row["method"]: (row["rank low"], row["rank high"]) for row in board.to_dict("records")}


def test_what_is_far_apart_has_a_place_and_what_is_near_shares_some():
    far = places(entry(0.9, method="x"), entry(0.6, method="y"), entry(0.2, method="z"))
    assert far == {"x": (1, 1), "y": (2, 2), "z": (3, 3)}
    near = places(entry(0.9, method="x"), entry(0.61, method="y"), entry(0.6, method="z"))
    assert near == {"x": (1, 1), "y": (2, 3), "z": (2, 3)}
    assert places(entry(0.9, method="x")) == {"x": (1, 1)}


def test_between_two_that_differ_one_may_be_tied_with_both():
    found = places(entry(0.65, method="x"), entry(0.61, method="y"), entry(0.57, method="z"))
    assert found == {"x": (1, 2), "y": (1, 3), "z": (2, 3)}


def test_the_baseline_drops_out_of_a_difference_within_one_model():
    """Two gains of 5 points differ for certain only where the baseline is the same."""
    one = [entry(0.65, method="x"), entry(0.60, method="y")]
    two = [entry(0.65, method="x"), entry(0.60, "n", method="y")]
    assert places(*one) == {"x": (1, 1), "y": (2, 2)}
    assert places(*two) == {"x": (1, 2), "y": (1, 2)}


def test_incomplete_entries_take_no_place():
    broken = entry(0.95, method="z")
    broken = broken[~(broken["downstream"].eq("a") & broken["eval_dataset"].eq("b"))]
    found = places(entry(0.9, method="x"), entry(0.2, method="y"), broken)
    assert found == {"x": (1, 1), "y": (2, 2), "z": (None, None)}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("mn"), st.floats(0, 1)), min_size=1, max_size=6))
def test_ranges_hold_the_rank_and_begin_at_1_and_end_at_the_last(entries):
    frames = [entry(share, model, f"x{k}") for k, (model, share) in enumerate(entries)]
    board = leaderboard(pd.concat(frames).drop_duplicates(), SETS)
    low, high = board["rank low"], board["rank high"]
    assert (low <= board["rank"]).all()
    assert (board["rank"] <= high).all()
    assert low.min() == 1
    assert high.max() == len(board)
    order = pd.concat(frames[::-1]).drop_duplicates()
    pd.testing.assert_frame_equal(leaderboard(order, SETS), board)


def test_ranges_hold_the_true_places_as_often_as_they_say():
    """Four entries of one model whose true shares are known, on images of their own."""
    generator = np.random.default_rng(5)
    truth = {"w": 0.60, "x": 0.62, "y": 0.64, "z": 0.70}
    place = {"z": 1, "y": 2, "x": 3, "w": 4}
    held = 0
    for _ in range(60):
        counts = {("m", "pretrained", 0, None, j): SIZES[j] // 2 for j in SETS.names}
        for method, p in truth.items():
            for i in SETS.ood:
                for j in SETS.names:
                    counts["m", method, 0, i, j] = generator.binomial(SIZES[j], p)
        board = leaderboard(counted(counts), SETS).set_index("method")
        held += all(
            board.at[method, "rank low"] <= at <= board.at[method, "rank high"]
            for method, at in place.items()
        )
    assert held / 60 >= 0.95


def test_a_paired_comparison_is_the_paired_z_test():
    """Against scipy's paired t, which with so many images is the z test."""
    generator = np.random.default_rng(6)
    scores = generator.normal(0, 1, (2, 2000)) + generator.normal(0, 3, 2000)
    for shift, differs in ((0.02, False), (0.2, True)):
        shifted = scores + np.array([[shift], [0.0]])
        p = stats.ttest_rel(shifted[0], shifted[1]).pvalue
        better = certainly_better_paired([shifted[:, :900], shifted[:, 900:]], 1.96)
        assert bool(better[0, 1]) == differs == (p < 0.05)
        assert not better[1, 0]


def test_rank_ranges_of_who_is_better():
    better = np.array([[0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]], dtype=bool)
    low, high = rank_ranges(better)
    assert low.tolist() == [1, 1, 2, 3]
    assert high.tolist() == [2, 3, 4, 4]


def test_other_entries_change_no_bit_of_a_number():
    generator = np.random.default_rng(12)

    def of(model: str, method: str, seed: int, downstream: str | None) -> list[tuple[object, ...]]:
        return [
            (model, method, seed, downstream, name, generator.uniform(0, 100))
            for name in IMAGENET_RIB.names
        ]

    for n_others in range(6):
        mine = of("m", "pretrained", 0, None)
        mine += [row for i in IMAGENET_RIB.ood for row in of("m", "x", 0, i)]
        others = [
            row for n in range(n_others) for i in IMAGENET_RIB.ood for row in of("m", f"a{n}", 0, i)
        ]
        alone, beside = (
            leaderboard(pd.DataFrame(rows, columns=ACCURACY_COLUMNS), IMAGENET_RIB)
            .set_index("method")
            .loc["x", number_columns(IMAGENET_RIB)]
            for rows in (mine, others + mine)
        )
        assert alone.tolist() == beside.tolist()


# Matrices


def test_the_limits_of_a_matrix_are_wilsons():
    counts = random_counts(11)
    accuracies = counted(counts)
    (found,) = matrices(accuracies, SETS, leaderboard(accuracies, SETS))
    i, j = SETS.ood.index("b"), SETS.names.index("c")
    mean = (counts["m", "ft", 0, "b", "c"] + counts["m", "ft", 1, "b", "c"]) / 2
    below, above = limits(mean, SIZES["c"])
    assert found.accuracy[i, j] == pytest.approx(100 * mean / SIZES["c"])
    assert found.low[i, j] == pytest.approx(found.accuracy[i, j] - 100 * below)
    assert found.high[i, j] == pytest.approx(found.accuracy[i, j] + 100 * above)
    seeds = [100 * counts["m", "ft", s, "b", "c"] / SIZES["c"] for s in (0, 1)]
    assert found.deviation[i, j] == pytest.approx(statistics.stdev(seeds))
    base = counts["m", "pretrained", 0, None, "id"]
    assert found.baseline_low[0] == pytest.approx(100 * (base / 500 - limits(base, 500)[0]))
