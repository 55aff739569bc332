"""A real S3 server on loopback (moto's) behind a proxy that misbehaves by a seeded plan.

`python -m tests.s3` serves until its standard input closes and prints the proxy's port, then the
server's own. It is a process of its own, since pyarrow may hold the interpreter's lock while it
waits for an answer.
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

BUCKET = "rib-bucket"
FAULTS = ("500", "503", "slow", "cut")
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
_CODES = {"500": ("Internal Server Error", "InternalError"), "503": ("Slow Down", "SlowDown")}


@dataclass(frozen=True)
class S3:
    """Where the server is: behind the proxy, and beside it."""

    port: int
    own_port: int

    def uri(self, prefix: str, direct: bool = False) -> str:
        port = self.own_port if direct else self.port
        return f"s3://{BUCKET}/{prefix}?endpoint_override=127.0.0.1:{port}&scheme=http"

    def plan(self, *, seed: int = 0, share: float = 0.0, next_puts: str = "") -> None:
        """Choose what goes wrong from now on.

        Args:
            seed: of the draw.
            share: of the requests that meet a fault, one of FAULTS.
            next_puts: the faults that the next PUTs meet, with commas between, whatever is drawn.
        """
        plan = {"seed": seed, "share": share, "next_puts": [f for f in next_puts.split(",") if f]}
        self._control("POST", json.dumps(plan).encode())

    def faults(self) -> Counter[str]:
        """How often each fault was injected since the last plan."""
        return Counter(json.loads(self._control("GET")))

    def _control(self, method: str, data: bytes | None = None) -> bytes:
        url = f"http://127.0.0.1:{self.port}/__faults__"
        with urllib.request.urlopen(urllib.request.Request(url, data, method=method)) as answer:
            body: bytes = answer.read()
        return body


@contextmanager
def serving() -> Iterator[S3]:
    """Run the server and its proxy in a process of their own.

    Raises:
        AssertionError: when it has crashed: what tests saw of it is then no fault of theirs.
    """
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-m", "tests.s3"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            port, own_port = map(int, process.stdout.readline().split())
            yield S3(port, own_port)
        finally:
            process.stdin.close()
            code = process.wait(20)
            process.stdout.close()
            log.seek(0)
            assert code == 0, f"the S3 server ended with {code}: {log.read()[-5000:]}"


class Plan:
    """Draws what happens to each request."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.follow({"seed": 0, "share": 0.0, "next_puts": []})

    def follow(self, plan: dict[str, object]) -> None:
        with self.lock:
            self.random = random.Random(str(plan["seed"]))
            self.share = float(str(plan["share"]))
            self.next_puts = list(plan["next_puts"])  # type: ignore[call-overload]
            self.injected: Counter[str] = Counter()

    def draw(self, method: str) -> str | None:
        with self.lock:
            fault = None
            if method == "PUT" and self.next_puts:
                fault = self.next_puts.pop(0)
            elif self.random.random() < self.share:
                fault = self.random.choice(FAULTS)
            if fault == "cut" and method != "PUT":
                fault = "503"
            if fault is not None:
                self.injected[fault] += 1
            return fault


def serve_proxy(upstream: int) -> int:
    """Listen on a free port and pass requests on, or not; one request a connection."""
    plan = Plan()
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    def accept() -> None:
        while True:
            client, _ = listener.accept()
            threading.Thread(target=handle, args=(client, upstream, plan), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    port: int = listener.getsockname()[1]
    return port


def handle(client: socket.socket, upstream: int, plan: Plan) -> None:
    """Answer the one request of a connection."""
    with client, client.makefile("rb") as request:
        head = read_head(request)
        if not head:
            return
        method, path = head.split(b" ", 2)[:2]
        if b"100-continue" in head.lower():
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = read_body(request, head)
        if path == b"/__faults__":
            answer_control(client, method, body, plan)
            return
        fault = plan.draw(method.decode())
        if fault in _CODES:
            refuse(client, fault)
            return
        with socket.create_connection(("127.0.0.1", upstream)) as server:
            if fault == "cut":
                # Half of the body arrives, then the line is dead, on both sides.
                server.sendall(one_request(head) + body[: len(body) // 2])
                return
            if fault == "slow":
                time.sleep(0.3)
            server.sendall(one_request(head) + body)
            while data := server.recv(1 << 16):
                client.sendall(data)


def read_head(request: BinaryIO) -> bytes:
    """Read up to and with the empty line."""
    head = b""
    while (line := request.readline()) not in (b"\r\n", b""):
        head += line
    return head + line if head else b""


def read_body(request: BinaryIO, head: bytes) -> bytes:
    """Read the body as it is framed: so many bytes, or chunk after chunk."""
    headers = fields(head)
    if "chunked" not in headers.get("transfer-encoding", ""):
        return request.read(int(headers.get("content-length", 0)))
    body = b""
    while True:
        size = request.readline()
        body += size
        if int(size.split(b";")[0], 16) == 0:
            return body + read_trailers(request)
        body += request.read(int(size.split(b";")[0], 16) + 2)


def read_trailers(request: BinaryIO) -> bytes:
    trailers = b""
    while not trailers.endswith(b"\r\n\r\n") and trailers != b"\r\n":
        trailers += request.readline()
    return trailers


def fields(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def one_request(head: bytes) -> bytes:
    """Ask for the connection to end with the answer, and for nothing to wait for."""
    dropped = (b"connection:", b"expect:")
    lines = head[:-4].split(b"\r\n")
    kept = [line for line in lines if not line.lower().startswith(dropped)]
    return b"\r\n".join([*kept, b"Connection: close", b"", b""])


def refuse(client: socket.socket, fault: str) -> None:
    reason, code = _CODES[fault]
    body = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
    answer(client, f"{fault} {reason}", body)


def answer_control(client: socket.socket, method: bytes, body: bytes, plan: Plan) -> None:
    if method == b"POST":
        plan.follow(json.loads(body))
    answer(client, "200 OK", json.dumps(plan.injected).encode())


def answer(client: socket.socket, status: str, body: bytes) -> None:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    client.sendall(head.encode() + body)


def main() -> None:
    """Serve until standard input closes."""
    os.environ.update(CREDENTIALS)
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}").create_bucket(Bucket=BUCKET)
    sys.stdout.write(f"{serve_proxy(port)} {port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
