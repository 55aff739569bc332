"""Leaderboards and accuracy matrices for people: terminal tables and Markdown.

Formats what `orchestrator.leaderboard` and `orchestrator.matrix` computed and computes nothing. RI
is in points with its sign and 2 decimals, accuracies in percent with 1. Under or beside a number
stands ± the longer half of its 95% interval, and σ, its standard deviation over seeds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from orchestrator.accuracies import BASELINE
from orchestrator.leaderboard import number_columns
from orchestrator.matrix import Matrix
from orchestrator.remarks import Remarks
from orchestrator.report.numbers import (
    deviation,
    drop,
    half_width,
    percent,
    points,
    rank_range,
)
from orchestrator.set_names import SetNames

NO_REMARKS = Remarks()
_NAMED_HOLES = 3

_TOO_WIDE = "from counts: too wide rather than too narrow"


def leaderboard_table(
    board: pd.DataFrame, sets: SetNames, title: str = "", remarks: Remarks = NO_REMARKS
) -> Table:
    """Lay out a leaderboard for a terminal of 100 columns.

    A model that all entries share stands in the title; the OOD and downstream means are left to
    the other formats. Incomplete entries stand apart, below a rule.

    Args:
        board: as from `orchestrator.leaderboard.leaderboard`.
        sets: the suite's names.
        title: what stands above the table.
        remarks: what is said under it, and which columns are marked.
    """
    models = board["model"].unique()
    one_model = len(models) == 1
    table = _table(" · ".join(filter(None, [title, *(models if one_model else [])])))
    table.caption = Text("\n".join(leaderboard_notes(board, one_model, remarks)))
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("method" if one_model else "method\nmodel", overflow="fold")
    marks = column_marks(sets, remarks)
    short = dict(zip((f"RI {name}" for name in sets.names), short_names(sets), strict=True))
    columns = ["mRI", *(f"RI {name}" for name in sets.ood), "ID", "ID drop"]
    headers = [short.get(column, column.replace(" ", "\n")) for column in columns]
    _add_numbers(table, [f"{h}{marks[c]}" for h, c in zip(headers, columns, strict=True)])
    for is_ranked, rows in _by_completeness(board):
        if not is_ranked:
            table.add_section()
        for row in rows:
            cells = [_cell(row, name, "bold" if name == "mRI" else "") for name in columns]
            table.add_row(rank_range(row), _label(row, one_model), *cells)
    return table


def matrix_table(matrix: Matrix, title: str, remarks: Remarks = NO_REMARKS) -> Table:
    """Lay out an accuracy matrix for a terminal of 100 columns, the baseline first.

    Args:
        matrix: with its baseline and the numbers of its entry.
        title: what stands above the table.
        remarks: what is said under it, and which values are marked.
    """
    id_name, *ood = short_names(matrix.sets)
    table = _table(title)
    table.caption = Text("\n".join(matrix_notes(matrix, remarks)))
    table.add_column("fine-tuned on", overflow="fold")
    _add_numbers(table, [f"{id_name} (ID)", *ood, "RI"])
    text = _matrix_text(matrix, remarks).drop(columns="downstream")
    for label, cells in zip([BASELINE, *ood], text.to_numpy(), strict=True):
        table.add_row(Text(label), *cells)
    return table


def leaderboard_markdown(board: pd.DataFrame, sets: SetNames, remarks: Remarks = NO_REMARKS) -> str:
    """Write a leaderboard as Markdown: ranked entries, incomplete ones, what is to be said."""
    notes = leaderboard_notes(board, False, remarks)
    parts = []
    for is_ranked, rows in _by_completeness(board):
        table = to_markdown(_board_text(rows, sets, remarks))
        parts.append(table if is_ranked else f"Incomplete, not ranked:\n\n{table}")
    if not parts:
        parts = [to_markdown(_board_text([], sets, remarks))]
    return "\n".join([*parts, to_list(notes)])


def matrix_markdown(matrix: Matrix, remarks: Remarks = NO_REMARKS) -> str:
    """Write an accuracy matrix as a Markdown table, with what is missing and remarks under it."""
    notes = to_list(matrix_notes(matrix, remarks))
    return f"{to_markdown(_matrix_text(matrix, remarks))}\n{notes}"


def to_markdown(text: pd.DataFrame) -> str:
    """Write a frame of text as a Markdown table."""
    rows = [list(text.columns), ["---"] * len(text.columns), *text.to_numpy().tolist()]
    return "".join("| " + " | ".join(_escaped(cell) for cell in row) + " |\n" for row in rows)


def to_list(notes: Sequence[str]) -> str:
    """Write notes as a Markdown list."""
    return "".join(f"- {_escaped(note)}\n" for note in notes)


def leaderboard_notes(board: pd.DataFrame, one_model: bool, remarks: Remarks) -> list[str]:
    """Say what a leaderboard lacks, what its signs mean, and the remarks; a line each."""
    missing = [
        (row["method"] if one_model else f"{row['model']} {row['method']}")
        + f": {_missing(row['missing_cells'])}"
        for row in board[board["missing"] > 0].to_dict("records")
    ]
    signs = _sign_notes(board["interval"], board["seeds"].max())
    if signs and board["rank"].notna().sum() > 1:
        signs.append("# place by mRI; 2-4: one of these places, the intervals do not tell which")
    return [*missing, *signs, *remarks.notes()]


def matrix_notes(matrix: Matrix, remarks: Remarks) -> list[str]:
    """Say what a matrix lacks, what its signs mean, and the remarks; a line each."""
    missing = [_missing(matrix.missing)] if matrix.missing else []
    numbers = matrix.numbers
    signs = _sign_notes(pd.Series([numbers["interval"]], dtype=object), numbers["seeds"])
    return [*missing, *signs, *remarks.notes()]


def column_marks(sets: SetNames, remarks: Remarks) -> dict[str, str]:
    """Return the mark of each column of a leaderboard that contaminated values go into."""
    of = remarks.contamination
    means = dict.fromkeys(("mRI", "OOD"), of.mark_mean(sets.ood))
    on_id = dict.fromkeys(("ID", "ID drop"), of.mark_mean([sets.id]))
    return {**means, **on_id, **{f"RI {name}": of.mark(name, sets.ood) for name in sets.ood}}


def short_names(sets: SetNames) -> list[str]:
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


def write_number(row: Mapping[Hashable, Any], name: str) -> str:
    """Write a number of a leaderboard's row."""
    if name == "mRI" or name.startswith("RI "):
        return points(row[name])
    return drop(row[name]) if name == "ID drop" else percent(row[name])


