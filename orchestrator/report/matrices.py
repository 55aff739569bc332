"""The accuracy matrices of results, each ready to be written in any format."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.table import Table

from orchestrator import reduce
from orchestrator.reduce import SetNames
from orchestrator.remarks import Remarks
from orchestrator.report import tables
from orchestrator.results import Results
from workers.cell import BASELINE
from workers.errors import Problem, UserError, nearest


@dataclass(frozen=True)
class MatrixReport:
    """The accuracy matrix of one model and method, with its baseline and RI."""

    model: str
    method: str
    sets: SetNames
    matrix: pd.DataFrame
    baseline: pd.Series[float]
    improvement: pd.Series[float]
    mean_improvement: float
    remarks: Remarks
    """Of this model."""

    @property
    def title(self) -> str:
        mri = "—" if pd.isna(self.mean_improvement) else f"{self.mean_improvement:+z.2f}"
        return f"{self.model} · {self.method}: mRI {mri} (accuracy in percent, RI in points)"

    @property
    def missing(self) -> list[str]:
        """What RI and mRI lack."""
        return reduce.missing_from_matrix(self.matrix, self.baseline, self.sets)

    @property
    def _frame(self) -> pd.DataFrame:
        frame = tables.matrix_frame(self.matrix, self.baseline, self.improvement, self.remarks)
        frame.insert(0, "method", self.method)
        frame.insert(0, "model", self.model)
        return frame.assign(canary=self.remarks.verdict(self.model))

    def table(self) -> Table:
        return tables.matrix_table(
            self.matrix, self.baseline, self.improvement, self.sets, self.title, self.remarks
        )

    def markdown(self) -> str:
        text = tables.matrix_markdown(
            self.matrix, self.baseline, self.improvement, self.sets, self.remarks
        )
        return f"### {self.title}\n\n{text}"

    def header(self) -> str:
        """Return the first line of the CSV."""
        return tables.to_csv(self._frame.head(0))

    def csv(self) -> str:
        """Return the lines of the CSV below its header."""
        return tables.to_csv(self._frame).split("\n", 1)[1]

    def record(self) -> dict[str, Any]:
        """Return the matrix for JSON."""
        mri = None if pd.isna(self.mean_improvement) else self.mean_improvement
        rows = json.loads(tables.to_json(self._frame.drop(columns=["model", "method", "canary"])))
        return {
            "model": self.model,
            "method": self.method,
            "mRI": mri,
            "missing": self.missing,
            "canary": self.remarks.verdict(self.model),
            "rows": rows,
        }


def matrices(results: Results, model: str | None, method: str | None) -> list[MatrixReport]:
    """Return the matrix of every model and method, or of those asked for.

    Raises:
        UserError: when there is none.
    """
    if results.expected is not None:
        pairs = list(zip(results.expected["model"], results.expected["method"], strict=True))
    else:
        tuned = results.accuracies[results.accuracies["method"] != BASELINE]
        pairs = list(zip(tuned["model"], tuned["method"], strict=True))
    problems = []
    for flag, wanted, names in (
        ("--model", model, {pair[0] for pair in pairs}),
        ("--method", method, {pair[1] for pair in pairs}),
    ):
        if wanted is not None and wanted not in names:
            problems.append(Problem(flag, f"there is no {wanted!r} here", nearest(wanted, names)))
    if not pairs:
        problems.append(Problem(results.source, "no model has been fine-tuned here"))
    if problems:
        raise UserError(problems)
    return [
        _matrix(results, *pair)
        for pair in dict.fromkeys(pairs)
        if model in (None, pair[0]) and method in (None, pair[1])
    ]


def _matrix(results: Results, model: str, method: str) -> MatrixReport:
    sets = results.sets
    matrix = reduce.accuracy_matrix(
        results.accuracies, sets, model, method, expected=results.expected
    )
    baseline = reduce.baseline_row(results.accuracies, sets, model)
    improvement = reduce.robustness_improvement(matrix, baseline, sets)
    mean = reduce.mean_robustness_improvement(improvement, sets)
    remarks = results.remarks.of_model(model)
    return MatrixReport(model, method, sets, matrix, baseline, improvement, mean, remarks)
