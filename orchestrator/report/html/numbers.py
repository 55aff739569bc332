"""Numbers and names as they stand in a page: with true minus signs, and where lines may end."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup

from orchestrator.report import numbers
from orchestrator.report.numbers import DASH
from orchestrator.report.tables import write_number

MINUS, EN_DASH, THIN_SPACE = "−", "–", "\N{NARROW NO-BREAK SPACE}"

Row = Mapping[Hashable, Any]


def number(row: Row, name: str) -> str:
    """Write a number of a leaderboard's row."""
    return write_number(row, name).replace("-", MINUS)


def beside(row: Row, name: str) -> str:
    """Write what stands beside a number: half its interval, and its deviation over seeds."""
    return " ".join(filter(None, [numbers.half_width(row, name), numbers.deviation(row, name)]))


def places(row: Row) -> str:
    """Write the places that an entry's interval leaves it."""
    return numbers.rank_range(row).replace("-", EN_DASH)


def points(value: float) -> str:
    """Write an RI."""
    return numbers.points(value).replace("-", MINUS)


def count(value: int) -> str:
    """Write a count, its thousands apart."""
    return f"{value:,}".replace(",", THIN_SPACE)


def hours(value: float, most: float) -> str:
    """Write hours with as many decimals as give the largest beside them three digits."""
    if value == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(most)))
    return f"{value:,.{decimals}f}".replace(",", THIN_SPACE)


def gibibytes(value: Any) -> str:
    """Write bytes in GiB."""
    return DASH if pd.isna(value) else f"{value / 2**30:.1f}"


def breakable(name: str) -> Markup:
    """Let a long name end a line after its underscores and dots, as people would read it."""
    parts = re.split(r"(?<=[_.])(?=.)", name)
    return Markup("<wbr>").join(parts)


def raw(value: Any) -> str:
    """Write a number for the script, "" where there is none."""
    return "" if pd.isna(value) else f"{value:.6g}"
