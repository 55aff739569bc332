"""How training went: accuracy on the batches of each epoch, a panel per downstream set."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.report.figures.drawn import Drawn, file_name, note, of_all_seeds, over_seeds
from orchestrator.report.figures.style import (
    PAGE,
    Look,
    epoch_axis,
    label_lowest,
    method_legend,
    new_figure,
    panels,
    shown,
)
from orchestrator.report.tables import short_names
from orchestrator.report_data import ReportData

COLUMNS = 3


def training_curves(data: ReportData, model: str, looks: Mapping[str, Look]) -> Drawn | None:
    """Draw a model's training; None when nothing of it was trained.

    Args:
        data: of a report.
        model: of which.
        looks: of the methods, a line each.
    """
    if data.run is None:
        return None
    curves = data.run.training
    own = curves[(curves["model"] == model) & curves["method"].isin(list(looks))]
    sets = data.results.sets
    short = dict(zip(sets.names, short_names(sets), strict=True))
    downstream = [name for name in sets.ood if name in set(own["downstream"])]
    if not downstream:
        return None
    left_out: list[str] = []
    figure = new_figure(PAGE, 0.35 + 1.45 * -(-len(downstream) // COLUMNS))
    axes, spare = panels(figure, len(downstream), COLUMNS, sharex=True, sharey=True)
    for one, name in zip(axes, downstream, strict=True):
        for method, look in looks.items():
            rows = own[(own["downstream"] == name) & (own["method"] == method)]
            whole = of_all_seeds(rows, data, model, method)
            if len(whole) < len(rows):
                left_out.append(f"{shown(method)} on {shown(name)}: epochs that seeds lack")
            one.plot(
                whole["epoch"],
                whole["accuracy"],
                color=look.colour,
                linestyle=look.line,
                marker=look.marker,
            )
        one.set_title(f"on {shown(short[name])}")
        one.grid(axis="y")
        epoch_axis(one, own["epoch"].max())
    label_lowest(axes, COLUMNS)
    figure.supxlabel("epoch", fontsize=8)
    figure.supylabel("training accuracy (%)", fontsize=8)
    trained = {method: look for method, look in looks.items() if method in set(own["method"])}
    method_legend(figure, spare, trained)
    note(figure, left_out)
    caption = (
        f"Accuracy of {shown(model)} in percent on the images that it is fine-tuned on, over the "
        "batches of each epoch, as the weights were then; a panel per downstream set."
        f"{over_seeds(data, model)}"
    )
    return Drawn(file_name("training", model), figure, caption, left_out)
