"""What was injected and what came of it, as a table."""

from __future__ import annotations

from rich import box
from rich.table import Table

from tests.chaos.faults import KINDS
from tests.chaos.rounds import Options, Report


def table(options: Options, report: Report) -> Table:
    """Draw a report."""
    drawn = Table(box=box.SIMPLE_HEAD, title=title(options, report), title_justify="left")
    drawn.add_column("fault")
    drawn.add_column("")
    drawn.add_column("hit", justify="right")
    drawn.add_column("missed", justify="right")
    for kind in options.kinds:
        drawn.add_row(kind, KINDS[kind].what, *_numbers(report.faults[kind], report.missed[kind]))
    drawn.add_row("all", "", *_numbers(report.faults.total(), report.missed.total()))
    drawn.add_section()
    for name, value in outcome(report).items():
        drawn.add_row("", name, str(value))
    return drawn


def title(options: Options, report: Report) -> str:
    minutes, seconds = divmod(round(report.seconds), 60)
    return (
        f"chaos, seed {options.seed}: {report.faults.total()} faults in {report.rounds} runs of a "
        f"grid on {options.nodes} nodes, {minutes} min {seconds} s"
    )


def outcome(report: Report) -> dict[str, int | str]:
    """Return what came of it all, by name."""
    compared = report.comparison
    endings = ", ".join(f"{n} {how}" for how, n in report.drivers.most_common())
    kinds = ", ".join(f"{n} {kind}" for kind, n in report.failed_tries.most_common())
    return {
        f"drivers ({endings})": report.drivers.total(),
        "cells": report.cells,
        "cells tried more than once": report.cells_tried_again,
        f"tries that failed ({kinds})": report.failed_tries.total(),
        "failed cells that were cleared with rib retry": report.cells_retried_by_operator,
        "frozen workers that woke": report.workers_woken,
        "damaged files set aside": report.files_set_aside,
        "rows compared": compared.rows,
        "rows of the training history compared": compared.epochs,
        "checkpoints compared": compared.checkpoints,
        "differences": len(compared.differences),
        "rows or checkpoints lost": len(compared.lost),
        "rows doubled": len(compared.doubled),
        "faults that rib verify finds": len(report.faults_of_verify),
        "files left in temporary folders": len(report.temporary_files),
        "processes left": len(report.processes),
        "other problems": len(report.problems),
    }


def _numbers(*values: int) -> list[str]:
    return [str(value) for value in values]
