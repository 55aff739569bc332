"""A plan and how far it is, as tables. Computes nothing but totals."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from orchestrator import licence
from orchestrator.contamination import Contamination
from orchestrator.demands import Demand
from orchestrator.estimate import Estimates
from orchestrator.grid import Grid
from orchestrator.keep import peak_bytes
from orchestrator.plan import Node, Plan
from orchestrator.remarks import Remarks
from orchestrator.sizes import size
from orchestrator.status import FAILED, STATES

_NAMED_FAILURES = 20
_MESSAGE = 300
"""Characters of a failure's message that are shown."""
_NAMED_MODELS = 3
_NAMED_CELLS = 3


def plan_summary(grid: Grid, plan: Plan, estimates: Estimates) -> dict[str, Any]:
    """Return a plan in numbers, and each of its cells; for JSON."""
    todo = _todo(plan, plan.nodes.values())
    contamination = Contamination.of(grid.suite)
    return {
        "grid": grid.name,
        "suite": f"{grid.suite.name} version {grid.suite.version}",
        "store": grid.store,
        "data_is_made": grid.is_made,
        "cells": len(plan.nodes),
        "prerequisites": sum(node.is_prerequisite for node in plan.nodes.values()),
        "edges": plan.n_edges,
        "done": len(plan.nodes) - len(todo),
        "to_run": len(todo),
        "training_images": sum(node.training_images for node in todo),
        "evaluation_images": sum(node.evaluation_images for node in todo),
        "spared_passes": plan.spared_passes,
        "checkpoint_bytes": estimates.checkpoint_bytes(todo),
        "checkpoint_bytes_unknown_of": estimates.without_size(todo),
        "checkpoint_bytes_peak": peak_bytes(plan, grid.keep, estimates.checkpoints),
        "keep": grid.keep,
        "without_curve": plan.without_curve,
        "without_predictions": plan.without_predictions,
        "train_again": [node.cell.cell_id for node in todo if node.trains_again],
        "device": estimates.device,
        "device_hours": estimates.hours(todo),
        "device_hours_unknown_of": estimates.without_speed(todo),
        "resources": [
            {"of": demand.of, "cells": n, **demand.resources.model_dump(mode="json")}
            for demand, n in _demands(grid, plan)
        ],
        "images_per_second": {name: vars(speed) for name, speed in estimates.speeds.items()},
        "clauses": [
            {
                "name": one.clause.name,
                "reason": one.clause.reason,
                "downstream": list(one.sets),
                "cells": one.n_cells,
                "acknowledged": one.is_acknowledged,
            }
            for one in licence.restrictions(grid, plan)
        ],
        "todo": [
            {
                **_describe(node, plan),
                "contaminated": list(contamination.sets(node.cell.downstream)),
                "clause": _clause_name(node, grid),
            }
            for node in todo
        ],
    }


def _todo(plan: Plan, nodes: Iterable[Node]) -> list[Node]:
    return [node for node in nodes if node.cell.cell_id in plan.todo]


def _clause_name(node: Node, grid: Grid) -> str | None:
    clause = licence.clause_of(node, grid.suite)
    return None if clause is None else clause.name


def _describe(node: Node, plan: Plan) -> dict[str, Any]:
    cell = node.cell
    return {
        "cell_id": cell.cell_id,
        "model": cell.model.name,
        "method": cell.label,
        "downstream": cell.downstream,
        "seed": cell.seed,
        "prerequisite": node.is_prerequisite,
        "train": not node.has_weights,
        "evaluate": list(node.missing),
        "made_from": plan.parents(cell.cell_id),
    }


