"""A cluster that is not there is told of at once."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.cluster.reach import ANSWER_S, check_reachable
from tests.orchestrator.rib import rib
from workers.errors import UserError


@pytest.fixture
def listening() -> Iterator[int]:
    """A port of this machine that something listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def silent() -> Iterator[int]:
    """A port of this machine whose connections nobody accepts, like one behind a firewall."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = server.getsockname()[1]
        waiting = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
            waiting.append(one)
        yield port
        for one in waiting:
            one.close()


@pytest.fixture
def closed(listening: int) -> int:
    """A port of this machine that nothing listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_what_listens_is_reachable(listening: int) -> None:
    check_reachable(f"127.0.0.1:{listening}")
    check_reachable(f"ray://localhost:{listening}")
    check_reachable("auto")
    check_reachable(None)


def test_what_does_not_listen_is_not(closed: int) -> None:
    with pytest.raises(UserError, match=f"no Ray cluster answers at '127.0.0.1:{closed}': Connec"):
        check_reachable(f"127.0.0.1:{closed}")


def test_patience_has_an_end(silent: int) -> None:
    started = time.monotonic()
    with pytest.raises(UserError, match="timed out"):
        check_reachable(f"127.0.0.1:{silent}", patience_s=0.3)
    assert time.monotonic() - started < ANSWER_S


@pytest.mark.parametrize("address", ["head", "head:", "head:port", ":6379", "head:99999"])
def test_what_is_no_address_is_named(address: str) -> None:
    with pytest.raises(UserError, match=f"'{address}' is no address of a Ray cluster"):
        check_reachable(address)


@pytest.mark.parametrize("command", ["run", "distance"])
def test_a_run_is_refused_before_anything_is_read(
    command: str,
    closed: int,
    digits_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        f"{{name: g, suite: digits-rib, data_root: '{digits_root}', store: '{tmp_path}/store', "
        "models: [resnet_digits], methods: [ft]}"
    )
    assert rib(command, grid, "--address", f"127.0.0.1:{closed}") == 2
    told = capsys.readouterr().err
    assert "Connection refused" in told
    assert not (tmp_path / "store").exists()
