"""One trial of a search: train with some values, and count what is right on the held-out images.

Knows nothing of who searches: values come in as a cell, and rows go out through a callback.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from workers import provenance
from workers.attempts import printable
from workers.cell import Cell, canonical_json
from workers.job import Job, Site
from workers.rows import describe, versions
from workers.run import classify, make_model, open_bench, set_up_torch
from workers.store import Store

if TYPE_CHECKING:
    from workers.training_run import EpochRecord

Report = Callable[[dict[str, Any]], None]
"""Is given the trial's row after each epoch, as it would be if the trial were stopped there."""


@dataclass(frozen=True)
class Trial:
    """One configuration that a search tries."""

    search: str
    number: int
    """0 has the grid's own values."""
    cell: Cell
    """What is trained; its recipe holds images out."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """What differs from the grid: keys of the `recipe` and `hyperparameters`."""
    micro_batches: int = 1

    def __str__(self) -> str:
        where = f"{self.cell.model.name} {self.cell.label} on {self.cell.downstream}"
        return f"{where}, trial {self.number}"

    def row(self) -> dict[str, Any]:
        """Return the columns that are known before it runs."""
        return {
            **describe(self.cell),
            "search": self.search,
            "trial": self.number,
            "configuration": canonical_json(dict(self.values)),
            "epochs": 0,
        }


def run_trial(trial: Trial, site: Site, report: Report) -> dict[str, Any]:
    """Try a trial once and return its row. Failures are told in it, never raised.

    Its held-out counts are those of the model that its method leaves, as `rib run` would have it:
    that of the last epoch, of the best one where the recipe has patience, or an average.
    """
    started, clock = datetime.now(UTC), time.monotonic()
    row = {**trial.row(), "started_at": started, **versions(site)}

    def so_far(state: str) -> dict[str, Any]:
        host = provenance.Host.here()
        return {
            **row,
            "state": state,
            "host": host.name,
            "gpu": provenance.gpu_in_use(),
            "seconds": time.monotonic() - clock,
            "finished_at": datetime.now(UTC),
        }

    def after_epoch(records: Sequence[EpochRecord]) -> None:
        row.update(columns_of(records))
        report(so_far("stopped"))

    try:
        _perform(trial, site, row, after_epoch)
    except Exception as error:
        kind = classify(error)
        row["error_kind"] = str(kind)
        row["message"] = printable(f"{type(error).__name__}: {error}")
        row["traceback"] = printable(traceback.format_exc())
        return so_far("diverged" if kind == "diverged" else "failed")
    return so_far("done")


def _perform(
    trial: Trial,
    site: Site,
    row: dict[str, Any],
    after_epoch: Callable[[Sequence[EpochRecord]], None],
) -> None:
    """Train and score; fill in the row as things become known."""
    site.adopt()
    set_up_torch(site)
    from workers.methods import method_of
    from workers.models import weights_digest
    from workers.trial_bench import TrialBench

    store = Store(site.store)
    cell = trial.cell
    for parent in cell.parents:
        make_parent(parent, site, store)
    bench = TrialBench(Job(cell, (), micro_batches=trial.micro_batches), site, store, after_epoch)
    dataset, _ = bench.downstream()
    row["dataset_digest"] = dataset.digest
    row["transform_digest"] = bench.transform.digest
    row["weights_digest"] = weights_digest(cell.model, bench.data_root)
    row["device"] = provenance.gpu_in_use() or bench.device.type
    module = method_of(cell).build(bench)
    score = bench.held_out_score(module)
    row.update(columns_of(bench.history))
    row["held_out_correct"], row["held_out_total"] = score.n_correct, score.n_total


def make_parent(cell: Cell, site: Site, store: Store) -> None:
    """Make a cell that trials start from, unless the store has its weights.

    It holds out the same images, or the trials would have been trained on what they are scored on.
    """
    if cell.is_baseline or store.has_checkpoint(cell.cell_id):
        return
    for parent in cell.parents:
        make_parent(parent, site, store)
    make_model(open_bench(Job(cell, ()), site, store))


def columns_of(records: Sequence[EpochRecord]) -> dict[str, Any]:
    """Return what a row says of the epochs that a trial has behind it."""
    best = max(records, key=lambda record: (record.held_out_accuracy, -record.epoch))
    return {
        "epochs": len(records),
        "best_epoch": best.epoch,
        "held_out_correct": records[-1].held_out_correct,
        "held_out_total": records[-1].held_out_total,
        "held_out_by_epoch": [record.held_out_correct or 0 for record in records],
    }
