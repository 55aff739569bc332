"""Sending whole runs to a cluster through Ray's Jobs API, and following them.

A job runs `rib run` on the head. It does not end with the terminal that sent it: who comes back
follows it again. What this relies on (Ray 2.60): a job's log is kept as long as its head lives and
is told from its beginning to whoever asks; a job whose environment says so is stopped with SIGINT.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orchestrator.cluster.settings  # noqa: F401  # first: ray reads what it sets

# isort: split
from ray.job_submission import JobStatus, JobSubmissionClient

from orchestrator.cluster import tokens
from workers.errors import Problem, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCAL = "http://127.0.0.1:8265"
"""Where a head takes jobs, as seen from itself or through a tunnel to it."""

STOP_S = 360
"""How long a job that is stopped may take to come to an end; more than `rib run` itself allows."""

LOST_S = 60.0
"""How long a head may be out of reach before following is given up."""

FAILED, INTERRUPTED = 1, 130


class Jobs:
    """The jobs of a cluster."""

    def __init__(self, address: str = LOCAL) -> None:
        """Reach a head.

        Raises:
            UserError: when it does not answer or does not let us in.
        """
        if not address.startswith(("http://", "https://")):
            hint = f"such as {LOCAL}"
            raise UserError([Problem("--address", f"{address!r} is no address of jobs", hint)])
        tokens.ask_for_token(os.environ)
        tokens.need_token(os.environ)
        self.address = address
        # They would take the place of the address that was asked for.
        for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
            os.environ.pop(name, None)
        with explained(address):
            self._client = JobSubmissionClient(address)

    def submit(
        self, entrypoint: str, job_id: str, folder: Path, environment: Mapping[str, str]
    ) -> str:
        """Have the head run a command in a copy of a folder; return the job's id."""
        runtime_env: dict[str, Any] = {
            "working_dir": str(folder),
            "env_vars": {
                "RAY_JOB_STOP_SIGNAL": "SIGINT",
                "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S),
                **environment,
            },
        }
        with explained(self.address):
            return self._client.submit_job(
                entrypoint=entrypoint, submission_id=job_id, runtime_env=runtime_env
            )

    def follow(self, job_id: str, write: Callable[[str], None]) -> int:
        """Pass a job's log on, from its beginning, until it ends; return its exit code.

        Raises:
            UserError: when there is no such job, or the head is out of reach for LOST_S.
        """
        self._status(job_id)
        passed = 0
        lost_at: float | None = None
        while True:
            try:
                passed += asyncio.run(self._tail(job_id, passed, write))
                ended = self._ended(job_id)
                lost_at = None
            except Exception as error:  # whatever its HTTP library makes of a lost connection
                lost_at = lost_at or time.monotonic()
                if time.monotonic() - lost_at > LOST_S:
                    problem = Problem(self.address, f"the head is out of reach: {_reason(error)}")
                    raise UserError([problem]) from error
                ended = None
            if ended is not None:
                return ended
            time.sleep(1.0)

    async def _tail(self, job_id: str, skip: int, write: Callable[[str], None]) -> int:
        """Pass on what comes after the first `skip` characters; return how many that were."""
        seen = 0
        async for text in self._client.tail_job_logs(job_id):
            start = max(0, skip - seen)
            seen += len(text)
            if start < len(text):
                write(text[start:])
        return max(0, seen - skip)

    def _ended(self, job_id: str) -> int | None:
        """Return the exit code of a job; None while it goes on."""
        info = self._client.get_job_info(job_id)
        if not info.status.is_terminal():
            return None
        if info.driver_exit_code is not None:
            return int(info.driver_exit_code)
        ends = {JobStatus.SUCCEEDED: 0, JobStatus.STOPPED: INTERRUPTED}
        return ends.get(info.status, FAILED)

    def message(self, job_id: str) -> str:
        """Return what Ray says of how a job stands: its status, and why."""
        info = self._client.get_job_info(job_id)
        why = (info.message or "").strip().splitlines()
        return f"{info.status}: {why[0]}" if why else str(info.status)

    def stop(self, job_id: str) -> None:
        """Ask a job to stop as Ctrl-C does: cells get to where they can be left."""
        self._status(job_id)
        with explained(self.address):
            self._client.stop_job(job_id)

    def _status(self, job_id: str) -> str:
        with explained(self.address, job_id):
            return str(self._client.get_job_status(job_id))


@contextmanager
def explained(address: str, job_id: str = "") -> Iterator[None]:
    """Turn what the Jobs API raises into a problem."""
    try:
        yield
    except (RuntimeError, ConnectionError, ValueError, OSError) as error:
        reason = _reason(error)
        if (job_id and "404" in reason) or "does not exist" in reason:
            raise UserError([Problem(address, f"it has no job {job_id!r}")]) from error
        hint = "the head's dashboard listens on the head alone: see docs/cluster.md for a tunnel"
        problem = Problem(address, f"no head takes jobs there: {reason}", hint)
        raise UserError([problem]) from error


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
