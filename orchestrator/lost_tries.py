"""The last word on a try whose worker could not say it itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from workers.attempts import ended_row, try_columns
from workers.job import Job
from workers.logs import fatal_error, rescue
from workers.outcome import ErrorKind, Outcome
from workers.storage import StorageError
from workers.store import Store


def record_end(store: Store, job: Job, outcome: Outcome) -> tuple[Outcome, str]:
    """Say in the store how a try ended, and bring there what there is of its log.

    Where and when it began is known from what it said then. The next run ends what cannot be
    recorded now and so looks as if it ran.

    Returns:
        The outcome, with what is known now: as the worker recorded it, if it came to that. And
        what went wrong with recording it.
    """
    cell_id = job.cell.cell_id
    try:
        rescue(store.storage)
        if outcome.error is ErrorKind.WORKER_CRASH:
            why = fatal_error(store.storage, cell_id, job.attempt)
            outcome = replace(outcome, message="\n".join(filter(None, (why, outcome.message))))
        begun = store.read_attempt(cell_id, job.attempt) or try_columns(job)
        if begun.get("state", "running") != "running":
            return outcome_in(begun), ""  # it had said its last word when it died
        started = begun.get("started_at")
        if started is not None and not outcome.seconds:
            took = (datetime.now(UTC) - started).total_seconds()
            outcome = replace(outcome, seconds=max(0.0, took))
        store.commit_attempt(ended_row(begun, outcome))
    except StorageError as error:
        return outcome, str(error)
    return outcome, ""


def outcome_in(row: Mapping[str, Any]) -> Outcome:
    """Return how a try ended, of its row."""
    return Outcome(
        seconds=row["seconds"] or 0.0,
        error=None if row["error_kind"] is None else ErrorKind(row["error_kind"]),
        message=row["message"] or "",
        traceback=row["traceback"] or "",
        recorded=True,
    )