def _by_completeness(board: pd.DataFrame) -> list[tuple[bool, list[dict[Hashable, Any]]]]:
    """Return the ranked rows, then the others; neither where there are none."""
    is_ranked = board["rank"].notna()
    parts = [(True, board[is_ranked]), (False, board[~is_ranked])]
    return [(ranked, rows.to_dict("records")) for ranked, rows in parts if not rows.empty]


def _label(row: Mapping[Hashable, Any], one_model: bool) -> Text:
    seeds = f" ({row['seeds']} seeds)" if row["seeds"] > 1 else ""
    label = Text(row["method"] + seeds)
    return label if one_model else label.append(f"\n{row['model']}", "dim")


def _cell(row: Mapping[Hashable, Any], name: str, style: str) -> Text:
    beside = filter(None, [half_width(row, name), deviation(row, name)])
    text = Text(write_number(row, name), style)
    for line in beside:
        text.append(f"\n{line}", "dim not bold")
    return text


def _board_text(
    rows: Sequence[Mapping[Hashable, Any]], sets: SetNames, remarks: Remarks
) -> pd.DataFrame:
    marks = column_marks(sets, remarks)
    writers: dict[str, Callable[[Mapping[Hashable, Any]], str]] = {
        "rank": rank_range,
        "model": lambda row: str(row["model"]),
        "method": lambda row: str(row["method"]),
        **{name: _number_writer(name) for name in number_columns(sets)},
        "seeds": lambda row: str(row["seeds"]),
        "missing": lambda row: str(row["missing"]),
    }
    text = {
        f"{name}{marks.get(name, '')}": list(map(write, rows)) for name, write in writers.items()
    }
    return pd.DataFrame(text)


def _number_writer(name: str) -> Callable[[Mapping[Hashable, Any]], str]:
    def write(row: Mapping[Hashable, Any]) -> str:
        beside = [half_width(row, name), deviation(row, name)]
        return " ".join(filter(None, [write_number(row, name), *beside]))

    return write


def _matrix_text(matrix: Matrix, remarks: Remarks) -> pd.DataFrame:
    """Write every cell; the diagonal stands in parentheses, as RI leaves it out."""
    sets, mark = matrix.sets, remarks.contamination.mark
    rows = [[BASELINE, *map(percent, matrix.baseline), ""]]
    for downstream, values in zip(sets.ood, matrix.accuracy, strict=True):
        cells = [
            percent(value) + mark(downstream, [name])
            for name, value in zip(sets.names, values, strict=True)
        ]
        diagonal = sets.names.index(downstream)
        cells[diagonal] = f"({cells[diagonal]})"
        name = f"RI {downstream}"
        ri = points(matrix.numbers[name]) + mark(downstream, sets.ood)
        rows.append(
            [downstream, *cells, " ".join(filter(None, [ri, half_width(matrix.numbers, name)]))]
        )
    return pd.DataFrame(rows, columns=["downstream", *sets.names, "RI"])


def _sign_notes(intervals: pd.Series, seeds: int) -> list[str]:
    """Say what ± is made from, by the entries' `interval`, and what σ is, where they are shown."""
    bases = set(intervals.dropna())
    if not bases:
        return []
    how = _TOO_WIDE
    if "paired" in bases:
        n = int(intervals.eq("paired").sum())
        others = f" for {n} entries, others {_TOO_WIDE}" if len(bases) > 1 else ""
        how = f"of mRI and RI by a paired bootstrap of predictions{others}"
    notes = [f"± 95% interval over images, {how}"]
    return [*notes, "σ standard deviation over seeds"] if seeds > 1 else notes


def _missing(names: Sequence[str]) -> str:
    more = ", …" if len(names) > _NAMED_HOLES else ""
    return f"{len(names)} missing: {', '.join(names[:_NAMED_HOLES])}{more}"


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


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
