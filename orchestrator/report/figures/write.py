"""Every figure that can be drawn of a report's data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from orchestrator.report.figures.bars import ood_bars
from orchestrator.report.figures.curves import accuracy_curves
from orchestrator.report.figures.drawn import Drawn, captions
from orchestrator.report.figures.radar import radars
from orchestrator.report.figures.scatter import otdd_scatter
from orchestrator.report.figures.style import looks_of, shown, styled
from orchestrator.report.figures.training import training_curves
from orchestrator.report_data import ReportData
from workers.cell import BASELINE
from workers.errors import Problem, UserError, nearest

CAPTIONS = "captions.md"


def write_figures(
    data: ReportData, out: Path, models: Sequence[str] = (), methods: Sequence[str] = ()
) -> list[Drawn]:
    """Draw what can be drawn, and write it with its captions.

    Args:
        data: of a report.
        out: the folder; it is made if it is not there.
        models: which to draw; all if none is named.
        methods: likewise.

    Returns:
        The figures, in the order of the captions.

    Raises:
        UserError: when matplotlib is not installed, a name is not in the data, nothing is complete
            enough to be drawn, or a file cannot be written.
    """
    drawn_models, drawn_methods = _chosen(data, models, methods)
    if out.exists() and not out.is_dir():
        raise UserError([Problem("--out", f"{out} is a file, not a folder")])
    with styled():
        figures = list(_figures(data, drawn_models, drawn_methods))
        if not figures:
            message = "nothing of it is complete enough for a figure"
            raise UserError([Problem(data.results.source, message, "see rib status")])
        _make_folder(out)
        for drawn in figures:
            drawn.write(out)
        text = captions(figures, shown(data.title), data.results.remarks.notes())
        try:
            (out / CAPTIONS).write_text(text, encoding="utf-8")
        except OSError as error:
            problem = Problem("--out", f"cannot write {out / CAPTIONS}: {error.strerror}")
            raise UserError([problem]) from error
    return figures


def _figures(data: ReportData, models: Sequence[str], methods: Sequence[str]) -> Iterator[Drawn]:
    # By its place among all methods, so that a choice of methods changes no colour.
    looks = {name: look for name, look in looks_of(_methods(data)).items() if name in methods}
    bars = ood_bars(data, models, looks)
    if bars is not None:
        yield bars
    for draw in (radars, accuracy_curves, training_curves, otdd_scatter):
        for model in models:
            drawn = draw(data, model, looks)
            if drawn is not None:
                yield drawn


def _methods(data: ReportData) -> list[str]:
    """Return the methods in the grid's or the table's order."""
    results = data.results
    listed = results.accuracies if results.expected is None else results.expected
    return [name for name in dict.fromkeys(listed["method"]) if name != BASELINE]


def _chosen(
    data: ReportData, models: Sequence[str], methods: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return the models and methods that were asked for, in the data's order.

    Raises:
        UserError: naming each that is not there.
    """
    problems = []
    found = []
    for flag, asked, there in (
        ("--model", models, list(data.baselines)),
        ("--method", methods, _methods(data)),
    ):
        problems += [
            Problem(flag, f"there is no {name!r} here", nearest(name, there))
            for name in asked
            if name not in there
        ]
        found.append([name for name in there if not asked or name in asked])
    if problems:
        raise UserError(problems)
    return found[0], found[1]


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError([Problem("--out", f"cannot make {out}: {error.strerror}")]) from error
