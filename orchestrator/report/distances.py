"""What `rib distance` found, as tables and as JSON. Computes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from orchestrator.contamination import MARK
from orchestrator.correlation import Coefficient
from orchestrator.distance_points import EntryCorrelation
from orchestrator.report.numbers import DASH


def distances_table(frame: pd.DataFrame, title: str, from_reference: Sequence[str]) -> Table:
    """Lay out a grid's distances.

    Args:
        frame: as from `orchestrator.distances.distance_frame`.
        title: what stands above the table.
        from_reference: downstream sets that are made from the ID set's images.
    """
    table = _table(title)
    table.add_column("set", overflow="fold")
    for header in (
        "OTDD",
        "over mean\nID cost",
        "images",
        "classes",
        "iterations",
        "marginals off",
    ):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("state")
    notes = []
    for row in frame.to_dict("records"):
        mark = MARK if row["downstream"] in from_reference else ""
        table.add_row(Text(f"{row['downstream']}{mark}"), *_numbers(row), row["state"])
        if row["message"]:
            notes.append(f"{row['downstream']}: {row['error_kind']}: {row['message']}")
    if set(from_reference) & set(frame["downstream"]):
        notes.append(f"{MARK} made from images of the ID set, and nearer to it for that")
    table.caption = Text("\n".join(notes))
    return table


def correlations_table(found: Sequence[EntryCorrelation], title: str) -> Table:
    """Lay out how OTDD and the ID drop go together, with intervals of 95%."""
    table = _table(title)
    for header in ("model", "method"):
        table.add_column(header, overflow="fold")
    table.add_column("n", justify="right")
    for header in ("Pearson", "Spearman"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("without", overflow="fold")
    for one in found:
        refused = one.correlation.refusal
        table.add_row(
            Text(one.model),
            Text(one.method),
            str(one.correlation.n),
            coefficient_text(one.correlation.pearson),
            coefficient_text(one.correlation.spearman),
            Text(f"refused: {refused}" if refused else ", ".join(one.missing)),
        )
    table.caption = Text("in brackets: 95% intervals (Fisher; Bonett and Wright)")
    return table


def coefficient_text(coefficient: Coefficient | None) -> str:
    """Write a coefficient with its interval."""
    if coefficient is None:
        return DASH
    return f"{coefficient.value:+.2f} [{coefficient.low:+.2f}, {coefficient.high:+.2f}]"


def distances_record(frame: pd.DataFrame, found: Sequence[EntryCorrelation]) -> dict[str, Any]:
    """Return the same for JSON."""
    plain = frame.astype(object)
    rows = plain.where(plain.notna(), None).to_dict("records")
    times = ("started_at", "finished_at")
    for row in rows:
        row |= {name: row[name] and row[name].isoformat() for name in times}
    return {"distances": rows, "correlations": [_record(one) for one in found]}


def _record(one: EntryCorrelation) -> dict[str, Any]:
    correlation = one.correlation
    return {
        "model": one.model,
        "method": one.method,
        "n": correlation.n,
        "pearson": None if correlation.pearson is None else vars(correlation.pearson),
        "spearman": None if correlation.spearman is None else vars(correlation.spearman),
        "refusal": correlation.refusal or None,
        "missing": list(one.missing),
    }


def _numbers(row: dict[Any, Any]) -> list[str]:
    if row["state"] != "done":
        return [DASH] * 6
    images = f"{row['samples_downstream']:.0f} of {row['images_downstream']:.0f}"
    return [
        f"{row['value']:.4g}",
        f"{row['relative']:.3f}",
        images,
        f"{row['classes_downstream']:.0f}",
        f"{row['iterations']:.0f}",
        f"{row['marginal_error']:.1e}",
    ]


def _table(title: str) -> Table:
    return Table(
        title=Text(title),
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
