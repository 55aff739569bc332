"""Whether anything listens where a cluster is said to be: Ray itself tries for minutes."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from workers.errors import Problem, UserError

ANSWER_S = 10.0
"""How long a head may take to accept a connection, in seconds."""


def check_reachable(address: str | None, patience_s: float = ANSWER_S) -> None:
    """Check that a connection to the head of a cluster can be opened.

    Args:
        address: `HOST:PORT`; `auto`, which Ray finds by itself, and None are not looked at.
        patience_s: how long that may take, in seconds.

    Raises:
        UserError: when it cannot be.
    """
    if address is None or address in ("auto", "local"):
        return
    host, port = _host_and_port(address)
    try:
        socket.create_connection((host, port), patience_s).close()
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        message = f"no Ray cluster answers at {address!r}: {reason}"
        hint = "the head's address and port, 6379 unless it was started with another"
        raise UserError([Problem("--address", message, hint)]) from error


def _host_and_port(address: str) -> tuple[str, int]:
    """Take an address apart.

    Raises:
        UserError: when it is none.
    """
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not port:
        message = f"{address!r} is no address of a Ray cluster"
        raise UserError([Problem("--address", message, "HOST:PORT of its head, or auto")])
    return host, port
