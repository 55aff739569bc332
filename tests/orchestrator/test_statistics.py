"""Intervals and tests of counts, against scipy's own and against what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from orchestrator.statistics import (
    Spread,
    bootstrap,
    bootstrap_p,
    critical_value,
    holm,
    mcnemar,
    normal_p,
    percentiles,
    spread_of_sum,
    two_proportions,
    wilson,
)

Z = critical_value()


def test_critical_values():
    assert pytest.approx(1.959963985) == Z
    assert critical_value(comparisons=5) == pytest.approx(stats.norm.ppf(1 - 0.005))
    assert critical_value(comparisons=0) == Z, "nothing to compare is no reason for less care"


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 50), (50, 50), (7, 10), (791, 1000)])
def test_wilson_is_scipys(k, n):
    expected = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    low, high = wilson(k / n, n, Z)
    assert (float(low), float(high)) == pytest.approx((expected.low, expected.high), abs=1e-12)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 60_000), st.floats(0, 1))
def test_wilson_holds_the_share_and_stays_a_share(n, p):
    low, high = wilson(p, n, Z)
    assert 0 <= low <= p <= high <= 1


def test_wilson_of_what_is_not_known():
    low, high = wilson([math.nan, 0.5], [10, math.nan], Z)
    assert np.isnan([low, high]).all()


def test_the_difference_of_two_shares_is_newcombes():
    """Newcombe 1998, table II, method 10, the first contrast: 56/70 - 48/80."""
    p, q = np.array([56 / 70]), np.array([48 / 80])
    one = np.ones(1)
    spread = spread_of_sum(p, 70 * one, one, [0], Z).minus(spread_of_sum(q, 80 * one, one, [0], Z))
    difference = 0.2
    assert (difference - spread.below, difference + spread.above) == pytest.approx(
        (0.0524, 0.3339), abs=5e-5
    )


def test_shares_of_one_stratum_add_as_they_are_and_strata_as_squares():
    p, n, weights = np.array([0.2, 0.5, 0.9]), np.array([100, 50, 80]), np.array([0.5, 0.25, 0.25])
    low, _ = wilson(p, n, Z)
    a, b, c = weights * (p - low)
    assert spread_of_sum(p, n, weights, [0, 1, 2], Z).below == pytest.approx(
        math.sqrt(a**2 + b**2 + c**2)
    )
    assert spread_of_sum(p, n, weights, [0, 1, 0], Z).below == pytest.approx(math.hypot(a + c, b))


def test_a_share_without_weight_may_be_unknown():
    p, n = np.array([0.2, math.nan]), np.array([100.0, math.nan])
    alone = spread_of_sum(p[:1], n[:1], np.ones(1), [0], Z)
    beside = spread_of_sum(p, n, np.array([1.0, 0.0]), [0, 1], Z)
    assert (beside.below, beside.above) == (alone.below, alone.above)
    assert np.isnan(spread_of_sum(p, n, np.array([0.5, 0.5]), [0, 1], Z).below)


def test_the_interval_of_a_mean_over_splits_covers_it_whatever_their_correlation():
    """A mean of three splits counts as one share of their images: never too narrow."""
    generator = np.random.default_rng(1)
    n, shares = 150, np.array([0.3, 0.6, 0.75])
    for correlation in (0.0, 0.5, 1.0):
        hits = 0
        for _ in range(400):
            same = generator.random((n, 1)) < correlation
            drawn = np.where(same, generator.random((n, 1)), generator.random((n, 3)))
            low, high = wilson((drawn < shares).mean(), n, Z)
            hits += bool(low <= shares.mean() <= high)
        # 0.95 of 400 has a standard error of 0.011.
        assert hits / 400 > 0.92, correlation


def test_spreads_of_differences_turn_around():
    one, other = Spread(np.array(3.0), np.array(5.0)), Spread(np.array(12.0), np.array(4.0))
    there, back = one.minus(other), other.minus(one)
    assert (there.below, there.above) == (5.0, 13.0) == (back.above, back.below)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (5, 5), (3, 12), (20, 4), (0, 24)])
def test_mcnemar_of_few_is_the_exact_binomial_test(b, c):
    expected = stats.binomtest(b, b + c).pvalue if b + c else 1.0
    found = mcnemar(b, c)
    assert (found.test, found.statistic) == ("McNemar, exact", None)
    assert found.p == pytest.approx(expected)


@pytest.mark.parametrize(("b", "c"), [(25, 0), (15, 10), (150, 86), (40, 40), (41, 40)])
def test_mcnemar_of_many_is_chi_squared_with_a_correction(b, c):
    found = mcnemar(b, c)
    statistic = max(abs(b - c) - 1, 0) ** 2 / (b + c)
    assert (found.test, found.statistic) == ("McNemar", pytest.approx(statistic))
    assert found.p == pytest.approx(stats.chi2.sf(statistic, 1))


def test_two_proportions_against_chi_squared():
    found = two_proportions(0.62, 200, 0.5, 150)
    table = [[124, 76], [75, 75]]
    expected = stats.chi2_contingency(table, correction=False)
    assert found.statistic**2 == pytest.approx(expected.statistic)
    assert found.p == pytest.approx(expected.pvalue)
    assert two_proportions(1.0, 20, 1.0, 30).p == 1.0


def test_normal_p():
    assert normal_p(-2.5) == normal_p(2.5) == pytest.approx(2 * stats.norm.sf(2.5))


def test_holm():
    # The smallest times 4, the next times 3 ...; never below the one before, never above 1.
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_lowers_nothing(p):
    adjusted = holm(p)
    assert (adjusted >= np.array(p)).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


def test_the_bootstrap_has_the_mean_and_the_variance_that_follow_from_the_scores():
    generator = np.random.default_rng(2)
    strata = [generator.choice([-1.0, 0.0, 0.0, 1.0], 300), generator.normal(1, 2, 200)]
    drawn = bootstrap(strata, draws=20_000)
    deviation = math.sqrt(sum(len(of) * of.var() for of in strata))
    assert drawn.mean() == pytest.approx(sum(of.sum() for of in strata), abs=deviation / 25)
    assert drawn.std() == pytest.approx(deviation, rel=0.02)
    assert (bootstrap(strata) == bootstrap(strata)).all()


def test_a_paired_bootstrap_covers_what_it_should():
    """Two models, right on 70% and 66%, mostly on the same images."""
    generator = np.random.default_rng(3)
    hits = 0
    for _ in range(300):
        hard = generator.random(400)
        noise = generator.normal(0, 0.05, (2, 400))
        score = (hard + noise[0] < 0.70).astype(float) - (hard + noise[1] < 0.66)
        low, high = percentiles(bootstrap([score / 400], draws=500))
        hits += low <= 0.04 <= high
    assert 0.91 < hits / 300 < 0.985


def test_p_values_of_a_bootstrap():
    assert bootstrap_p(np.full(999, 3.0)) == 2 / 1000, "never 0"
    assert bootstrap_p(np.zeros(999)) == 1.0
    generator = np.random.default_rng(4)
    drawn = generator.normal(2.0, 1.0, 200_000)
    assert bootstrap_p(drawn) == pytest.approx(normal_p(2.0), rel=0.05)
    assert bootstrap_p(-drawn) == bootstrap_p(drawn)
