"""The leaderboard of results, written in any format."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from rich.table import Table

from orchestrator.report import frames, matrices, tables
from orchestrator.report.latex import leaderboard_latex
from orchestrator.results import Results


def written(results: Results, board: pd.DataFrame, form: str) -> str | bytes | list[Table]:
    """Write a leaderboard in a format of `rib report`."""
    sets, remarks = results.sets, results.remarks
    title = f"{results.source}: mRI in points"

    def frame() -> pd.DataFrame:
        return frames.leaderboard_frame(board, remarks)

    writers: dict[str, Callable[[], str | bytes | list[Table]]] = {
        "table": lambda: [tables.leaderboard_table(board, sets, title, remarks)],
        "md": lambda: tables.leaderboard_markdown(board, sets, remarks),
        "csv": lambda: frames.to_csv(frame()),
        "json": lambda: frames.to_json(frame()),
        "parquet": lambda: frames.to_parquet(frame()),
        "latex": lambda: _latex(results, board),
    }
    return writers[form]()


def _latex(results: Results, board: pd.DataFrame) -> str:
    """Write the leaderboard, and below it the matrices in the shape of the paper's tables."""
    head = leaderboard_latex(board, results.sets, results.remarks)
    if board.empty:
        return head
    below = matrices.written(matrices.matrices(results, None, None), "latex")
    return f"{head}\n{below!s}"
