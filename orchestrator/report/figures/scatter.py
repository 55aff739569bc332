"""OTDD against the drop on the ID set, a panel per method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from orchestrator.contamination import MARK
from orchestrator.correlation import Coefficient, Correlation
from orchestrator.report.figures.drawn import Drawn, file_name, note, over_seeds
from orchestrator.report.figures.labels import place_labels
from orchestrator.report.figures.style import COLUMN, FAINT, PAGE, Look, new_figure, panels, shown
from orchestrator.report.tables import short_names
from orchestrator.report_data import Distances, ReportData

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 3


def otdd_scatter(data: ReportData, model: str, looks: Mapping[str, Look]) -> Drawn | None:
    """Draw what a model loses against how far it was fine-tuned; None without distances.

    Args:
        data: of a report.
        model: that loses.
        looks: of the methods, a panel each.
    """
    if data.distances is None:
        return None
    points = data.distances.points
    own = points[(points["model"] == model) & points["method"].isin(list(looks))]
    known = own[own["id_drop"].notna()]
    left_out = [
        f"{shown(row['method'])} on {shown(row['downstream'])}: no accuracy on the ID set"
        for row in own[own["id_drop"].isna()].to_dict("records")
    ]
    if data.run is not None:
        measured = set(points["downstream"])
        unmeasured = [name for name in data.run.grid.downstream if name not in measured]
        left_out += [f"{shown(name)}: its distance is not measured" for name in unmeasured]
    methods = [method for method in looks if method in set(known["method"])]
    if not methods:
        return None
    columns = 2 if len(methods) == 4 else min(len(methods), COLUMNS)
    rows = -(-len(methods) // columns)
    figure = new_figure(COLUMN if columns == 1 else PAGE, 0.3 + 2.1 * rows)
    axes, _ = panels(figure, len(methods), columns, sharex=True, sharey=True)
    for one, method in zip(axes, methods, strict=True):
        _draw(one, known[known["method"] == method], looks[method])
        _say(one, method, data.distances.correlations.get((model, method)))
    figure.supxlabel(f"OTDD from {shown(data.results.sets.id)}", fontsize=8)
    figure.supylabel("drop in ID accuracy (points)", fontsize=8)
    note(figure, left_out)
    names = _labels(data)
    figure.draw_without_rendering()  # makes the layout, which labels go by
    for one, method in zip(axes, methods, strict=True):
        rows_of = known[known["method"] == method]
        points_of = list(zip(rows_of["otdd"], rows_of["id_drop"], strict=True))
        place_labels(one, points_of, [names[name] for name in rows_of["downstream"]])
    caption = _caption(data, data.distances, model)
    return Drawn(file_name("otdd", model), figure, caption, left_out)


def _draw(axes: Axes, rows: pd.DataFrame, look: Look) -> None:
    axes.axhline(0, color=FAINT, linewidth=0.6)
    axes.plot(rows["otdd"], rows["id_drop"], linestyle="", marker="o", color=look.colour)
    axes.margins(0.18, 0.12)


def _labels(data: ReportData) -> dict[str, str]:
    """Name the sets in short, and mark those made from the ID set's images."""
    sets, contamination = data.results.sets, data.results.remarks.contamination
    short = zip(sets.names, short_names(sets), strict=True)
    return {
        name: shown(text) + contamination.mark(name, [sets.id])
        for name, text in short
        if name != sets.id
    }


def _say(axes: Axes, method: str, correlation: Correlation | None) -> None:
    axes.set_title(shown(method), loc="left")
    if correlation is None:
        return
    if correlation.refusal:
        text = f"n = {correlation.n}: too few to correlate"
    else:
        n = correlation.n
        text = f"n = {n}, r = {_text(correlation.pearson)}\nρ = {_text(correlation.spearman)}"
    axes.set_title(text, loc="right", fontsize=6)


def _text(coefficient: Coefficient | None) -> str:
    assert coefficient is not None
    values = (coefficient.value, coefficient.low, coefficient.high)
    value, low, high = (f"{one:.2f}".replace("-", "−") for one in values)
    return f"{value} [{low}, {high}]"


def _caption(data: ReportData, distances: Distances, model: str) -> str:
    marked = any(label.endswith(MARK) for label in _labels(data).values())
    made_from = f" {MARK}: made from images of {shown(data.results.sets.id)}." if marked else ""
    return (
        f"How far each downstream set is from {shown(data.results.sets.id)} (OTDD in the features "
        f"of {shown(distances.model)}, half squared), and by how many points {shown(model)} does "
        f"worse on {shown(data.results.sets.id)} after fine-tuning on it.{over_seeds(data, model)} "
        f"r: Pearson's correlation, ρ: Spearman's, with 95% intervals over the sets.{made_from}"
    )
