"""Weights & Biases: a run per cell, written offline.

Nothing is sent: `wandb sync OUT/offline-run-*` does that, when the user says so. A run's id is its
cell's, so that what is synchronised twice is there once.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.export.cells import ExportedCell, Source, slug
from orchestrator.export.tensorboard import scalars

EXTRA = "wandb"
PACKAGES = ["wandb"]

ENVIRONMENT = {"WANDB_ERROR_REPORTING": "false"}
"""wandb reports its own errors to its maker unless told not to, from the moment it is imported."""


def write(source: Source, cells: Sequence[ExportedCell], out: Path) -> int:
    """Write offline runs, replacing those of an earlier export; return the number of cells."""
    import wandb

    settings = wandb.Settings(
        mode="offline",
        silent=True,
        console="off",
        disable_git=True,
        save_code=False,
        x_disable_stats=True,
        x_disable_meta=True,
        x_save_requirements=False,
    )
    for one in cells:
        with tempfile.TemporaryDirectory(dir=out, prefix=".") as made:
            _write_run(one, source, made, settings)
            (run,) = Path(made).glob("wandb/offline-run-*")
            target = out / f"offline-run-{one.cell.cell_id}"
            shutil.rmtree(target, ignore_errors=True)
            run.rename(target)
    return len(cells)


def _write_run(one: ExportedCell, source: Source, folder: str, settings: Any) -> None:
    import wandb

    run = wandb.init(
        project=slug(source.grid),
        id=one.cell.cell_id,
        name=one.name,
        group=one.cell.model.name[:128],
        job_type=one.cell.label[:64],
        dir=folder,
        config={**one.settings, "cell_id": one.cell.cell_id, "suite": source.suite.name},
        settings=settings,
        reinit="create_new",
    )
    try:
        for epoch, values in sorted(_by_epoch(one).items()):
            run.log(values, step=epoch)
        last = {f"accuracy/{name}": value for name, value in one.accuracies.items()}
        run.summary.update({**last, "contaminated": list(one.contaminated), **one.provenance})
    finally:
        run.finish()


def _by_epoch(one: ExportedCell) -> Mapping[int, dict[str, float]]:
    found: dict[int, dict[str, float]] = defaultdict(dict)
    for name, value, epoch in scalars(one):
        found[epoch][name] = value
    return found
