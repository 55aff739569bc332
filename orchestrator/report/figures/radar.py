"""Accuracy on every evaluation set, one radar per downstream set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.contamination import MARK
from orchestrator.report.figures.drawn import Drawn, file_name, note, over_seeds
from orchestrator.report.figures.style import (
    BASELINE_LOOK,
    FAINT,
    GREY,
    PAGE,
    Look,
    method_legend,
    new_figure,
    panels,
    shown,
)
from orchestrator.report.tables import short_names
from orchestrator.report_data import ReportData
from orchestrator.statistics import Floats

if TYPE_CHECKING:
    from matplotlib.projections.polar import PolarAxes

COLUMNS = 3
RINGS = (25, 50, 75, 100)


def radars(data: ReportData, model: str, looks: Mapping[str, Look]) -> Drawn | None:
    """Draw a model's accuracies, a radar per downstream set; None when no polygon is whole.

    Args:
        data: of a report.
        model: of which.
        looks: of the methods, a polygon each.
    """
    sets = data.results.sets
    baseline = data.baselines[model]
    is_known = bool(np.isfinite(baseline).all())
    left_out = [] if is_known else [f"{shown(model)} pre-trained: not scored on every set"]
    polygons: dict[int, list[tuple[Floats, Look]]] = {}
    for row, name in enumerate(sets.ood):
        spokes = [k for k in range(len(sets.names)) if k != 1 + row]
        if is_known:
            polygons.setdefault(row, []).append((baseline[spokes], BASELINE_LOOK))
        for method, look in looks.items():
            matrix = data.matrices.get((model, method))
            if matrix is None:
                continue
            values = matrix.accuracy[row, spokes]
            if np.isfinite(values).all():
                polygons.setdefault(row, []).append((values, look))
            else:
                left_out.append(f"{shown(method)} on {shown(name)}: not scored on every set")
    drawn = [row for row in polygons if len(polygons[row]) > is_known]
    if not drawn:
        return None
    figure = new_figure(PAGE, 0.35 + 2.3 * -(-len(drawn) // COLUMNS))
    axes, spare = panels(figure, len(drawn), COLUMNS, subplot_kw={"projection": "polar"})
    short = short_names(sets)
    for one, row in zip(axes, drawn, strict=True):
        contaminated = data.results.remarks.contamination.sets(sets.ood[row])
        labels = [
            f"{shown(short[k])}{MARK if sets.names[k] in contaminated else ''}"
            for k in range(len(sets.names))
            if k != 1 + row
        ]
        _draw(one, polygons[row], labels, f"fine-tuned on {shown(short[1 + row])}")
    method_legend(figure, spare, looks, baseline=is_known, markers=False)
    note(figure, left_out)
    name = file_name("radar", model)
    return Drawn(name, figure, _caption(data, model), left_out)


def _draw(
    axes: Any, polygons: Sequence[tuple[Floats, Look]], labels: Sequence[str], title: str
) -> None:
    from matplotlib.patheffects import withStroke

    polar: PolarAxes = axes
    angles = np.linspace(0, 2 * np.pi, len(labels), endpoint=False)
    closed = np.append(angles, angles[0])
    polar.set_theta_zero_location("N")
    polar.set_theta_direction(-1)
    for values, look in polygons:
        polar.plot(
            closed, np.append(values, values[0]), color=look.colour, linestyle=look.line, lw=1.0
        )
    polar.set_ylim(0, 100)
    polar.set_yticks(RINGS, [])
    between = np.pi / len(labels)
    for ring in RINGS[:-1]:
        text = polar.text(
            between, ring, str(ring), fontsize=5, color=GREY, ha="center", va="center"
        )
        text.set_path_effects([withStroke(linewidth=1.5, foreground="white")])
    polar.set_xticks(angles, labels, fontsize=6.5)
    polar.tick_params(axis="x", pad=-3)
    for angle, label in zip(angles, polar.get_xticklabels(), strict=True):
        east, north = np.sin(angle), np.cos(angle)
        label.set_horizontalalignment(_side(east, "left", "right"))
        label.set_verticalalignment(_side(north, "bottom", "top"))
    polar.spines["polar"].set_color(FAINT)
    polar.spines["polar"].set_linewidth(0.6)
    polar.set_title(title, pad=6)


def _side(towards: float, after: Any, before: Any) -> Any:
    """Say which side of a label is at its spoke, so that it stays out of the circle."""
    if abs(towards) < 0.2:
        return "center"
    return after if towards > 0 else before


def _caption(data: ReportData, model: str) -> str:
    sets = data.results.sets
    text = (
        f"Top-1 accuracy of {shown(model)} in percent (centre 0, rim 100) on {sets.id} and on the "
        "OOD sets, as it came and after fine-tuning on the set above each radar, which is itself "
        f"left out of it.{over_seeds(data, model)}"
    )
    if any(data.results.remarks.contamination.sets(name) for name in sets.ood):
        text += f" {MARK} shows images whose sources the model was fine-tuned on."
    return text
