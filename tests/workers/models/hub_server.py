"""A Hugging Face hub on the loopback interface: files of repositories, and what it was asked."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Hub:
    """What the server has, and the requests that it got."""

    address: str = ""
    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refuses: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Repository -> the status and error code that it answers with."""
    asked: list[str] = field(default_factory=list)


@contextmanager
def serving() -> Iterator[Hub]:
    """Run a hub on a free port."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, with_body: bool) -> None:
            hub.asked.append(f"{self.command} {self.path}")
            repo, _, rest = self.path.strip("/").partition("/resolve/main/")
            if repo in hub.refuses:
                return self._refuse(*hub.refuses[repo])
            if repo not in hub.repos:
                return self._refuse(404, "RepoNotFound")
            if rest not in hub.repos[repo]:
                return self._refuse(404, "EntryNotFound")
            body = hub.repos[repo][rest]
            self.send_response(200)
            digest = hashlib.sha256(body).hexdigest()
            self.send_header("X-Repo-Commit", digest[:40])
            self.send_header("ETag", f'"{digest}"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body)
            return None

        def _refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
