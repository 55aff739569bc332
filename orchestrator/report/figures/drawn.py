"""A figure, what it shows in words, and the files that it is written to."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.errors import Problem, UserError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from orchestrator.report_data import ReportData

_METADATA: dict[str, dict[str, Any]] = {
    # Without dates and versions the same numbers give the same bytes.
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}

NOTE_HEIGHT = 0.13
"""Of the strip that a note takes, in inches."""


@dataclass(frozen=True)
class Drawn:
    """A figure that is ready to be written."""

    name: str
    """Of its files, without an ending."""
    figure: Figure
    caption: str
    """What it shows, with units."""
    left_out: Sequence[str] = ()
    """What is not drawn since something of it is missing."""

    def write(self, folder: Path) -> list[Path]:
        """Write the figure as PDF and PNG.

        Raises:
            UserError: when a file cannot be written.
        """
        # Layout takes longest; what is placed by it stays where it is.
        self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")
        paths = []
        for ending, metadata in _METADATA.items():
            path = folder / f"{self.name}.{ending}"
            try:
                self.figure.savefig(path, metadata=metadata)
            except OSError as error:
                problem = Problem("--out", f"cannot write {path}: {error.strerror}")
                raise UserError([problem]) from error
            paths.append(path)
        return paths


def note(figure: Figure, left_out: Sequence[str]) -> None:
    """Say in a strip below a figure that something is not drawn."""
    if not left_out:
        return
    strip = NOTE_HEIGHT / figure.get_figheight()
    layout: Any = figure.get_layout_engine()
    layout.set(rect=(0, strip, 1, 1 - strip))
    n = len(left_out)
    what = "one entry is not drawn" if n == 1 else f"{n} entries are not drawn"
    text = f"Incomplete: {what}; see the caption."
    figure.text(0.995, 0.02 / figure.get_figheight(), text, fontsize=6, ha="right", va="bottom")


def over_seeds(data: ReportData, model: str) -> str:
    """Say that numbers are means over seeds, if a model has several."""
    seeds = data.board.loc[data.board["model"] == model, "seeds"]
    return " Means over seeds." if seeds.gt(1).any() else ""


def of_all_seeds(rows: pd.DataFrame, data: ReportData, model: str, method: str) -> pd.DataFrame:
    """Keep the epochs that every seed of an entry has reached."""
    board = data.board
    entry = board[(board["model"] == model) & (board["method"] == method)]
    return rows[rows["seeds"] >= int(entry["seeds"].iloc[0])] if len(entry) else rows


def file_name(*parts: str) -> str:
    """Join names into that of a file; one that had to be changed gets a digest, to be unique."""
    joined = "-".join(parts)
    plain = re.sub(r"[^A-Za-z0-9._+-]+", "_", joined).strip("._") or "figure"
    if plain == joined:
        return plain
    return f"{plain}-{hashlib.sha256(joined.encode()).hexdigest()[:8]}"


def captions(figures: Sequence[Drawn], title: str, notes: Sequence[str]) -> str:
    """Write the captions of some figures as Markdown.

    Args:
        figures: in their order.
        title: of what they show.
        notes: on all of them.
    """
    parts = [f"# {title}\n", "".join(f"- {line}\n" for line in notes)]
    for drawn in figures:
        parts.append(f"## {drawn.name}\n\n{drawn.caption}\n")
        if drawn.left_out:
            parts.append("Not drawn, since something of it is missing:\n")
            parts.append("".join(f"- {line}\n" for line in drawn.left_out))
    return "\n".join(parts)
