"""The statistics of counts: intervals, tests and the bootstrap. Arrays in, arrays out; pure.

Shares are fractions of 1 throughout. `docs/results.md` says where each is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
"""How often an interval covers what it is of."""

EXACT_BELOW = 25
"""Discordant pairs below which McNemar's test is the exact binomial one: the usual rule."""

DRAWS = 2000
"""Bootstrap samples: the ends of a 95% interval are then estimated from 50 draws each."""

_SEED = 0
_DRAWN_AT_ONCE = 4_000_000


def critical_value(confidence: float = CONFIDENCE, comparisons: int = 1) -> float:
    """Return the z of a two-sided normal interval.

    Args:
        confidence: of all intervals together, such as 0.95.
        comparisons: how many intervals should hold at once (Bonferroni).
    """
    return NormalDist().inv_cdf(1 - (1 - confidence) / (2 * max(comparisons, 1)))


def wilson(share: ArrayLike, n: ArrayLike, z: float) -> tuple[Floats, Floats]:
    """Return the limits of Wilson's score interval of a binomial share.

    (p + z^2 / 2n ± z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n): Wilson 1927, Journal of the
    American Statistical Association 22:209-212.

    Args:
        share: of successes, in [0, 1]; NaN gives NaN.
        n: how many trials, above 0; NaN gives NaN.
        z: of `critical_value`.
    """
    p, n = np.asarray(share, dtype=np.float64), np.asarray(n, dtype=np.float64)
    shrink = 1 / (1 + z**2 / n)
    centre = shrink * (p + z**2 / (2 * n))
    half = shrink * z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return np.minimum(centre - half, p).clip(0, 1), np.maximum(centre + half, p).clip(0, 1)


@dataclass(frozen=True)
class Spread:
    """How far the limits of an interval are from its estimate, below and above: (...)."""

    below: Floats
    above: Floats

    def minus(self, other: Spread) -> Spread:
        """Return the spread of the difference of two independent estimates.

        The distances to the nearer limits add as squares: Newcombe 1998 (Statistics in Medicine
        17:873-890, method 10); Zou, Huang and Zhang 2009 (Computational Statistics and Data
        Analysis 53:1080-1085) for any linear function.
        """
        below = np.hypot(self.below, other.above)
        return Spread(below, np.hypot(self.above, other.below))

    def times(self, factor: float) -> Spread:
        """Return the spread of a positive multiple."""
        return Spread(self.below * factor, self.above * factor)

    @property
    def half(self) -> Floats:
        """The longer of the two distances."""
        return np.maximum(self.below, self.above)


def spread_of_sum(
    share: Floats, n: Floats, weights: Floats, strata: Sequence[int], z: float
) -> Spread:
    """Return the spread of a weighted sum of binomial shares, from Wilson's limits of each.

    Shares of one stratum may be of the same images, and no correlation between them is known: their
    distances add as they are, which is right when they are fully correlated and too wide otherwise.
    Strata are independent: their distances add as squares (see `Spread.minus`).

    Args:
        share: in [0, 1], (..., k).
        n: trials behind each share, (..., k).
        weights: not negative, (..., k); a share of weight 0 may be NaN.
        strata: the stratum of each share, k indices from 0.
        z: of `critical_value`.
    """
    low, high = wilson(share, n, z)
    member = np.eye(max(strata, default=-1) + 1)[list(strata)]

    def total(distance: Floats) -> Floats:
        weighted = np.where(weights == 0, 0.0, weights * distance)
        return np.asarray(np.sqrt(((weighted @ member) ** 2).sum(axis=-1)))

    return Spread(total(share - low), total(high - share))


# ------------------------------------------------------------------------------------ tests


UNPAIRED = "unpaired z"
"""The test of two numbers as if they were of different images."""


@dataclass(frozen=True)
class Tested:
    """What a test of "no difference" says."""

    test: str
    statistic: float | None
    p: float


def mcnemar(only_first: int, only_second: int) -> Tested:
    """Test whether two classifiers are right equally often on the same images.

    McNemar 1947 (Psychometrika 12:153-157). With fewer than EXACT_BELOW discordant images the p
    value is the two-sided exact binomial one; otherwise chi-squared with one degree of freedom and
    the continuity correction of Edwards 1948 (Psychometrika 13:185-187).

    Args:
        only_first: images that only the first gets right.
        only_second: images that only the second gets right.
    """
    discordant = only_first + only_second
    if discordant < EXACT_BELOW:
        fewer = min(only_first, only_second)
        tail = sum(math.comb(discordant, k) for k in range(fewer + 1)) / 2**discordant
        return Tested("McNemar, exact", None, min(1.0, 2 * tail))
    statistic = max(abs(only_first - only_second) - 1, 0) ** 2 / discordant
    return Tested("McNemar", statistic, math.erfc(math.sqrt(statistic / 2)))


def two_proportions(first: float, n_first: int, second: float, n_second: int) -> Tested:
    """Test whether two shares of different images are equal: z with the pooled variance.

    Args:
        first: a share, in [0, 1].
        n_first: images behind it.
        second: the other share.
        n_second: images behind it.
    """
    pooled = (first * n_first + second * n_second) / (n_first + n_second)
    variance = pooled * (1 - pooled) * (1 / n_first + 1 / n_second)
    z = (first - second) / np.sqrt(variance) if variance > 0 else 0.0
    return Tested(UNPAIRED, float(z), normal_p(float(z)))


def normal_p(z: float) -> float:
    """Return the two-sided p value of a standard normal statistic."""
    return math.erfc(abs(z) / math.sqrt(2))


def holm(p: ArrayLike) -> Floats:
    """Adjust p values for being several: Holm 1979 (Scandinavian Journal of Statistics 6:65-70)."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    scaled = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return adjusted


# ------------------------------------------------------------------------------------ bootstrap


def bootstrap(strata: Iterable[Floats], draws: int = DRAWS) -> Floats:
    """Draw a sum over images anew: Efron 1979 (Annals of Statistics 7:1-26), stratified.

    Of each stratum as many images as it has are drawn with replacement. Images with equal scores
    are drawn together, by their multinomial count: the same distribution in a fraction of the time.
    The generator is seeded: the same scores give the same draws.

    Args:
        strata: what each image of a stratum adds to the sum, (images) each.
        draws: how many samples.

    Returns:
        (draws) sums over the images of all strata.
    """
    generator = np.random.default_rng(_SEED)
    sums = np.zeros(draws)
    for scores in strata:
        values, counts = np.unique(scores, return_counts=True)
        share = counts / counts.sum()
        step = max(1, _DRAWN_AT_ONCE // len(values))
        for done in range(0, draws, step):
            some = slice(done, min(done + step, draws))
            size = some.stop - some.start
            sums[some] += generator.multinomial(len(scores), share, size) @ values
    return sums


def percentiles(drawn: Floats, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the limits of the percentile interval of (draws) bootstrapped values."""
    outside = (1 - confidence) / 2
    low, high = np.quantile(drawn, [outside, 1 - outside])
    return float(low), float(high)


def bootstrap_p(drawn: Floats) -> float:
    """Return the two-sided p value of "the value is 0" from its (draws) bootstrapped values.

    Twice the share of draws on the rarer side of 0. The sample itself counts as one draw more, so
    that no p value is 0, as Phipson and Smyth 2010 ask of permutations (Statistical Applications in
    Genetics and Molecular Biology 9:39).
    """
    tail = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return min(1.0, 2 * (tail + 1) / (len(drawn) + 1))
