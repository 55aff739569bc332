r"""Leaderboards and accuracy matrices as LaTeX, for papers: booktabs, one table per model.

Each text is a fragment for \input; its first line names the packages that it needs. What comes
from a store is escaped. Formats what was computed and computes nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from orchestrator.leaderboard import number_columns
from orchestrator.matrix import Matrix
from orchestrator.remarks import Remarks
from orchestrator.report.numbers import DASH, deviation, half_width, percent, points, rank_range
from orchestrator.report.tables import (
    column_marks,
    leaderboard_notes,
    matrix_notes,
    short_names,
    write_number,
)
from orchestrator.set_names import SetNames

PREAMBLE = "% \\usepackage{booktabs} \\usepackage{xcolor}"
MISSING = "n/a"
DIAGONAL = "--"

_DROP = "\\definecolor{ribdrop}{HTML}{B2182B}"
_SPECIAL = {
    "\\": "\\textbackslash{}",
    "{": "\\{",
    "}": "\\}",
    "$": "\\$",
    "&": "\\&",
    "#": "\\#",
    "_": "\\_",
    "%": "\\%",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "|": "\\textbar{}",
    '"': "''",
    "\n": " ",
    "†": "$^\\dagger$",
    "±": "$\\pm$",
    "σ": "$\\sigma$",
    "·": "$\\cdot$",
    "—": "---",
}


def escape(text: str) -> str:
    """Write plain text so that LaTeX prints it as it is."""
    arrows = text.split("->")
    return "$\\rightarrow$".join("".join(_SPECIAL.get(c, c) for c in part) for part in arrows)


def leaderboard_latex(board: pd.DataFrame, sets: SetNames, remarks: Remarks) -> str:
    """Write a leaderboard as a LaTeX table: mRI with its interval, each RI, ID and its drop."""
    marks = column_marks(sets, remarks)
    columns = [name for name in number_columns(sets) if name not in ("downstream", "OOD")]
    short = dict(zip((f"RI {name}" for name in sets.names), short_names(sets), strict=True))
    headers = [f"{short.get(name, name)}{marks[name]}" for name in columns]
    is_ranked = board["rank"].notna()
    groups = [board[is_ranked], board[~is_ranked]]
    rows = [
        [_board_row(row, columns) for row in group.to_dict("records")]
        for group in groups
        if not group.empty
    ]
    caption = (
        "RI and mRI in points, ID accuracy in percent; by mRI. "
        "In colour: below the model as it came."
    )
    notes = leaderboard_notes(board, False, remarks)
    head = [escape(name) for name in ("#", "Method", "Model", *headers)]
    return _table("rll" + "r" * len(columns), head, rows, caption, notes)


def matrices_latex(matrices: Sequence[Matrix], remarks: Remarks) -> str:
    """Write the matrices of one model in the shape of the paper's tables.

    Args:
        matrices: one per method, of one model.
        remarks: of this model.
    """
    first = matrices[0]
    sets = first.sets
    id_name, *ood = short_names(sets)
    before = ["Pretrained", DIAGONAL, *map(_accuracy, first.baseline), ""]
    best = _best(matrices)
    rows = [[before]]
    for k, one in enumerate(matrices):
        labels = [escape(one.method), f"mRI {_mri(one.numbers)}"]
        labels += [""] * (len(sets.ood) - len(labels))
        rows.append(
            [
                [label, escape(ood[i]), *_matrix_row(one, i, best[k, i], remarks)]
                for i, label in enumerate(labels)
            ]
        )
    caption = (
        f"{escape(first.model)}: accuracy in percent after fine-tuning on each downstream set, and "
        "RI in points. In bold: the best method of a downstream set. "
        "In colour: below the model as it came."
    )
    notes = list(dict.fromkeys(note for one in matrices for note in matrix_notes(one, remarks)))
    head = ["Method", "Downstream", *(escape(name) for name in (f"{id_name} (ID)", *ood, "RI"))]
    return _table("ll" + "r" * (len(sets.names) + 1), head, rows, caption, notes)


def _board_row(row: Mapping[Hashable, Any], columns: Sequence[str]) -> list[str]:
    cells = []
    for name in columns:
        is_drop = row[name] > 0 if name == "ID drop" else name != "ID" and row[name] < 0
        cells.append(_number(write_number(row, name), is_drop))
    cells[0] = " ".join(filter(None, [cells[0], *_beside(row, "mRI")]))
    rank = DIAGONAL if pd.isna(row["rank"]) else rank_range(row)
    return [rank, escape(row["method"]), escape(row["model"]), *cells]


def _beside(row: Mapping[Hashable, Any], name: str) -> list[str]:
    beside = filter(None, [half_width(row, name), deviation(row, name)])
    return [f"{{\\scriptsize {escape(text)}}}" for text in beside]


def _mri(numbers: Mapping[Hashable, Any]) -> str:
    mri = numbers["mRI"]
    return " ".join([_number(points(mri), mri < 0), *_beside(numbers, "mRI")])


def _matrix_row(matrix: Matrix, i: int, best: Sequence[bool], remarks: Remarks) -> list[str]:
    """Write what a matrix holds of its i-th downstream set."""
    sets, downstream = matrix.sets, matrix.sets.ood[i]
    cells = []
    for k, name in enumerate(sets.names):
        if name == downstream:
            cells.append(DIAGONAL)
            continue
        value = matrix.accuracy[i, k]
        mark = remarks.contamination.mark(downstream, [name])
        cells.append(_number(percent(value), value < matrix.baseline[k], best[k], mark))
    ri = matrix.numbers[f"RI {downstream}"]
    mark = remarks.contamination.mark(downstream, sets.ood)
    return [*cells, _number(points(ri), ri < 0, best[-1], mark)]


def _best(matrices: Sequence[Matrix]) -> NDArray[np.bool_]:
    """Tell which method is best, as it is shown: (methods, n, 1 + n and RI). One alone is not."""
    sets = matrices[0].sets
    shown = np.stack(
        [
            np.column_stack(
                [one.accuracy.round(1), [round(one.numbers[f"RI {name}"], 2) for name in sets.ood]]
            )
            for one in matrices
        ]
    )
    known = np.where(np.isnan(shown), -np.inf, shown)
    is_best = (known == known.max(axis=0)) & (known > -np.inf)
    return np.asarray(is_best & (len(matrices) > 1))


def _accuracy(value: float) -> str:
    return _number(percent(value))


def _number(text: str, is_drop: bool = False, is_best: bool = False, mark: str = "") -> str:
    if text == DASH:
        return MISSING
    number = text.replace("-", "$-$", 1) if text.startswith("-") else text
    if is_best:
        number = f"\\textbf{{{number}}}"
    if is_drop:
        number = f"\\textcolor{{ribdrop}}{{{number}}}"
    return number + escape(mark)


def _table(
    columns: str,
    head: Sequence[str],
    groups: Sequence[Sequence[Sequence[str]]],
    caption: str,
    notes: Sequence[str],
) -> str:
    """Lay out a table: rules between groups of rows, notes below."""
    body = "\\midrule\n".join(
        "".join(" & ".join(row) + " \\\\\n" for row in group) for group in groups
    )
    said = "".join(f"\\par {escape(note)}\n" for note in notes)
    return (
        f"{PREAMBLE}\n"
        f"{_DROP}\n"
        "\\begin{table*}\n"
        "\\centering\\scriptsize\\setlength{\\tabcolsep}{3pt}\n"
        f"\\caption{{{caption}}}\n"
        f"\\begin{{tabular}}{{{columns}}}\n"
        "\\toprule\n"
        f"{' & '.join(head)} \\\\\n"
        "\\midrule\n"
        f"{body}"
        "\\bottomrule\n"
        "\\end{tabular}\n"
        "\\begin{flushleft}\n"
        f"{said}"
        "\\end{flushleft}\n"
        "\\end{table*}\n"
    )
