"""Running one cell: the sole entry point that executors call.

`execute` keeps the books of a try; `perform` is the work itself: make the model (or take up the
one that an earlier try left), then score it set by set, committing each set's rows as they come.
"""

from __future__ import annotations

import errno
import logging
import os
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from workers.attempts import begun_row, ended_row, printable, used_columns
from workers.errors import DataError, DivergedError, LostCheckpointError, PreemptedError, UserError
from workers.going import may_go_on, stop_if_asked
from workers.job import Job, Site
from workers.logs import keeping_log, rescue
from workers.outcome import ErrorKind, Outcome
from workers.release import fills_gpu, loses_gpu
from workers.storage import StorageError
from workers.store import CHECKPOINT, Row, Store

if TYPE_CHECKING:
    from torch import nn

    from workers.bench import Bench
    from workers.set_scores import Model

Perform = Callable[[Job, Site, Store], int]
"""Does a job's work and returns the number of rows that it committed."""

logger = logging.getLogger(__name__)


def execute(job: Job, site: Site, perform: Perform | None = None) -> Outcome:
    """Try a cell once. Failures are told in the Outcome, never raised.

    The try is in the store's `attempts` from its start, and so is how it ended. What it printed
    and logged is in the store's `logs`.
    """
    return _keep_books(job, site, perform or perform_cell, _keep_log, _go_on)


def debug(job: Job, site: Site, perform: Perform | None = None) -> Outcome:
    """Try a cell once as `execute` does, on a terminal: a debugger opens where it fails.

    What it prints stays on the terminal, so that breakpoints work, and there is no log.
    """
    return _keep_books(job, site, perform or perform_cell, _keep_no_log, _look_into)


def _keep_books(
    job: Job,
    site: Site,
    perform: Perform,
    keep_log: Callable[[Job, Store], AbstractContextManager[None]],
    on_error: Callable[[Exception], None],
) -> Outcome:
    store = Store(site.store)
    if not may_go_on(store, site.driver):
        # It never started, so there is nothing to record.
        return Outcome(error=ErrorKind.PREEMPTED, message="not started", recorded=True)
    row, clock = begun_row(job, site), time.monotonic()
    with keep_log(job, store):
        logger.info("try %d at %s, cell %s: %s", job.attempt, job.cell, job.cell.cell_id, _had(row))
        try:
            store.commit_attempt(row)
            rows = perform(job, site, store)
            outcome = Outcome(rows=rows, seconds=time.monotonic() - clock)
            logger.info("done: %d rows", rows)
        except Exception as error:
            outcome = _failure(error, time.monotonic() - clock)
            logger.error("%s\n%s", outcome.error, printable(outcome.traceback))
            on_error(error)
    try:
        store.commit_attempt(ended_row({**row, **used_columns()}, outcome))
    except Exception as error:
        # Without its last word the try would look as if it were running for ever.
        return Outcome(seconds=outcome.seconds, error=classify(error), message=str(error))
    return replace(outcome, recorded=True)


def _keep_log(job: Job, store: Store) -> AbstractContextManager[None]:
    with suppress(StorageError):  # whoever comes past next tries again
        rescue(store.storage)
    return keeping_log(store.storage, job.cell.cell_id, job.attempt)


def _keep_no_log(job: Job, store: Store) -> AbstractContextManager[None]:  # noqa: ARG001
    return nullcontext()


def _go_on(error: Exception) -> None:
    """Leave a failure to the books."""


def _look_into(error: Exception) -> None:
    """Open a debugger where an exception was raised."""
    if isinstance(error, PreemptedError):
        return
    import pdb

    pdb.post_mortem(error.__traceback__)


def _had(row: Row) -> str:
    """Say what a try is given, of its row."""
    memory = row["memory_bytes"]
    reserved = f", {memory} bytes of memory reserved" if memory else ""
    return (
        f"{row['host']} pid {row['pid']} {row['gpu'] or 'cpu'}, {row['micro_batches']} parts a "
        f"batch, {row['loader_workers']} loader workers{reserved}"
    )


