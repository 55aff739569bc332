"""Scoring some splits of a cell that another worker is scoring: what idle workers do.

Both leave each other's work alone with nothing but the store between them: the cell's own worker
goes through its splits from the first on, helpers from the last back, and each helper says which
split it has begun. The cell's own worker takes over what is there by the time it arrives. Whoever
dies, or is wrong about the other, costs a split that is scored twice, to the same numbers.
"""

from __future__ import annotations

import logging
import time
import traceback
from typing import TYPE_CHECKING

from workers.attempts import printable
from workers.going import may_go_on
from workers.job import Job, Site
from workers.outcome import Outcome
from workers.provenance import kind_of
from workers.run import classify, open_bench
from workers.store import Store

if TYPE_CHECKING:
    from workers.datasets import Dataset
    from workers.set_scores import Model

HELP_S = 300.0
"""After how long a helper looks for nothing more to do: cells may be waiting by then."""

logger = logging.getLogger(__name__)


def help_out(job: Job, site: Site, seconds: float = HELP_S) -> Outcome:
    """Score splits of a cell that another worker is scoring, as long as there are any.

    Args:
        job: what that worker is at.
        site: where things are.
        seconds: after how long no split is begun any more.

    Returns:
        How many rows were kept for it; or what went wrong, which is nothing to the cell.
    """
    started = time.monotonic()
    try:
        rows = _help(job, site, started + seconds)
    except Exception as error:
        logger.warning("no help for %s: %s", job.cell, printable(traceback.format_exc()))
        message = f"{type(error).__name__}: {error}"
        return Outcome(error=classify(error), message=message, recorded=True)
    return Outcome(rows=rows, seconds=time.monotonic() - started, recorded=True)


def _help(job: Job, site: Site, until: float) -> int:
    store = Store(site.store)
    if not may_go_on(store, site.driver):
        return 0
    bench = open_bench(job, site, store)
    from workers.methods import method_of
    from workers.set_scores import Model

    if not (job.cell.is_baseline or store.has_checkpoint(job.cell.cell_id)):
        return 0
    # Not `make_model`: it would train, were the checkpoint deleted at this moment.
    method = method_of(job.cell)
    module = method.build(bench) if job.cell.is_baseline else bench.restore(method)
    model, n_rows = Model(bench, module), 0
    while time.monotonic() < until and may_go_on(store, site.driver):
        found = _last_unclaimed(model)
        if found is None or not _score(model, *found):
            break
        n_rows += 1
    return n_rows


def _last_unclaimed(model: Model) -> tuple[Dataset, int] | None:
    """Return the last split that nobody has scored or begun; None when the cell's worker has it."""
    bench, kept = model.bench, model.kept
    kept.look()
    last, is_first = None, True
    for name in bench.job.evaluate:
        if name in bench.site.predictions or _is_committed(bench.store, bench.cell.cell_id, name):
            continue
        dataset = bench.dataset(name)
        for number in range(len(dataset.splits)):
            if model.find(dataset, number) is not None or (name, number) in kept.claims:
                continue
            if not is_first:  # that one its own worker is at
                last = dataset, number
            is_first = False
    return last


def _is_committed(store: Store, cell_id: str, name: str) -> bool:
    return store.storage.exists(f"accuracy/{cell_id}.{name}.parquet")


def _score(model: Model, dataset: Dataset, number: int) -> bool:
    """Score a split and keep its row; False when the cell was done meanwhile."""
    from workers.rows import made_of
    from workers.set_scores import score_split

    place = dataset.spec.name, number
    model.kept.claim(place, kind_of(made_of(model.bench, dataset)["device"]))
    rows = score_split([model], dataset, number)
    if not model.kept.is_claimed(place):
        return False
    model.kept.keep([(place, rows[0])])
    return True
