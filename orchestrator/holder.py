"""Who drives a store: the process that it is, as it tells others, and whether it still runs."""

from __future__ import annotations

import getpass
import json
import os
import shlex
import socket
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

ENDED = frozenset("ZX")
"""States of a process (proc(5)) that has ended and was not waited for yet."""


@dataclass(frozen=True)
class Holder:
    """A driver of a store."""

    host: str
    pid: int
    user: str
    command: str
    since: str
    """ISO 8601, by the clock of its host; only ever shown."""
    place: str = ""
    """Where its pid means something: a boot of a kernel and a pid namespace; "" if not known."""
    started: str = ""
    """When its process started, in ticks since that boot: pids are used again."""
    heartbeat_s: float = 5.0

    @classmethod
    def here(cls, heartbeat_s: float = 5.0) -> Holder:
        """Describe this process."""
        pid = os.getpid()
        return cls(
            host=socket.gethostname(),
            pid=pid,
            user=_user(),
            command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            place=_place(),
            started=_process(pid)[1],
            heartbeat_s=heartbeat_s,
        )

    @classmethod
    def parse(cls, data: bytes) -> Holder:
        """Read what `to_bytes` wrote; of what is not that, nothing is known."""
        try:
            return cls(**json.loads(data))
        except (ValueError, TypeError):
            return cls("an unknown host", 0, "somebody", "?", "?")

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self), indent=2).encode()

    @property
    def is_here(self) -> bool:
        """Whether this process can tell if that one runs."""
        return bool(self.place and self.started) and self.place == _place()

    @property
    def is_running(self) -> bool:
        """Whether its process runs, where that can be told (`is_here`)."""
        state, started = _process(self.pid)
        return bool(started) and started == self.started and state not in ENDED

    def __str__(self) -> str:
        return f"{self.user} on {self.host} (pid {self.pid}), since {self.since}: {self.command}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id that has no name
        return f"user {os.getuid()}"


def _place() -> str:
    """Name this boot of this kernel and the pid namespace; "" where there is no /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _process(pid: int) -> tuple[str, str]:
    """Return the state of a process and when it started, or "" twice when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "", ""
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return fields[0], fields[19]
