"""How numbers are written for people: signs, decimals, a dash for what is missing."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

DASH = "—"

DECIMALS = {"mRI": 2, "RI": 2}
"""Of RI in points; accuracies in percent have one."""


def points(value: Any) -> str:
    """Write an RI: a sign and two decimals."""
    return DASH if pd.isna(value) else f"{value:+z.2f}"


def drop(value: Any) -> str:
    """Write a difference of accuracies: a sign and one decimal."""
    return DASH if pd.isna(value) else f"{value:+z.1f}"


def percent(value: Any) -> str:
    """Write an accuracy: one decimal."""
    return DASH if pd.isna(value) else f"{value:.1f}"


def rank_range(row: Mapping[Hashable, Any]) -> str:
    """Write the places that an entry's interval leaves it, or its place where there is none."""
    if pd.isna(row["rank"]):
        return DASH
    low, high = row["rank low"], row["rank high"]
    if pd.isna(low):
        return str(row["rank"])
    return str(low) if low == high else f"{low}-{high}"


def half_width(row: Mapping[Hashable, Any], name: str) -> str:
    """Write the longer half of a number's interval, "" where it has none."""
    value, low, high = row[name], row.get(f"{name} low"), row.get(f"{name} high")
    if pd.isna(value) or pd.isna(low):
        return ""
    return f"±{max(value - low, high - value):.{decimals(name)}f}"


def deviation(row: Mapping[Hashable, Any], name: str) -> str:
    """Write a number's standard deviation over seeds, "" where it has none."""
    value = row.get(f"{name} sd")
    return "" if pd.isna(value) else f"σ{value:.{decimals(name)}f}"


def decimals(name: str) -> int:
    """Return how many decimals a column of a leaderboard has."""
    return DECIMALS.get(name.split(" ")[0], 1)
