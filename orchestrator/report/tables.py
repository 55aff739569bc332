"""Leaderboards and accuracy matrices as terminal tables, Markdown, CSV and JSON.

Formats what `orchestrator.reduce` computed and computes nothing. For people: RI in points with its
sign and 2 decimals, accuracies in percent with 1, and a dash for what is missing. For programs (CSV
and JSON): full precision, and an empty field or null.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from orchestrator.reduce import BASELINE, SetNames, missing_from_matrix
from orchestrator.remarks import Remarks

DASH = "—"
NO_REMARKS = Remarks()
_NAMED_HOLES = 3
_LISTS = ("missing_cells", "contaminated", "contaminated_cells")


def leaderboard_table(
    frame: pd.DataFrame, sets: SetNames, title: str = "", remarks: Remarks = NO_REMARKS
) -> Table:
    """Lay out a leaderboard for a terminal of 100 columns.

    A model that all entries share stands in the title; the OOD and downstream means are left to
    the other formats.

    Args:
        frame: as from `orchestrator.reduce.leaderboard`.
        sets: the suite's names.
        title: what stands above the table.
        remarks: what is said under it, and which columns are marked.
    """
    models = frame["model"].unique()
    one_model = len(models) == 1
    table = _table(" · ".join(filter(None, [title, *(models if one_model else [])])))
    table.caption = Text("\n".join(_leaderboard_notes(frame, one_model, remarks)))
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("method" if one_model else "method\nmodel", overflow="fold")
    marks = _column_marks(sets, remarks)
    names = {
        f"RI {name}": short for name, short in zip(sets.names, _short_names(sets), strict=True)
    }
    columns = ["mRI", *(f"RI {name}" for name in sets.ood), "ID", "ID drop"]
    headers = [names.get(column, column.replace(" ", "\n")) for column in columns]
    _add_numbers(table, [f"{h}{marks[c]}" for h, c in zip(headers, columns, strict=True)])
    for row in frame.to_dict("records"):
        seeds = f" ({row['seeds']} seeds)" if row["seeds"] > 1 else ""
        label = Text(row["method"] + seeds)
        if not one_model:
            label.append(f"\n{row['model']}", "dim")
        table.add_row(
            _rank(row["rank"]),
            label,
            Text(_points(row["mRI"]), "bold"),
            *(_points(row[f"RI {name}"]) for name in sets.ood),
            _percent(row["ID"]),
            _drop(row["ID drop"]),
        )
    return table


def matrix_table(
    matrix: pd.DataFrame,
    baseline: pd.Series[float],
    ri: pd.Series[float],
    sets: SetNames,
    title: str,
    remarks: Remarks = NO_REMARKS,
) -> Table:
    """Lay out an accuracy matrix for a terminal of 100 columns, the baseline first.

    Args:
        matrix: percents, as from `orchestrator.reduce.accuracy_matrix`.
        baseline: percents, as from `orchestrator.reduce.baseline_row`.
        ri: points, as from `orchestrator.reduce.robustness_improvement`.
        sets: the suite's names.
        title: what stands above the table.
        remarks: what is said under it, and which values are marked.
    """
    id_name, *ood = _short_names(sets)
    table = _table(title)
    table.caption = Text("\n".join(_matrix_notes(matrix, baseline, sets, remarks)))
    table.add_column("fine-tuned on", overflow="fold")
    _add_numbers(table, [f"{id_name} (ID)", *ood, "RI"])
    text = _matrix_text(matrix, baseline, ri, sets, remarks).drop(columns="downstream")
    for label, cells in zip([BASELINE, *ood], text.to_numpy(), strict=True):
        table.add_row(Text(label), *cells)
    return table


def leaderboard_markdown(frame: pd.DataFrame, sets: SetNames, remarks: Remarks = NO_REMARKS) -> str:
    """Write a leaderboard as a Markdown table, with what is missing and remarks under it."""
    writers: dict[str, Callable[[Any], str]] = {
        "rank": _rank,
        "model": str,
        "method": str,
        "mRI": _points,
        **{f"RI {name}": _points for name in sets.ood},
        "ID": _percent,
        "ID drop": _drop,
        "downstream": _percent,
        "OOD": _percent,
        "seeds": str,
        "missing": str,
    }
    marks = _column_marks(sets, remarks)
    text = {
        f"{name}{marks.get(name, '')}": [write(value) for value in frame[name]]
        for name, write in writers.items()
    }
    return to_markdown(pd.DataFrame(text), _leaderboard_notes(frame, False, remarks))


def matrix_markdown(
    matrix: pd.DataFrame,
    baseline: pd.Series[float],
    ri: pd.Series[float],
    sets: SetNames,
    remarks: Remarks = NO_REMARKS,
) -> str:
    """Write an accuracy matrix as a Markdown table, with what is missing and remarks under it."""
    text = _matrix_text(matrix, baseline, ri, sets, remarks)
    return to_markdown(text, _matrix_notes(matrix, baseline, sets, remarks))


def leaderboard_frame(frame: pd.DataFrame, remarks: Remarks) -> pd.DataFrame:
    """Put the remarks beside a leaderboard, for `to_csv` and `to_json`.

    Returns:
        The leaderboard with the columns canary (each model's verdict) and contaminated_cells (the
        cells behind mRI, RI and ID whose accuracy is contaminated).
    """
    contaminated = pd.Series([remarks.contamination.pairs] * len(frame), frame.index, dtype=object)
    return frame.assign(canary=frame["model"].map(remarks.verdict), contaminated_cells=contaminated)


def matrix_frame(
    matrix: pd.DataFrame,
    baseline: pd.Series[float],
    ri: pd.Series[float],
    remarks: Remarks = NO_REMARKS,
) -> pd.DataFrame:
    """Put the baseline, the matrix and RI in one frame, for `to_csv` and `to_json`.

    Returns:
        Column downstream (missing for the baseline, which comes first), a column per evaluation
        set in percent, RI in points (missing for the baseline), and contaminated: the sets whose
        accuracy in this row is.
    """
    frame = pd.concat([baseline.to_frame().T, matrix.assign(RI=ri)])
    downstream = [None, *matrix.index]
    frame.insert(0, "downstream", downstream)
    frame["contaminated"] = [list(remarks.contamination.sets(name)) for name in downstream]
    return frame.reset_index(drop=True)


def to_markdown(text: pd.DataFrame, notes: Sequence[str] = ()) -> str:
    """Write a frame of text as a Markdown table, with a list of notes under it."""
    rows = [list(text.columns), ["---"] * len(text.columns), *text.to_numpy().tolist()]
    lines = ["| " + " | ".join(_escaped(cell) for cell in row) + " |" for row in rows]
    if notes:
        lines += ["", *(f"- {_escaped(note)}" for note in notes)]
    return "\n".join(lines) + "\n"


def to_csv(frame: pd.DataFrame) -> str:
    """Write a leaderboard or a `matrix_frame` as CSV; lists are joined with "; "."""
    flat = frame.copy()
    for name in flat.columns.intersection(list(_LISTS)):
        flat[name] = flat[name].map("; ".join)
    return flat.to_csv(index=False, lineterminator="\n")


def to_json(frame: pd.DataFrame) -> str:
    """Write a leaderboard or a `matrix_frame` as a JSON list of records."""
    plain = frame.astype(object)
    records = plain.where(plain.notna(), None).to_dict("records")
    return json.dumps(records, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _table(title: str) -> Table:
    return Table(
        title=Text(title) if title else None,
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=0,
    )


def _add_numbers(table: Table, headers: Sequence[str]) -> None:
    for header in headers:
        table.add_column(Text(header), justify="right", no_wrap=True)


def _matrix_text(
    matrix: pd.DataFrame,
    baseline: pd.Series[float],
    ri: pd.Series[float],
    sets: SetNames,
    remarks: Remarks,
) -> pd.DataFrame:
    """Write every cell; the diagonal stands in parentheses, as RI leaves it out."""
    mark = remarks.contamination.mark
    rows = [[BASELINE, *(_percent(baseline[name]) for name in sets.names), ""]]
    for downstream in sets.ood:
        cells = [
            _percent(matrix.at[downstream, name]) + mark(downstream, [name]) for name in sets.names
        ]
        diagonal = sets.names.index(downstream)
        cells[diagonal] = f"({cells[diagonal]})"
        rows.append([downstream, *cells, _points(ri[downstream]) + mark(downstream, sets.ood)])
    return pd.DataFrame(rows, columns=["downstream", *sets.names, "RI"])


def _column_marks(sets: SetNames, remarks: Remarks) -> dict[str, str]:
    """Return the mark of each column of a leaderboard that contaminated values go into."""
    of = remarks.contamination
    means = dict.fromkeys(("mRI", "OOD"), of.mark_mean(sets.ood))
    on_id = dict.fromkeys(("ID", "ID drop"), of.mark_mean([sets.id]))
    return {**means, **on_id, **{f"RI {name}": of.mark(name, sets.ood) for name in sets.ood}}


def _leaderboard_notes(frame: pd.DataFrame, one_model: bool, remarks: Remarks) -> list[str]:
    missing = [
        (row["method"] if one_model else f"{row['model']} {row['method']}")
        + f": {_missing(row['missing_cells'])}"
        for row in frame[frame["missing"] > 0].to_dict("records")
    ]
    return [*missing, *remarks.contamination.notes(), *remarks.canary_notes()]


def _matrix_notes(
    matrix: pd.DataFrame, baseline: pd.Series[float], sets: SetNames, remarks: Remarks
) -> list[str]:
    missing = missing_from_matrix(matrix, baseline, sets)
    notes = [_missing(missing)] if missing else []
    return [*notes, *remarks.contamination.notes(), *remarks.canary_notes()]


def _missing(names: Sequence[str]) -> str:
    more = ", …" if len(names) > _NAMED_HOLES else ""
    return f"{len(names)} missing: {', '.join(names[:_NAMED_HOLES])}{more}"


def _short_names(sets: SetNames) -> list[str]:
    """Shorten the set names by the beginning that most of them share, if they stay distinct."""
    names = list(sets.names)
    beginnings = [name[: end.end()] for name in names for end in re.finditer("[-_]", name)]
    if not beginnings:
        return names
    counts = Counter(beginnings)
    prefix = max(counts, key=lambda beginning: (counts[beginning], len(beginning)))
    short = [name.removeprefix(prefix) for name in names]
    shared = counts[prefix] > len(names) / 2
    return short if shared and all(short) and len(set(short)) == len(short) else names


def _rank(rank: Any) -> str:
    return DASH if pd.isna(rank) else str(rank)


def _points(value: Any) -> str:
    return DASH if pd.isna(value) else f"{value:+z.2f}"


def _drop(value: Any) -> str:
    return DASH if pd.isna(value) else f"{value:+z.1f}"


def _percent(value: Any) -> str:
    return DASH if pd.isna(value) else f"{value:.1f}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
