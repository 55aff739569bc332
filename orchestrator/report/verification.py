"""What `rib verify` found, as a table and for JSON. Computes nothing."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from orchestrator.verify import Verification

SHOWN = 50


def verification_line(found: Verification) -> str:
    """Say that all is well, and what was looked at."""
    return (
        f"{found.store}: all well: {found.n_files:,} files, {found.n_rows:,} rows, "
        f"{found.n_checkpoints:,} checkpoints"
    )


def faults_table(found: Verification) -> Table:
    """Lay out what is wrong."""
    title = Text(f"{found.store}: {len(found.faults):,} faults")
    table = Table(title=title, title_justify="left", caption_justify="left", box=SIMPLE_HEAD)
    table.add_column("kind")
    table.add_column("where", overflow="fold")
    table.add_column("what", overflow="fold")
    for fault in found.faults[:SHOWN]:
        table.add_row(fault.kind, Text(fault.where), Text(fault.message))
    hidden = len(found.faults) - SHOWN
    if hidden > 0:
        table.caption = f"and {hidden:,} more; all with --json"
    return table


def verification_record(found: Verification) -> dict[str, Any]:
    """Return it all for JSON."""
    return {"ok": found.ok, **asdict(found)}
