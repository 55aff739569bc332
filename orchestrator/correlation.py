"""Correlations of few points, with intervals; refused where there are too few. Pure.

Pearson's r has Fisher's interval, tanh(atanh(r) ± z / sqrt(n - 3)) (Fisher 1921), which SciPy
computes. Spearman's rho has the same with the standard error sqrt((1 + rho^2 / 2) / (n - 3)) of
Bonett and Wright 2000 (Psychometrika 65:23-28), an approximation that is good for |rho| up to 0.95.
Both take the points for independent draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from orchestrator.statistics import CONFIDENCE

MIN_POINTS = 4
"""With three points the intervals are the whole line."""


@dataclass(frozen=True)
class Coefficient:
    """A correlation coefficient and its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Correlation:
    """How two quantities go together."""

    n: int
    pearson: Coefficient | None = None
    spearman: Coefficient | None = None
    refusal: str = ""
    """Why there are no coefficients."""


def correlate(
    x: Sequence[float], y: Sequence[float], confidence: float = CONFIDENCE
) -> Correlation:
    """Correlate finite values, pair by pair.

    Args:
        x: n values.
        y: n values.
        confidence: of the intervals.

    Raises:
        ValueError: when a value is not finite.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("only finite values can be correlated")
    n = len(a)
    if n < MIN_POINTS:
        return Correlation(n, refusal=f"{n} of the {MIN_POINTS} points that it takes")
    if a.min() == a.max() or b.min() == b.max():
        return Correlation(n, refusal="all values are equal")
    pearson = stats.pearsonr(a, b)
    low, high = pearson.confidence_interval(confidence)
    rho = float(stats.spearmanr(a, b).statistic)
    return Correlation(
        n,
        Coefficient(float(pearson.statistic), float(low), float(high)),
        _with_bonett_wright(rho, n, confidence),
    )


def _with_bonett_wright(rho: float, n: int, confidence: float) -> Coefficient:
    if math.isclose(abs(rho), 1.0):
        return Coefficient(rho, rho, rho)
    half = special.ndtri((1 + confidence) / 2) * math.sqrt((1 + rho**2 / 2) / (n - 3))
    centre = math.atanh(rho)
    return Coefficient(rho, math.tanh(centre - half), math.tanh(centre + half))
