"""Several hosts on one machine: namespaces with an address, a name and a data path each.

A host has its own network, process, mount and host-name namespaces. The switch between them is in
a namespace, too, so that nothing of this machine's own network is touched. What runs on a host ends
with it, whatever it is.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]

SET_UP = """
set -e
hostname "$RIB_HOST"
mkdir -p /tmp/ray
mount --bind "$RIB_HOME/ray" /tmp/ray
mount --bind "$RIB_DATA_IN" "$RIB_DATA"
exec "$@"
"""
"""What a host does before anything else: as on any other machine, Ray has /tmp/ray for itself."""


def reason_against() -> str:
    """Say why there can be no hosts here; empty when there can."""
    if os.geteuid() != 0:
        return "making network namespaces needs root"
    missing = [tool for tool in ("ip", "unshare", "mount", "hostname") if not shutil.which(tool)]
    if missing:
        return f"there is no {', '.join(missing)}"
    name = f"rib-try-{uuid.uuid4().hex[:6]}"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if tried.returncode:
        return f"network namespaces cannot be made: {tried.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", name], check=True)
    return ""


@dataclass
class Host:
    """One host, and what runs on it."""

    name: str
    namespace: str
    address: str
    home: Path
    environment: dict[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.home / "log"

    def start(self, *command: object) -> None:
        """Start the one program that the host is there for; its output goes to the log."""
        inside = ["sh", "-c", SET_UP, "sh", *map(str, command)]
        apart = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                [*self._networked(), *apart, *inside],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
            )
        self.processes.append(process)

    def popen(self, *command: object) -> subprocess.Popen[str]:
        """Start a program that has the host's network, and this machine's files."""
        return subprocess.Popen(
            [*self._networked(), *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment,
            text=True,
        )

    def run(self, *command: object) -> tuple[int, str]:
        """Run such a program to its end; return its exit code and all that it printed."""
        process = self.popen(*command)
        out, _ = process.communicate(timeout=120)
        return process.returncode, out

    def _networked(self) -> list[str]:
        return ["ip", "netns", "exec", self.namespace]

    def stop(self) -> None:
        """End all that runs on the host, at once."""
        for process in self.processes:
            process.send_signal(signal.SIGKILL)  # its namespace's first process dies with it
            process.wait()
        self.processes.clear()


@dataclass
class Network:
    """Hosts that reach each other, and nothing else."""

    folder: Path
    data: Path
    shared: Mapping[str, str]
    """What is in the environment of every host."""
    name: str = field(default_factory=lambda: f"rib-{uuid.uuid4().hex[:6]}")
    hosts: list[Host] = field(default_factory=list)

    def add(self, name: str, **environment: str) -> Host:
        """Add a host that has the data at a path of its own."""
        number = len(self.hosts) + 1
        namespace, address = f"{self.name}-{number}", f"10.77.0.{number}"
        home = self.folder / name
        data = home / f"data-of-{name}"
        for folder in (home / "ray", data):
            folder.mkdir(parents=True)
        host = Host(
            name,
            namespace,
            address,
            home,
            {
                **{key: os.environ[key] for key in ("HOME", "LANG") if key in os.environ},
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "PYTHONPATH": str(PROJECT),
                "RIB_HOST": f"{self.name}-{name}",
                "RIB_HOME": str(home),
                "RIB_NODE_IP": address,
                "RIB_DATA": str(data),
                "RIB_DATA_IN": str(self.data),
                **self.shared,
                **environment,
            },
        )
        ip("netns", "add", namespace)
        self.hosts.append(host)
        ip("-n", namespace, "link", "set", "lo", "up")
        peer = ("peer", "name", "eth0", "netns", namespace)
        ip("-n", self._switch, "link", "add", f"port{number}", "type", "veth", *peer)
        ip("-n", self._switch, "link", "set", f"port{number}", "master", "bridge", "up")
        ip("-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
        ip("-n", namespace, "link", "set", "eth0", "up")
        return host

    def cut_off(self, host: Host) -> None:
        """Pull a host's cable: nothing is closed, and nothing arrives any more."""
        number = self.hosts.index(host) + 1
        ip("-n", self._switch, "link", "set", f"port{number}", "down")

    @property
    def _switch(self) -> str:
        return f"{self.name}-switch"

    def up(self) -> None:
        ip("netns", "add", self._switch)
        ip("-n", self._switch, "link", "add", "bridge", "type", "bridge")
        ip("-n", self._switch, "link", "set", "bridge", "up")

    def down(self) -> None:
        for host in self.hosts:
            host.stop()
        for namespace in [*(host.namespace for host in self.hosts), self._switch]:
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@contextmanager
def network(folder: Path, data: Path, **shared: str) -> Iterator[Network]:
    """Make a network of no hosts yet; at the end, whatever happened, all is gone."""
    made = Network(folder, data, shared)
    try:
        made.up()
        yield made
    finally:
        made.down()
