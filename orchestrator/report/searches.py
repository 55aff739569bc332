"""What searches have found, as a table and as JSON. Computes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from orchestrator.search import Finding, Row, accuracy_of

STATES = ("done", "stopped", "diverged", "failed")


def search_table(findings: Sequence[Finding], title: str) -> Table:
    """Return a row for each search: what was chosen, and what the grid's own values came to."""
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left")
    for column in ("model", "downstream", "method"):
        table.add_column(column, overflow="fold")
    for column in ("trials", "own %", "best %"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("chosen", overflow="fold")
    for finding in findings:
        table.add_row(
            *finding.search.key,
            _trials(finding),
            _percent(finding.own),
            _percent(finding.best),
            _chosen(finding),
        )
    return table


def search_records(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return the same for JSON, with counts."""
    return [_record(finding) for finding in findings]


def _record(finding: Finding) -> dict[str, Any]:
    model, downstream, method = finding.search.key
    choice = finding.choice
    return {
        "search": finding.search.search_id,
        "model": model,
        "downstream": downstream,
        "method": method,
        "trials": len(finding.search.trials),
        **{state: finding.count(state) for state in STATES},
        "own": _counts(finding.own),
        "best": _counts(finding.best),
        "recipe": None if choice is None else choice.recipe,
        "hyperparameters": None if choice is None else choice.hyperparameters,
    }


def _counts(row: Row | None) -> dict[str, Any] | None:
    columns = ("trial", "held_out_correct", "held_out_total", "epochs")
    return None if row is None else {column: row[column] for column in columns}


def _trials(finding: Finding) -> str:
    """Say how many trials have ended, and how many of them by themselves."""
    total, ended = len(finding.search.trials), len(finding.rows)
    counted = [f"{finding.count(state)} {state}" for state in STATES[1:] if finding.count(state)]
    shown = f"{total}" if ended == total else f"{ended} of {total}"
    return f"{shown} ({', '.join(counted)})" if counted else shown


def _percent(row: Row | None) -> str:
    return "—" if row is None else f"{100 * accuracy_of(row):.2f}"


def _chosen(finding: Finding) -> str:
    choice, best = finding.choice, finding.best
    if choice is None or best is None:
        return "nothing: no trial ran to its end"
    values = (*choice.recipe.items(), *choice.hyperparameters.items())
    shown = ", ".join(f"{name} {_short(value)}" for name, value in values)
    return f"{shown} (the grid's own)" if best["trial"] == 0 else shown


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
