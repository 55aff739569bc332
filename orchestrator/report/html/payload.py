"""What the page's script draws from, as JSON: each number once.

Accuracies are there in full, so that the script rounds the very numbers that tables round.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from orchestrator.correlation import Coefficient
from orchestrator.curves import SIDES
from orchestrator.report.tables import short_names
from orchestrator.report_data import Distances, ReportData
from orchestrator.statistics import Floats

DECIMALS = 3
"""Of what only this page shows: curves and intervals, of which there are many."""


def payload(data: ReportData) -> dict[str, Any]:
    """Return plain lists, numbers and names; null stands for what is missing."""
    results = data.results
    contamination = results.remarks.contamination
    sets = results.sets
    return {
        "id": sets.id,
        "sets": list(sets.names),
        "short": short_names(sets),
        "contaminated": {
            name: list(contamination.sets(name)) for name in sets.ood if contamination.sets(name)
        },
        "models": [
            {
                "name": name,
                "pretraining": data.pretraining.get(name, ""),
                "baseline": _numbers(values),
                "ood": _number(data.mean_before(name)),
            }
            for name, values in data.baselines.items()
        ],
        "entries": [_entry(row, data) for row in data.board.to_dict("records")],
        "distances": None if data.distances is None else _distances(data.distances),
        "training": [] if data.run is None else _by_epoch(data.run.training, ["loss", "accuracy"]),
        "curves": [] if data.run is None else _by_epoch(data.run.curves, SIDES),
    }


def _entry(row: dict[Any, Any], data: ReportData) -> dict[str, Any]:
    matrix = data.matrices[row["model"], row["method"]]
    return {
        "model": row["model"],
        "method": row["method"],
        "seeds": row["seeds"],
        "missing": row["missing"],
        "mri": _number(row["mRI"]),
        "ri": [_number(row[f"RI {name}"]) for name in data.results.sets.ood],
        "ood": _number(row["OOD"]),
        "matrix": [_numbers(values) for values in matrix.accuracy],
        "low": [_rounded(values) for values in matrix.low],
        "high": [_rounded(values) for values in matrix.high],
    }


def _distances(distances: Distances) -> dict[str, Any]:
    return {
        "model": distances.model,
        "points": [
            {
                "model": row["model"],
                "method": row["method"],
                "downstream": row["downstream"],
                "otdd": row["otdd"],
                "drop": _number(row["id_drop"]),
            }
            for row in distances.points.to_dict("records")
        ],
        "correlations": [
            {
                "model": model,
                "method": method,
                "n": one.n,
                "refusal": one.refusal,
                "pearson": _limits(one.pearson),
                "spearman": _limits(one.spearman),
            }
            for (model, method), one in distances.correlations.items()
        ],
    }


def _limits(coefficient: Coefficient | None) -> list[float] | None:
    if coefficient is None:
        return None
    return [coefficient.value, coefficient.low, coefficient.high]


def _by_epoch(curves: pd.DataFrame, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return one record per model, method and downstream set, its epochs in order."""
    return [
        {
            "model": model,
            "method": method,
            "downstream": downstream,
            "epoch": rows["epoch"].tolist(),
            **{name: _rounded(rows[name].to_numpy(dtype=np.float64)) for name in columns},
        }
        for (model, method, downstream), rows in curves.groupby(["model", "method", "downstream"])
    ]


def _rounded(values: Floats) -> list[float | None]:
    return _numbers(values.round(DECIMALS))


def _numbers(values: Floats) -> list[float | None]:
    return [_number(value) for value in values.tolist()]


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
