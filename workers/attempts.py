"""The row of a try in the store's table `attempts`, while it runs and when it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from workers import provenance
from workers.job import Job, Site
from workers.outcome import ErrorKind, Outcome


def begun_row(job: Job, site: Site) -> dict[str, Any]:
    """Return the row of a try that begins here and now."""
    host = provenance.Host.here()
    return {
        **try_columns(job),
        "state": "running",
        "host": host.name,
        "pid": host.pid,
        "gpu": provenance.gpu_given(),
        "micro_batches": job.micro_batches_at(site),
        "loader_workers": job.loader_workers_at(site),
        "memory_bytes": job.memory,
        "started_at": datetime.now(UTC),
    }


def try_columns(job: Job) -> dict[str, Any]:
    """Return the columns that say which try it is."""
    return {
        "cell_id": job.cell.cell_id,
        "attempt": job.attempt,
        "model": job.cell.model.name,
        "downstream": job.cell.downstream,
        "method": job.cell.label,
        "seed": job.cell.seed,
    }


def used_columns() -> dict[str, Any]:
    """Return the columns that say what the try that ends in this process has used."""
    return {
        "gpu": provenance.gpu_in_use(),
        "peak_memory_bytes": provenance.peak_memory_bytes(),
    }


def ended_row(row: Mapping[str, Any], outcome: Outcome) -> dict[str, Any]:
    """Return the row of a try that has ended just now.

    Args:
        row: what is known of it, as from `begun_row`.
        outcome: how it ended.
    """
    return {
        **row,
        "state": final_state(outcome),
        "error_kind": outcome.error,
        "message": printable(outcome.message),
        "traceback": printable(outcome.traceback),
        "seconds": outcome.seconds,
        "finished_at": datetime.now(UTC),
    }


def printable(text: str) -> str:
    """Return text that Parquet takes: a file name that is not UTF-8 comes with escapes."""
    return text.encode(errors="backslashreplace").decode()


def final_state(outcome: Outcome) -> str:
    """Return the state that a try ends in."""
    if outcome.ok:
        return "done"
    return "diverged" if outcome.error is ErrorKind.DIVERGED else "failed"