def plan_table(grid: Grid, plan: Plan, estimates: Estimates) -> Table:
    """Lay out a plan: a row per model and method, and the totals below."""
    title = f"{grid.name}: {grid.suite.name} version {grid.suite.version}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.caption_justify = "left"
    table.add_column("model", overflow="fold")
    table.add_column("method")
    hours = f"{estimates.device}-hours"
    for header in ("cells", "done", "to run", "images to\ntrain on", "to\nevaluate", hours):
        table.add_column(header, justify="right")
    for (model, method), nodes in _grouped(plan).items():
        todo = _todo(plan, nodes)
        name = method + (" (prerequisite)" if nodes[0].is_prerequisite else "")
        is_restricted = any(licence.clause_of(node, grid.suite) for node in todo)
        table.add_row(
            Text(model),
            Text(name),
            str(len(nodes)),
            str(len(nodes) - len(todo)),
            f"{len(todo)}{licence.MARK if is_restricted else ''}",
            f"{sum(node.training_images for node in todo):,}",
            f"{sum(node.evaluation_images for node in todo):,}",
            _hours(estimates.hours(todo)),
        )
    table.caption = Text("\n".join([*_totals(grid, plan, estimates), *_clauses(grid, plan)]))
    return table


def _totals(grid: Grid, plan: Plan, estimates: Estimates) -> list[str]:
    todo = _todo(plan, plan.nodes.values())
    prerequisites = sum(node.is_prerequisite for node in plan.nodes.values())
    lines = [
        f"{len(plan.nodes)} cells ({prerequisites} prerequisites), {plan.n_edges} edges; "
        f"{len(plan.nodes) - len(todo)} done, {len(todo)} to run",
        f"{sum(node.training_images for node in todo):,} images to train on, "
        f"{sum(node.evaluation_images for node in todo):,} to evaluate",
        f"{size(estimates.checkpoint_bytes(todo))} of checkpoints to come"
        + _but(estimates.without_size(todo), ", those of {} not counted: no size is known"),
        f"at most {size(peak_bytes(plan, grid.keep, estimates.checkpoints))} of checkpoints at a "
        f"time (keep: {grid.keep})",
        *_trained_again(todo),
        *lost_notes(plan),
        *([_total_hours(estimates, todo)] if todo else []),
        *_asked(grid, plan),
        f"store: {grid.store}",
    ]
    if plan.spared_passes:
        once = "what cells share is done once per model and set"
        lines.insert(2, f"{plan.spared_passes:,} forward passes of an image are spared: {once}")
    if not grid.is_made:
        lines.append("the suite's data is not made yet: rib run makes it, or rib data make")
    return lines


def _demands(grid: Grid, plan: Plan) -> list[tuple[Demand, int]]:
    """Return the classes of cells that are to run by what they ask for, and how many they are."""
    cells = [node.cell for node in _todo(plan, plan.nodes.values())]
    counts = Counter(grid.demands.key(cell) for cell in cells)
    return [(demand, counts[demand.of]) for demand in grid.demands.distinct(cells).values()]


def _asked(grid: Grid, plan: Plan) -> list[str]:
    """Say what each class of cells asks for; last, of those that ask for the usual."""
    found = sorted(_demands(grid, plan), key=lambda pair: not pair[0].of)
    if len(found) == 1:
        return [f"each cell asks for {found[0][0]}"]
    return [
        f"{demand.a_cell if demand.of else 'every other cell'} asks for {demand} ({n} to run)"
        for demand, n in found
    ]


def _trained_again(todo: list[Node]) -> list[str]:
    again = sum(node.trains_again for node in todo)
    if not again:
        return []
    return [
        f"{again} of them have rows and train again: their checkpoints were not kept, and are "
        "needed for other cells or for evaluations that are missing"
    ]


def lost_notes(plan: Plan) -> list[str]:
    """Say which cells will not have the curve, or the predictions, that the grid asks for."""
    lost = (
        (plan.without_curve, "whole curve", "trained without it, and are not trained again for it"),
        (
            plan.without_predictions,
            "predictions",
            "scored without them, and their checkpoints are not kept (see the key keep)",
        ),
    )
    return [
        f"{len(cells)} cells have no {what} ({_named(cells)}): they were {why}"
        for cells, what, why in lost
        if cells
    ]


def _named(cells: list[str]) -> str:
    more = f" and {len(cells) - _NAMED_CELLS} more" if len(cells) > _NAMED_CELLS else ""
    return ", ".join(cells[:_NAMED_CELLS]) + more


