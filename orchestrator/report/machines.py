"""The machines of a cluster side by side, where they differ. Computes nothing."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from orchestrator.cluster.comparison import Cell, Comparison


def machines_table(comparison: Comparison) -> Table:
    """Lay out what machines say of themselves, with what differs from the driver's marked."""
    title = Text("the machines of the cluster; ✗ is not as the driver has it")
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("node")
    for column in comparison.columns:
        table.add_column(column, overflow="fold")
    for name, fields in comparison.rows:
        table.add_row(Text(name), *(_text(fields.get(column)) for column in comparison.columns))
    return table


def _text(found: Cell | None) -> Text:
    if found is None:
        return Text("")
    return Text(f"✗ {found.text}", "bold red") if found.differs else Text(found.text)
