"""The accuracy matrices of results, each ready to be written in any format."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.table import Table

from orchestrator.matrix import Matrix
from orchestrator.remarks import Remarks
from orchestrator.report import frames, tables
from orchestrator.report.latex import matrices_latex
from orchestrator.report.numbers import half_width, points
from orchestrator.results import Results
from workers.errors import Problem, UserError, nearest


@dataclass(frozen=True)
class MatrixReport:
    """The accuracy matrix of one model and method, with its baseline and RI."""

    matrix: Matrix
    remarks: Remarks
    """Of this model."""

    @property
    def title(self) -> str:
        numbers = self.matrix.numbers
        mri = " ".join(filter(None, [points(numbers["mRI"]), half_width(numbers, "mRI")]))
        entry = f"{self.matrix.model} · {self.matrix.method}"
        return f"{entry}: mRI {mri} (accuracy in percent, RI in points)"

    @property
    def missing(self) -> list[str]:
        """What RI and mRI lack."""
        return self.matrix.missing

    def frame(self) -> pd.DataFrame:
        return frames.matrix_frame(self.matrix, self.remarks)

    def table(self) -> Table:
        return tables.matrix_table(self.matrix, self.title, self.remarks)

    def markdown(self) -> str:
        return f"### {self.title}\n\n{tables.matrix_markdown(self.matrix, self.remarks)}"

    def record(self) -> dict[str, Any]:
        """Return the matrix for JSON."""
        numbers = self.matrix.numbers
        of_all = ["model", "method", "scoring", "canary"]
        mri = {name: numbers[name] for name in ("mRI", "mRI low", "mRI high", "mRI sd")}
        return {
            "model": self.matrix.model,
            "method": self.matrix.method,
            **{name: None if pd.isna(value) else value for name, value in mri.items()},
            "interval": numbers["interval"],
            "missing": self.missing,
            "scoring": self.remarks.scoring,
            "canary": self.remarks.verdict(self.matrix.model),
            "rows": json.loads(frames.to_json(self.frame().drop(columns=of_all))),
        }


def written(found: Sequence[MatrixReport], form: str) -> str | bytes | list[Table]:
    """Write matrices in a format of `rib matrix`."""
    writers: dict[str, Callable[[], str | bytes | list[Table]]] = {
        "table": lambda: [one.table() for one in found],
        "md": lambda: "\n".join(one.markdown() for one in found),
        "csv": lambda: frames.to_csv(_together(found)),
        "json": lambda: json.dumps([one.record() for one in found], indent=2, ensure_ascii=False),
        "parquet": lambda: frames.to_parquet(_together(found)),
        "latex": lambda: "\n".join(_latex(found)),
    }
    return writers[form]()


def _together(found: Sequence[MatrixReport]) -> pd.DataFrame:
    return pd.concat([one.frame() for one in found], ignore_index=True)


def _latex(found: Sequence[MatrixReport]) -> Iterator[str]:
    """Write a table for each model."""
    for model in dict.fromkeys(one.matrix.model for one in found):
        of_model = [one for one in found if one.matrix.model == model]
        yield matrices_latex([one.matrix for one in of_model], of_model[0].remarks)


def matrices(results: Results, model: str | None, method: str | None) -> list[MatrixReport]:
    """Return the matrix of every model and method, or of those asked for.

    Raises:
        UserError: when there is none.
    """
    found = results.matrices()
    problems = []
    for flag, wanted, names in (
        ("--model", model, {one.model for one in found}),
        ("--method", method, {one.method for one in found}),
    ):
        if wanted is not None and wanted not in names:
            problems.append(Problem(flag, f"there is no {wanted!r} here", nearest(wanted, names)))
    if not found:
        problems.append(Problem(results.source, "no model has been fine-tuned here"))
    if problems:
        raise UserError(problems)
    return [
        MatrixReport(one, results.remarks.of_model(one.model))
        for one in found
        if model in (None, one.model) and method in (None, one.method)
    ]
