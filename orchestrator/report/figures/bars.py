"""Mean OOD accuracy before and after fine-tuning, a group of bars per pre-trained model."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.report.figures.drawn import Drawn, note
from orchestrator.report.figures.style import (
    COLUMN,
    GREY,
    INK,
    PAGE,
    Look,
    new_figure,
    panels,
    shown,
    wrapped,
)
from orchestrator.report.numbers import points
from orchestrator.report_data import ReportData

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BARS_IN_A_COLUMN = 24
BARS_IN_A_ROW = 56
ROOMY = 10
"""Bars in a row up to which numbers fit above them as they are written."""
CHARACTERS_PER_INCH = 15
"""Of a model's name."""
GROUP = 0.86
"""Part of a model's place that its bars take."""

Entries = Mapping[tuple[str, str], Mapping[Hashable, Any]]
"""Rows of a leaderboard by model and method."""


def ood_bars(data: ReportData, models: Sequence[str], looks: Mapping[str, Look]) -> Drawn | None:
    """Draw what mRI is the difference of; None when no entry is complete.

    Args:
        data: of a report.
        models: a group of bars each.
        looks: of the methods, a bar each after the baseline's.
    """
    rows = {(row["model"], row["method"]): row for row in data.board.to_dict("records")}
    asked = [(model, method) for model in models for method in looks if (model, method) in rows]
    whole = {key: rows[key] for key in asked if not rows[key]["missing"]}
    if not whole:
        return None
    drawn = [model for model in models if any(key[0] == model for key in whole)]
    bars = _Bars(data, labels_of(data, models), whole, looks, _per_row(len(drawn), len(looks)))
    n_bars = len(drawn) * (1 + len(looks))
    n_rows = math.ceil(len(drawn) / bars.per_row)
    figure = new_figure(COLUMN if n_bars <= BARS_IN_A_COLUMN else PAGE, 0.5 + 1.5 * n_rows)
    axes, _ = panels(figure, n_rows, 1, sharey=True)
    for row, one in enumerate(axes):
        bars.draw(one, drawn[row * bars.per_row :][: bars.per_row], figure.get_figwidth())
    _legend(figure, looks)
    left_out = [
        f"{shown(model)} {shown(method)}: {rows[model, method]['missing']} values are missing"
        for model, method in asked
        if (model, method) not in whole
    ]
    note(figure, left_out)
    return Drawn("ood-accuracy", figure, _caption(whole), left_out)


def labels_of(data: ReportData, models: Sequence[str]) -> dict[str, str]:
    """Call models by their pre-training where that tells them apart, else by their names."""
    labels = {model: data.pretraining.get(model, "") for model in models}
    tells_apart = all(labels.values()) and len(set(labels.values())) == len(labels)
    return {model: shown(labels[model] if tells_apart else model) for model in models}


def _per_row(n_models: int, n_methods: int) -> int:
    """Return how many groups of bars go into a row, so that rows are about equally full."""
    most = max(1, BARS_IN_A_ROW // (1 + n_methods))
    return math.ceil(n_models / math.ceil(n_models / most))


@dataclass(frozen=True)
class _Bars:
    """What is drawn, and how."""

    data: ReportData
    names: Mapping[str, str]
    entries: Entries
    looks: Mapping[str, Look]
    per_row: int

    def draw(self, axes: Axes, models: Sequence[str], width: float) -> None:
        """Draw one row of groups into a figure of a width in inches."""
        for place, model in enumerate(models):
            self._draw_group(axes, place, model)
        in_a_name = int(CHARACTERS_PER_INCH * width / self.per_row)
        names = [wrapped(self.names[model], in_a_name) for model in models]
        axes.set_xticks(range(len(models)), names, linespacing=0.9)
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.5, self.per_row - 0.5)
        axes.margins(y=0.15 if self._is_roomy else 0.25)
        axes.set_ylabel("mean OOD accuracy (%)")
        axes.grid(axis="y")

    @property
    def _is_roomy(self) -> bool:
        return self.per_row * (1 + len(self.looks)) <= ROOMY

    def _draw_group(self, axes: Axes, place: int, model: str) -> None:
        step = GROUP / (1 + len(self.looks))
        x = place - GROUP / 2 + step / 2
        axes.bar(x, self.data.mean_before(model), 0.9 * step, color=GREY)
        for method, look in self.looks.items():
            x += step
            if (model, method) in self.entries:
                self._draw_entry(axes, x, 0.9 * step, look, self.entries[model, method])

    def _draw_entry(
        self, axes: Axes, x: float, width: float, look: Look, entry: Mapping[Hashable, Any]
    ) -> None:
        height, spread = entry["OOD"], entry["OOD sd"]
        axes.bar(
            x, height, width, color=look.colour, hatch=look.hatch, edgecolor="white", linewidth=0
        )
        top = height
        if not math.isnan(spread):
            axes.errorbar(x, height, spread, color=INK, lw=0.6, capsize=1.5, capthick=0.6)
            top += spread
        axes.annotate(
            points(entry["mRI"]).replace("-", "−"),
            (x, top),
            (0, 2.5),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=5,
            rotation=0 if self._is_roomy else 90,
        )


def _legend(figure: Figure, looks: Mapping[str, Look]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=GREY, linewidth=0)]
    handles += [
        Patch(facecolor=look.colour, hatch=look.hatch, edgecolor="white", linewidth=0)
        for look in looks.values()
    ]
    labels = ["pre-trained", *(shown(method) for method in looks)]
    figure.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=min(len(labels), 6),
        handlelength=1.0,
        handleheight=0.8,
        columnspacing=1.0,
    )


def _caption(whole: Entries) -> str:
    has_seeds = any(row["seeds"] > 1 for row in whole.values())
    spread = " Means over seeds; error bars: their standard deviation." if has_seeds else ""
    return (
        "Top-1 accuracy in percent, as the mean over the OOD sets, of each model as it came and "
        "after fine-tuning: there the mean over the downstream sets of the mean over the other "
        f"OOD sets. Above each bar, the difference in points, which is mRI.{spread}"
    )
