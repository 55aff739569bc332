"""Two entries side by side, as a table and for JSON. Computes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from orchestrator.compare import Comparison, Difference
from orchestrator.contamination import MARK, Contamination
from orchestrator.report.numbers import DASH, percent, points
from orchestrator.report.tables import short_names
from orchestrator.statistics import UNPAIRED

_UNPAIRED_NOTE = (
    "unpaired: predictions of both are not kept, so the two are tested as if they had seen "
    "different images; a difference is found later than by a paired test"
)
_MEAN_NOTE = "accuracy on a set: the mean over all downstream sets but itself, and over seeds"


def comparison_table(found: Comparison) -> Table:
    """Lay out a comparison: a row per evaluation set, then RI or mRI."""
    first, second = (":".join(name) for name in (found.first, found.second))
    on = f", fine-tuned on {found.downstream}" if found.downstream else ""
    title = Text(f"{first} (A) against {second} (B){on}")
    table = Table(title=title, title_justify="left", caption_justify="left", box=SIMPLE_HEAD)
    table.padding = (0, 1, 0, 0)
    table.add_column("on", no_wrap=True)
    for header in ("A", "B", "A - B", "95% interval", "images"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("test", no_wrap=True)
    for header in ("p", "Holm p"):
        table.add_column(header, justify="right", no_wrap=True)
    for short, one in zip(short_names(found.results.sets), found.by_set, strict=True):
        table.add_row(*_cells(short, one))
    table.add_section()
    table.add_row(*_cells(found.overall.what, found.overall), style="bold")
    table.caption = Text("\n".join(_notes(found)))
    return table


def comparison_record(found: Comparison) -> dict[str, Any]:
    """Return a comparison for JSON."""
    remarks = found.results.remarks
    names = (found.first, found.second)
    return {
        "first": ":".join(found.first),
        "second": ":".join(found.second),
        "downstream": found.downstream,
        "scoring": remarks.scoring,
        "canary": {model: remarks.verdict(model) for model, _ in names},
        "missing": found.missing,
        "by_set": [_record(one) for one in found.by_set],
        "overall": _record(found.overall),
    }


def _record(one: Difference) -> dict[str, Any]:
    tested = one.tested
    return {
        "what": one.what,
        "first": one.first,
        "second": one.second,
        "difference": one.difference,
        "low": one.low,
        "high": one.high,
        "images": one.images,
        "test": None if tested is None else tested.test,
        "statistic": None if tested is None else tested.statistic,
        "p": None if tested is None else tested.p,
        "p_holm": one.p_holm,
        "only_first_right": None if one.discordant is None else one.discordant[0],
        "only_second_right": None if one.discordant is None else one.discordant[1],
        "contaminated": one.contaminated,
    }


def _cells(name: str, one: Difference) -> list[Text]:
    write = points if one.what.partition(" ")[0] in ("RI", "mRI") else percent
    interval = DASH if one.low is None else f"{points(one.low)} to {points(one.high)}"
    test = "" if one.tested is None else one.tested.test
    if one.discordant is not None:
        test += f" ({one.discordant[0]}:{one.discordant[1]})"
    cells = [
        name + (MARK if one.contaminated else ""),
        write(one.first),
        write(one.second),
        points(one.difference),
        interval,
        DASH if one.images is None else f"{one.images:,}",
        test,
        _p(None if one.tested is None else one.tested.p),
        "" if one.p_holm is None else _p(one.p_holm),
    ]
    return [Text(cell) for cell in cells]


def _p(value: float | None) -> str:
    if value is None:
        return DASH
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"


def _notes(found: Comparison) -> list[str]:
    rows = [*found.by_set, found.overall]
    tests = {one.tested.test for one in rows if one.tested is not None}
    remarks = found.results.remarks
    models = {found.first[0], found.second[0]}
    verdicts = tuple(one for one in remarks.verdicts if one.model in models)
    remarks = replace(remarks, verdicts=verdicts)
    notes = [_MEAN_NOTE] if found.downstream is None else []
    if UNPAIRED in tests:
        notes.append(_UNPAIRED_NOTE)
    if any(one.discordant for one in rows):
        notes.append("in brackets: images that only A gets right, and that only B does")
    if found.missing:
        notes.append(f"not there yet: {', '.join(found.missing)}")
    if not any(one.contaminated for one in rows):
        remarks = replace(remarks, contamination=Contamination())
    return [*notes, *remarks.notes()]
