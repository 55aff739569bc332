"""A plan and how far it is, as tables. Computes nothing but totals."""

from __future__ import annotations

from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from orchestrator.grid import Grid
from orchestrator.plan import Node, Plan
from orchestrator.status import STATES

_NAMED_FAILURES = 20


def plan_summary(grid: Grid, plan: Plan) -> dict[str, Any]:
    """Return a plan in numbers, and each of its cells; for JSON."""
    todo = [plan.nodes[cell_id] for cell_id in plan.nodes if cell_id in plan.todo]
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
        "checkpoint_bytes": checkpoint_bytes(grid, todo),
        "todo": [_describe(node, plan) for node in todo],
    }


def checkpoint_bytes(grid: Grid, todo: list[Node]) -> int:
    """Return the disk space of the checkpoints to come: each as large as its model's weights."""
    sizes = {}
    for model in grid.models:
        path = None if model.file is None else grid.data_root / model.file
        sizes[model.name] = path.stat().st_size if path is not None and path.is_file() else 0
    return sum(sizes[node.cell.model.name] for node in todo if not node.has_weights)


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


def plan_table(grid: Grid, plan: Plan) -> Table:
    """Lay out a plan: a row per model and method, and the totals below."""
    summary = plan_summary(grid, plan)
    table = Table(title=f"{grid.name}: {summary['suite']}", title_justify="left", box=SIMPLE_HEAD)
    table.caption_justify = "left"
    table.add_column("model")
    table.add_column("method")
    for header in ("cells", "done", "to run", "images to train on", "to evaluate"):
        table.add_column(header, justify="right")
    for (model, method), nodes in _grouped(plan).items():
        todo = [node for node in nodes if node.cell.cell_id in plan.todo]
        name = method + (" (prerequisite)" if nodes[0].is_prerequisite else "")
        table.add_row(
            Text(model),
            Text(name),
            str(len(nodes)),
            str(len(nodes) - len(todo)),
            str(len(todo)),
            f"{sum(node.training_images for node in todo):,}",
            f"{sum(node.evaluation_images for node in todo):,}",
        )
    table.caption = Text(_totals(summary))
    return table


def _totals(summary: dict[str, Any]) -> str:
    lines = [
        f"{summary['cells']} cells ({summary['prerequisites']} prerequisites), "
        f"{summary['edges']} edges; {summary['done']} done, {summary['to_run']} to run",
        f"{summary['training_images']:,} images to train on, "
        f"{summary['evaluation_images']:,} to evaluate, "
        f"{summary['checkpoint_bytes'] / 2**20:,.0f} MiB of checkpoints to come",
        f"store: {summary['store']}",
    ]
    if not summary["data_is_made"]:
        lines.append("the suite's data is not made yet: rib run makes it, or rib data make")
    return "\n".join(lines)


def _grouped(plan: Plan) -> dict[tuple[str, str], list[Node]]:
    groups: dict[tuple[str, str], list[Node]] = {}
    for node in plan.nodes.values():
        groups.setdefault((node.cell.model.name, node.cell.label), []).append(node)
    return groups


def status_tables(grid: Grid, states: pd.DataFrame) -> list[Table]:
    """Lay out how far a grid is: counts by model and method, then what failed and why."""
    counts = Table(title=f"{grid.name} in {grid.store}", title_justify="left", box=SIMPLE_HEAD)
    counts.add_column("model")
    counts.add_column("method")
    for state in STATES:
        counts.add_column(state, justify="right")
    for (model, method), group in states.groupby(["model", "method"], sort=False):
        by_state = group["state"].value_counts()
        numbers = (str(by_state.get(state, 0) or "") for state in STATES)
        counts.add_row(Text(str(model)), Text(str(method)), *numbers)
    failures = states[states["state"].isin(["failed", "diverged"])]
    return [counts] if failures.empty else [counts, _failure_table(failures)]


def _failure_table(failures: pd.DataFrame) -> Table:
    table = Table(title="failures", title_justify="left", box=SIMPLE_HEAD)
    for header in ("cell", "what", "tries", "host", "kind", "message"):
        table.add_column(header, overflow="fold")
    for row in failures.head(_NAMED_FAILURES).to_dict("records"):
        what = f"{row['model']} {row['method']} on {row['downstream']} (seed {row['seed']})"
        message = str(row["message"]).splitlines()[0][:200]
        table.add_row(
            Text(row["cell_id"]),
            Text(what),
            str(row["attempts"]),
            Text(str(row["host"])),
            Text(str(row["error_kind"])),
            Text(message),
        )
    if len(failures) > _NAMED_FAILURES:
        table.caption = f"and {len(failures) - _NAMED_FAILURES} more; all with --json"
    return table
