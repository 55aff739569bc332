"""The canary: what models score as they came, against the published figures. Pure.

A wrong label map, class mask, transform or weights file shows here, before anything is fine-tuned
on it. Both sides are exact fractions, so that a difference of just 0.2 points falls on one side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import pandas as pd

from orchestrator.grid import Grid
from workers.cell import BASELINE, Model
from workers.suites import SplitKey, Suite

TOLERANCE = Fraction("0.2")
"""Points by which an accuracy may differ: what the ImageNet-RIB poster's own pre-trained row and
timm's tables are apart at most. More than that is not rounding and not another GPU."""

COLUMNS = ["model", "method", "eval_dataset", "corruption", "severity", "n_correct", "n_total"]
"""Of an accuracy row, what is looked at here."""

State = Literal["agrees", "differs", "missing", "no published value"]

Accuracies = Mapping[str, Mapping[str, Fraction]]
"""Model -> evaluation set -> percent."""


@dataclass(frozen=True)
class Comparison:
    """One evaluation set's accuracy beside the published one, in percent."""

    eval_dataset: str
    measured: Fraction
    published: Fraction

    @property
    def difference(self) -> Fraction:
        """Points above the published figure."""
        return self.measured - self.published

    @property
    def agrees(self) -> bool:
        return abs(self.difference) <= TOLERANCE

    def __str__(self) -> str:
        return (
            f"{self.eval_dataset}: {float(self.measured):.3f} here, "
            f"{float(self.published):.3f} published, {float(self.difference):+.3f}"
        )


@dataclass(frozen=True)
class Verdict:
    """How a model as it came compares with what is published of it."""

    model: str
    comparisons: tuple[Comparison, ...] = ()
    missing: tuple[str, ...] = ()
    """Sets that a figure is published for and whose rows are not all there."""

    @property
    def differing(self) -> tuple[Comparison, ...]:
        return tuple(one for one in self.comparisons if not one.agrees)

    @property
    def state(self) -> State:
        if self.differing:
            return "differs"
        if self.missing:
            return "missing"
        return "agrees" if self.comparisons else "no published value"

    def __str__(self) -> str:
        if self.differing:
            each = (f"{float(c.difference):+.3f} ({c.eval_dataset})" for c in self.differing)
            return f"differs by {', '.join(each)}"
        if self.missing:
            return f"not evaluated yet ({', '.join(self.missing)})"
        return self.state


def check(models: Iterable[str], published: Accuracies, measured: Accuracies) -> list[Verdict]:
    """Compare each model, in order, with its published figures."""
    return [_verdict(name, published.get(name, {}), measured.get(name, {})) for name in models]


def _verdict(
    model: str, published: Mapping[str, Fraction], measured: Mapping[str, Fraction]
) -> Verdict:
    return Verdict(
        model,
        tuple(
            Comparison(name, measured[name], figure)
            for name, figure in published.items()
            if name in measured
        ),
        tuple(name for name in published if name not in measured),
    )


# ---------------------------------------------------------------------------------- published


def published_of(grid: Grid) -> Accuracies:
    """Return what is published of a grid's models on the sets that the grid evaluates."""
    return {
        model.name: figures_of(grid.suite, model.name, grid.evaluate)
        for model in grid.models
        if is_as_published(model, grid.suite)
    }


def figures_of(suite: Suite, model: str, evaluate: Sequence[str]) -> dict[str, Fraction]:
    """Return the published accuracies of a model on some sets, as the decimals they are."""
    figures = suite.published.get(model, {})
    return {name: Fraction(str(figures[name])) for name in evaluate if name in figures}


def is_as_published(model: Model, suite: Suite) -> bool:
    """Whether a model is one of the suite's own, with nothing of the user's in it."""
    return any(
        known.name == model.name and _make_up(known) == _make_up(model) for known in suite.models
    )


def _make_up(model: Model) -> tuple[Any, ...]:
    return model.architecture, dict(model.arguments), dict(model.transform), model.file


# ---------------------------------------------------------------------------------- measured


def measured_in_rows(
    rows: pd.DataFrame, splits: Mapping[str, Sequence[SplitKey]]
) -> dict[str, dict[str, Fraction]]:
    """Reduce the baselines among a store's final rows (COLUMNS) to accuracies by the class mask.

    A set with corruptions is the mean over the severities of each, then over the corruptions; one
    that lacks any of its splits has no accuracy.
    """
    scored: dict[tuple[str, str], dict[SplitKey, Fraction]] = defaultdict(dict)
    for row in rows[rows["method"] == BASELINE].to_dict("records"):
        accuracy = Fraction(100 * int(row["n_correct"]), int(row["n_total"]))
        scored[row["model"], row["eval_dataset"]][_split_of(row)] = accuracy
    measured: dict[str, dict[str, Fraction]] = defaultdict(dict)
    for (model, name), by_split in scored.items():
        wanted = splits.get(name, ())
        if wanted and by_split.keys() >= set(wanted):
            measured[model][name] = _mean_over_splits(by_split, wanted)
    return dict(measured)


def measured_in_table(accuracies: pd.DataFrame) -> dict[str, dict[str, Fraction]]:
    """Take the baselines of a table of accuracies, in percent, as the decimals it gives."""
    measured: dict[str, dict[str, Fraction]] = defaultdict(dict)
    for row in accuracies[accuracies["method"] == BASELINE].to_dict("records"):
        measured[row["model"]][row["eval_dataset"]] = Fraction(str(row["accuracy"]))
    return dict(measured)


def _split_of(row: Mapping[Any, Any]) -> SplitKey:
    corruption, severity = row["corruption"], row["severity"]
    return (
        None if pd.isna(corruption) else str(corruption),
        None if pd.isna(severity) else int(severity),
    )


def _mean_over_splits(
    by_split: Mapping[SplitKey, Fraction], splits: Sequence[SplitKey]
) -> Fraction:
    per_corruption: dict[str | None, list[Fraction]] = defaultdict(list)
    for split in splits:
        per_corruption[split[0]].append(by_split[split])
    means = [sum(values, Fraction()) / len(values) for values in per_corruption.values()]
    return sum(means, Fraction()) / len(means)


# ---------------------------------------------------------------------------------- in words


def complaints(verdicts: Iterable[Verdict], suite: Suite) -> list[str]:
    """Say what speaks against fine-tuning: a line per set that differs or is missing, and why."""
    lines = []
    for verdict in verdicts:
        lines += [f"canary: {verdict.model} on {one}" for one in verdict.differing]
        if verdict.differing:
            lines.append(f"  likely causes: {'; '.join(_likely_causes(verdict, suite))}")
        if verdict.missing:
            sets = ", ".join(verdict.missing)
            lines.append(f"canary: {verdict.model} has no accuracy yet on {sets}")
    return lines


def _likely_causes(verdict: Verdict, suite: Suite) -> list[str]:
    """Name what mostly makes such a difference: the model where all sets differ, else the sets."""
    differing = {one.eval_dataset for one in verdict.differing}
    if len(differing) == len(verdict.comparisons):
        causes = ["other weights than the published ones", "another transform (size, crop, mean)"]
        return [*causes, "classes in another order than the model's outputs"]
    specs = [suite.evaluation_sets[name] for name in suite.evaluation_sets if name in differing]
    causes = ["images missing or left out, or another version of the set (see rib data check)"]
    if any(spec.layout == "index_folders" for spec in specs):
        causes.append("numbered folders read in the order of their names")
    if any(spec.classes is not None for spec in specs):
        causes.append("scored under another class mask")
    return causes