def _total_hours(estimates: Estimates, todo: list[Node]) -> str:
    hours = estimates.hours(todo)
    if hours is not None:
        return f"about {_hours(hours)} {estimates.device}-hours at the images per second known"
    missing = estimates.without_speed(todo)
    text = f"{estimates.device}-hours: no images per second known"
    return text + _but(missing, " of {}: give `throughput` in the grid")


def _clauses(grid: Grid, plan: Plan) -> list[str]:
    lines = []
    for one in licence.restrictions(grid, plan):
        text = f"{licence.MARK} {one}: {one.clause.reason}. "
        if one.is_acknowledged:
            lines.append(f"{text}Acknowledged.")
        else:
            what_to_do = licence.how_to_acknowledge(one.clause)
            lines.append(f"{text}rib run starts nothing: {what_to_do}")
    return lines


def _but(models: list[str], text: str) -> str:
    """Name some models in a text; "" when there is none."""
    if not models:
        return ""
    more = f" and {len(models) - _NAMED_MODELS} more" if len(models) > _NAMED_MODELS else ""
    return text.format(", ".join(models[:_NAMED_MODELS]) + more)


def _hours(hours: float | None) -> str:
    if hours is None:
        return "—"
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"


def _grouped(plan: Plan) -> dict[tuple[str, str], list[Node]]:
    groups: dict[tuple[str, str], list[Node]] = {}
    for node in plan.nodes.values():
        groups.setdefault((node.cell.model.name, node.cell.label), []).append(node)
    return groups


def status_table(
    grid: Grid, plan: Plan, states: pd.DataFrame, remarks: Remarks, driver: str
) -> Table:
    """Lay out how far a grid is: counts by model and method, and who drives it."""
    counts = Table(title=f"{grid.name} in {grid.store}", title_justify="left", box=SIMPLE_HEAD)
    counts.caption_justify = "left"
    counts.caption = Text("\n".join([driver, *remarks.canary_notes(), *lost_notes(plan)]))
    counts.add_column("model")
    counts.add_column("method")
    for state in STATES:
        counts.add_column(state, justify="right")
    for (model, method), group in states.groupby(["model", "method"], sort=False):
        by_state = group["state"].value_counts()
        numbers = (str(by_state.get(state, 0) or "") for state in STATES)
        counts.add_row(Text(str(model)), Text(str(method)), *numbers)
    return counts


def failure_lines(states: pd.DataFrame, store: str) -> Iterator[str]:
    """Say what failed, why, and what to type. Lines are as long as they are, to be copied.

    Args:
        states: as from `orchestrator.status.with_ways_to_look`.
        store: as it was named.
    """
    failures = states[states["state"].isin(FAILED)]
    if failures.empty:
        return
    yield "failures"
    for row in failures.head(_NAMED_FAILURES).to_dict("records"):
        yield from _failure(row)
    if len(failures) > _NAMED_FAILURES:
        yield f"and {len(failures) - _NAMED_FAILURES} more; all with --json"
    n_lasting = int(failures["is_lasting"].sum())
    if n_lasting < len(failures):
        yield f"tried again by the next run: {len(failures) - n_lasting}"
    if n_lasting:
        yield f"tried again only after rib retry {shlex.quote(store)}: {n_lasting}"


def _failure(row: dict[Hashable, Any]) -> Iterator[str]:
    where = "" if row["downstream"] is None else f" on {row['downstream']}"
    cell = f"{row['model']} {row['method']}{where} (seed {row['seed']})"
    tries = "1 try" if row["attempts"] == 1 else f"{row['attempts']} tries"
    node = "" if row["host"] is None else f", the last on {row['host']}"
    yield f"  {row['cell_id']}  {cell}: {row['error_kind']} after {tries}{node}"
    lines = str(row["message"] or "").splitlines()
    if lines:
        yield f"    {lines[0][:_MESSAGE]}"
    if row["log"] is not None:
        yield f"    log: {row['log']}"
    yield f"    look into it: {row['repeat']}"
