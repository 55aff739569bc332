"""What predictions tell, as a table for people. Computes nothing."""

from __future__ import annotations

from collections.abc import Hashable

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from orchestrator.report.numbers import DASH
from orchestrator.report.safe_text import visible

LABELS = {
    "downstream": "tuned on",
    "eval_dataset": "on",
    "accuracy_percent": "%",
    "n_correct": "right",
    "n_total": "images",
    "calibration_error": "ECE",
    "agreement": "% agree",
}
"""What columns are called that have a longer name in files."""

_DECIMALS = {"kappa": 3, "low": 3, "high": 3, "confidence": 3, "accuracy": 3}
"""Of numbers that are no percents."""


def rescored_table(frame: pd.DataFrame) -> Table:
    """Lay out a frame of `orchestrator.rescoring`; what all rows share stands above them."""
    shared = [name for name in frame if len(frame) > 1 and frame[name].nunique(dropna=False) == 1]
    title = ", ".join(f"{_label(name)}: {_text(name, frame[name].iloc[0])}" for name in shared)
    table = Table(title=Text(title) if title else None, title_justify="left", box=SIMPLE_HEAD)
    table.padding = (0, 1, 0, 0)
    own = frame.drop(columns=shared)
    for name in own:
        is_number = pd.api.types.is_numeric_dtype(own[name])
        table.add_column(_label(name), justify="right" if is_number else "left", overflow="fold")
    for values in own.itertuples(index=False):
        cells = (_text(name, value) for name, value in zip(own, values, strict=True))
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _label(name: Hashable) -> str:
    return LABELS.get(str(name), str(name))


def _text(name: Hashable, value: object) -> str:
    if value is None or value is pd.NA or value != value:
        return DASH
    if isinstance(value, float):
        return f"{value:.{_DECIMALS.get(str(name), 1)}f}"
    return visible(str(value))
