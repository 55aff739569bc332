"""Correlations against their formulas, published figures, and what intervals are for."""

from __future__ import annotations

import math

import numpy as np
import pytest

from orchestrator.correlation import correlate


def test_pearson_has_fishers_interval() -> None:
    """r = 0.8 of 12 points: z = 1.0986 ± 1.96 / sqrt(9), from tanh 0.4453 to tanh 1.7519."""
    generator = np.random.default_rng(0)
    x, e = generator.standard_normal((2, 12))
    x -= x.mean()
    e -= e.mean() + (e @ x) / (x @ x) * x
    y = 0.8 * x / np.linalg.norm(x) + 0.6 * e / np.linalg.norm(e)
    found = correlate(x, y).pearson
    assert found is not None
    assert found.value == pytest.approx(0.8)
    assert (found.low, found.high) == pytest.approx((0.4180, 0.9416), abs=1e-4)


def test_spearman_is_that_of_the_ranks_with_bonett_and_wrights_interval() -> None:
    """1 - 6 sum d^2 / (n (n^2 - 1)), with d^2 summing to 18: 1 - 108 / 504 = 11/14."""
    x = np.arange(8.0)
    ranks = np.array([3, 2, 0, 1, 4, 5, 6, 7])
    assert ((ranks - x) ** 2).sum() == 18
    found = correlate(x, np.exp(ranks)).spearman  # only the order counts
    assert found is not None
    assert found.value == pytest.approx(11 / 14)
    half = 1.959964 * math.sqrt((1 + (11 / 14) ** 2 / 2) / 5)
    expected = (math.tanh(math.atanh(11 / 14) - half), math.tanh(math.atanh(11 / 14) + half))
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-5)


def test_intervals_cover_what_they_are_of() -> None:
    """Of 8 points from a normal distribution with r = 0.5; Spearman's of that is 0.483."""
    generator = np.random.default_rng(1)
    covered = np.zeros(2)
    for _ in range(600):
        x, e = generator.standard_normal((2, 8))
        found = correlate(x, 0.5 * x + math.sqrt(0.75) * e)
        assert found.pearson is not None
        assert found.spearman is not None
        covered[0] += found.pearson.low <= 0.5 <= found.pearson.high
        covered[1] += found.spearman.low <= 6 / math.pi * math.asin(0.25) <= found.spearman.high
    assert (covered / 600 > 0.92).all()
    assert (covered / 600 < 0.985).all()


def test_perfect_order_has_no_spread() -> None:
    found = correlate([1, 2, 3, 4, 5], [10, 20, 30, 40, 50])
    for coefficient in (found.pearson, found.spearman):
        assert coefficient is not None
        assert (coefficient.value, coefficient.high) == pytest.approx((1, 1))


@pytest.mark.parametrize(
    ("x", "y", "why"),
    [
        ([1, 2, 3], [3, 1, 2], "3 of the 4 points"),
        ([], [], "0 of the 4 points"),
        ([1, 1, 1, 1], [1, 2, 3, 4], "all values are equal"),
        ([1, 2, 3, 4], [0, 0, 0, 0], "all values are equal"),
    ],
)
def test_too_little_is_refused(x: list[float], y: list[float], why: str) -> None:
    found = correlate(x, y)
    assert found.pearson is found.spearman is None
    assert why in found.refusal
    assert found.n == len(x)


def test_what_is_not_a_number_is_no_point() -> None:
    with pytest.raises(ValueError, match="finite"):
        correlate([1, 2, 3, math.nan], [1, 2, 3, 4])