def _failure(error: Exception, seconds: float) -> Outcome:
    return Outcome(
        seconds=seconds,
        error=classify(error),
        message=f"{type(error).__name__}: {error}",
        traceback="".join(traceback.format_exception(error)),
    )


def perform_cell(job: Job, site: Site, store: Store) -> int:
    """Make the cell's model and commit a row for every split of the sets that are missing."""
    bench = open_bench(job, site, store)
    module = make_model_anyway(bench)
    if not job.evaluate:
        return 0
    from workers.set_scores import Model, SetScores

    scores = SetScores(Model(bench, module), models_along(bench))
    rows = 0
    for name in job.evaluate:
        stop_if_asked(store, site.driver)
        rows += scores.commit(name)
    scores.close()
    return rows


def models_along(bench: Bench) -> list[Model]:
    """Make the models of the cells that are scored along with a cell.

    One that cannot be made is left out: its own try will say why.
    """
    from workers.bench import Bench
    from workers.set_scores import Model

    models = []
    for cell in bench.job.along:
        own = Bench(replace(bench.job, cell=cell, along=()), bench.site, bench.store)
        try:
            models.append(Model(own, make_model_anyway(own)))
        except Exception as error:
            logger.warning("%s is not scored along: %s", cell, error)
    return models


def open_bench(job: Job, site: Site, store: Store) -> Bench:
    """Set torch up and lay out the cell's workbench."""
    site.adopt()
    set_up_torch(site)
    from workers.bench import Bench

    return Bench(job, site, store)


def set_up_torch(site: Site) -> None:
    """Import torch and make it deterministic."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    import torch

    torch.set_num_threads(site.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def make_model_anyway(bench: Bench) -> nn.Module:
    """Make the cell's model; a checkpoint that turns out to be lost is made again, here and now.

    Raises:
        StorageError: when a checkpoint is lost once more as soon as it is made.
    """
    cells = {cell.cell_id: cell for cell in (bench.cell, *bench.cell.parents)}
    while True:
        try:
            return make_model(bench)
        except LostCheckpointError as error:
            if error.cell_id not in cells:
                raise StorageError(str(error)) from error
            lost = cells.pop(error.cell_id)
            if lost != bench.cell:
                perform_cell(
                    replace(bench.job, cell=lost, evaluate=(), curve=None), bench.site, bench.store
                )


def make_model(bench: Bench) -> nn.Module:
    """Return the cell's model: built by its method, or as an earlier try left it.

    What was built is saved before anything is scored, so that no try trains it again. A baseline
    is its own weights file.
    """
    from workers.methods import method_of
    from workers.models import pack_with_digest, state_of

    cell = bench.cell
    method = method_of(cell)
    if bench.store.has_checkpoint(cell.cell_id):
        return bench.restore(method)
    module = method.build(bench)
    if bench.history:
        rows = [{"cell_id": cell.cell_id, **vars(record)} for record in bench.history]
        bench.store.commit_history(cell.cell_id, rows)
    if not cell.is_baseline:
        bench.store.save_artifact(cell.cell_id, CHECKPOINT, pack_with_digest(state_of(module)))
        bench.states.clear()
    return module


def classify(error: Exception) -> ErrorKind:
    """Say what kind of failure an exception in a cell is."""
    if isinstance(error, DataError):
        return ErrorKind.DATA
    if isinstance(error, UserError):
        return ErrorKind.USER
    if isinstance(error, PreemptedError):
        return ErrorKind.PREEMPTED
    if isinstance(error, DivergedError):
        return ErrorKind.DIVERGED
    if isinstance(error, StorageError):
        return ErrorKind.STORAGE
    if isinstance(error, MemoryError):
        return ErrorKind.HOST_OOM
    if fills_gpu(error):
        return ErrorKind.CUDA_OOM
    if loses_gpu(error):
        return ErrorKind.WORKER_CRASH
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
        return ErrorKind.STORAGE
    return ErrorKind.BUG
