"""Starting Ray on a machine: the head of a cluster, or a worker that joins one.

What is started asks for a token, shows its dashboard on this machine alone, and sends nothing home.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.cluster import tokens
from orchestrator.cluster.settings import SETTINGS
from orchestrator.cluster.tokens import Environment
from workers.errors import Problem, UserError

Tell = Callable[[str], None]

RESERVED = ("--head", "--address", "--node-ip-address", "--port", "--block")
"""Options of `ray start` that are decided here."""


@dataclass(frozen=True)
class Node:
    """How a machine takes part in a cluster."""

    address: str | None = None
    """`HOST:PORT` of the head to join; None for a head."""
    node_ip: str | None = None
    """By which address the others reach this machine; None: Ray finds out."""
    port: int = 6379
    dashboard_host: str = "127.0.0.1"
    dashboard_port: int = 8265
    blocks: bool = True
    """Whether the command lasts as long as the node."""
    options: tuple[str, ...] = ()
    """More options of `ray start`."""

    @property
    def is_head(self) -> bool:
        return self.address is None


def prepare(node: Node, environment: Environment, allow_open: bool, tell: Tell) -> list[str]:
    """Set the environment up for a node of a cluster, and return the command that starts it.

    Args:
        node: what to start.
        environment: of the command; changed.
        allow_open: start without a token all the same.
        tell: is told of what is done.

    Raises:
        UserError: when others could reach the cluster without a token, there is no token to join
            it with, or an option does not fit.
    """
    if allow_open:
        environment.update({tokens.MODE: "disabled", tokens.ALLOW_OPEN: "1"})
    tokens.ask_for_token(environment)
    problems = _misplaced(node.options)
    if node.is_head and tokens.is_open(environment) and not _is_loopback(node.dashboard_host):
        message = "it would let everybody who reaches it run jobs, and there is no token"
        problems.append(Problem(f"--dashboard-host {node.dashboard_host}", message))
    if problems:
        raise UserError(problems)
    (tokens.make_token if node.is_head else tokens.need_token)(environment, tell)
    if tokens.is_open(environment):
        tell("no token is asked for: who reaches this machine's ports can run programs as you")
    for name, value in SETTINGS.items():
        environment.setdefault(name, value)
    # Jobs run `rib`, and do not know which environment this one is of.
    own = str(Path(sys.executable).parent)
    environment["PATH"] = os.pathsep.join([own, *filter(None, [environment.get("PATH")])])
    return command_of(node, has_jobs())


def command_of(node: Node, jobs: bool) -> list[str]:
    """Return the `ray start` of a node, for a Ray with or without the Jobs API."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start"]
    if node.node_ip is not None:
        command.append(f"--node-ip-address={node.node_ip}")
    if node.is_head:
        command += ["--head", f"--port={node.port}", f"--include-dashboard={str(jobs).lower()}"]
        if jobs:
            command.append(f"--dashboard-host={node.dashboard_host}")
            command.append(f"--dashboard-port={node.dashboard_port}")
    else:
        command.append(f"--address={node.address}")
    if node.blocks:
        command.append("--block")
    return [*command, *node.options]


def has_jobs() -> bool:
    """Whether this Ray has the Jobs API, which comes with ray[default]."""
    return all(importlib.util.find_spec(name) for name in ("aiohttp_cors", "opencensus"))


def wait_for_head(address: str, patience_s: float, tell: Tell = lambda _: None) -> None:
    """Wait until something listens at a head's address.

    Raises:
        UserError: when the address is none, or nothing does in time.
    """
    host, separator, port = address.rpartition(":")
    if not (separator and host and port.isdecimal()):
        raise UserError([Problem(address, "is no address of a head", "HOST:PORT, such as h:6379")])
    deadline = time.monotonic() + patience_s
    is_told = False
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5.0).close()
            return
        except (OSError, OverflowError) as error:
            if time.monotonic() >= deadline:
                message = f"no head answers there: {error}"
                raise UserError([Problem(address, message)]) from error
        if not is_told:
            tell(f"waiting for the head at {address}")
            is_told = True
        time.sleep(0.5)


def become(command: Sequence[str], environment: Environment) -> None:
    """Go on as another program; does not return."""
    os.execvpe(command[0], list(command), dict(environment))


def _misplaced(options: Sequence[str]) -> list[Problem]:
    given = [option.partition("=")[0] for option in options]
    return [
        Problem(name, "is decided by this command", "see: rib cluster --help")
        for name in given
        if name in RESERVED
    ]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
