"""Accuracy along training: on the downstream set, the ID set and the other OOD sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from orchestrator.report.figures.drawn import Drawn, file_name, note, of_all_seeds, over_seeds
from orchestrator.report.figures.style import (
    PAGE,
    Look,
    epoch_axis,
    method_legend,
    new_figure,
    shown,
)
from orchestrator.report.tables import short_names
from orchestrator.report_data import ReportData

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

HEADS = {"tuned": "downstream set", "id": "ID set", "ood": "other OOD sets"}
"""Of the columns of panels, by those of `orchestrator.curves.summed_up`."""


def accuracy_curves(data: ReportData, model: str, looks: Mapping[str, Look]) -> Drawn | None:
    """Draw a model's accuracies epoch by epoch; None when none of it was evaluated in training.

    Args:
        data: of a report.
        model: of which.
        looks: of the methods, a line each.
    """
    if data.run is None or data.run.curve is None:
        return None
    curves = data.run.curves
    own = curves[(curves["model"] == model) & curves["method"].isin(list(looks))]
    sets = data.results.sets
    short = dict(zip(sets.names, short_names(sets), strict=True))
    downstream = [name for name in sets.ood if name in set(own["downstream"])]
    sides = [side for side in HEADS if own[side].notna().any()]
    if not downstream or not sides:
        return None
    left_out: list[str] = []
    figure = new_figure(PAGE, 0.6 + 1.0 * len(downstream))
    axes = figure.subplots(len(downstream), len(sides), squeeze=False, sharex=True, sharey="col")
    for row, name in zip(axes, downstream, strict=True):
        for method, look in looks.items():
            found = own[(own["downstream"] == name) & (own["method"] == method)]
            whole = of_all_seeds(found, data, model, method)
            if len(whole) < len(found) or whole[sides].isna().any(axis=None):
                what = f"{shown(method)} on {shown(name)}"
                left_out.append(f"{what}: epochs that seeds, sets or splits lack")
            for one, side in zip(row, sides, strict=True):
                _line(one, whole, side, look)
        row[0].set_ylabel(f"on {shown(short[name])}")
    for one, side in zip(axes[0], sides, strict=True):
        one.set_title(HEADS[side])
    for one in axes.ravel():
        one.grid(axis="y")
        epoch_axis(one, own["epoch"].max(), first=0)
    figure.supxlabel("epoch", fontsize=8)
    figure.supylabel("accuracy (%)", fontsize=8)
    trained = {method: look for method, look in looks.items() if method in set(own["method"])}
    method_legend(figure, None, trained)
    note(figure, left_out)
    return Drawn(file_name("curves", model), figure, _caption(data, model), left_out)


def _line(axes: Axes, rows: pd.DataFrame, side: str, look: Look) -> None:
    style = {"color": look.colour, "linestyle": look.line, "marker": look.marker}
    axes.plot(rows["epoch"], rows[side], **style)


def _caption(data: ReportData, model: str) -> str:
    assert data.run is not None
    assert data.run.curve is not None
    curve, sets = data.run.curve, data.results.sets
    ood = [name for name in sets.ood if name in curve.sets]
    part = curve.images if curve.fraction == 1 else f"{curve.images} (seed {curve.seed})"
    return (
        f"Accuracy of {shown(model)} in percent after each epoch of fine-tuning, epoch 0 before "
        f"it: on the downstream set, a row for each, on {shown(sets.id)}, and the mean over the "
        f"other OOD sets of {', '.join(map(shown, ood)) or 'none'}. On {part} of each set; none of "
        f"it is part of RI.{over_seeds(data, model)}"
    )
