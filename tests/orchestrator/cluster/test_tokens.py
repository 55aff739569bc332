"""The token of a cluster: there, and readable by its owner alone; nothing starts without one."""

import os
import stat
import sys
from pathlib import Path

import pytest

from orchestrator.cluster import tokens
from orchestrator.cluster.start import Node, command_of, prepare, wait_for_head
from orchestrator.ray_executor import connect
from workers.errors import UserError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "ray" / "auth_token")}


def path_in(environment: dict[str, str]) -> Path:
    return Path(environment["RAY_AUTH_TOKEN_PATH"])


# ---------------------------------------------------------------------- the file


def test_a_new_token_is_its_owner_s_alone(environment: dict[str, str]) -> None:
    said: list[str] = []
    before = os.umask(0)
    try:
        prepare(Node(), environment, allow_open=False, tell=said.append)
    finally:
        os.umask(before)
    path = path_in(environment)
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700
    token = path.read_text()
    assert len(bytes.fromhex(token)) == 32
    assert token not in " ".join(said)
    assert list(path.parent.iterdir()) == [path]


def test_a_token_that_is_there_stays(environment: dict[str, str]) -> None:
    tokens.make_token(environment | {"RAY_AUTH_MODE": "token"})
    first = path_in(environment).read_text()
    tokens.make_token(environment | {"RAY_AUTH_MODE": "token"})
    assert path_in(environment).read_text() == first


@pytest.mark.parametrize("open_mode", [0o644, 0o640, 0o604, 0o660])
def test_a_token_that_others_can_read_is_closed_to_them(
    environment: dict[str, str], open_mode: int
) -> None:
    path = path_in(environment)
    path.parent.mkdir()
    path.write_text("a secret")
    path.chmod(open_mode)
    said: list[str] = []
    tokens.need_token(environment | {"RAY_AUTH_MODE": "token"}, said.append)
    assert mode(path) == 0o600
    assert "could be read by others" in said[0]
    assert "a secret" not in said[0]


def test_a_token_that_cannot_be_closed_is_refused(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = path_in(environment)
    path.parent.mkdir()
    path.write_text("a secret")
    path.chmod(0o644)

    def refuse(self: Path, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)  # somebody else's file; root may do everything
    with pytest.raises(UserError, match="others can read this token") as caught:
        tokens.need_token(environment | {"RAY_AUTH_MODE": "token"})
    assert "a secret" not in str(caught.value)


# ---------------------------------------------------------------------- nothing without it


def test_a_worker_needs_the_head_s_token(environment: dict[str, str]) -> None:
    with pytest.raises(UserError, match="there is no token to show to the cluster"):
        prepare(Node(address="head:6379"), environment, allow_open=False, tell=print)
    assert not path_in(environment).exists(), "a worker makes none of its own"
    prepare(Node(address="h:1"), environment | {"RAY_AUTH_TOKEN": "x"}, False, print)


def test_joining_needs_a_token(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", environment["RAY_AUTH_TOKEN_PATH"])
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    with pytest.raises(UserError, match="there is no token to show to the cluster"):
        connect("10.0.0.1:6379", None)


@pytest.mark.parametrize("role", [Node(), Node(address="head:6379")])
def test_tokens_are_asked_for_unless_it_is_said_twice(
    environment: dict[str, str], role: Node
) -> None:
    environment |= {"RAY_AUTH_TOKEN": "x", "RAY_AUTH_MODE": "disabled"}
    with pytest.raises(UserError, match="lets everybody who reaches this machine's ports"):
        prepare(role, environment, allow_open=False, tell=print)
    said: list[str] = []
    prepare(role, environment | {"RIB_ALLOW_OPEN_CLUSTER": "1"}, False, said.append)
    prepare(role, dict(environment), allow_open=True, tell=said.append)
    assert ["no token is asked for" in line for line in said] == [True, True]


def test_an_embedded_ray_asks_for_a_token_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(UserError, match="lets everybody who reaches this machine's ports"):
        connect(None, 1)


def test_the_dashboard_listens_on_this_machine_alone() -> None:
    command = command_of(Node(node_ip="10.0.0.1"), jobs=True)
    assert "--dashboard-host=127.0.0.1" in command
    assert "--include-dashboard=true" in command
    assert "--include-dashboard=false" in command_of(Node(), jobs=False)


def test_a_dashboard_for_all_needs_a_token(environment: dict[str, str]) -> None:
    node = Node(dashboard_host="0.0.0.0")
    with pytest.raises(UserError, match=r"--dashboard-host 0\.0\.0\.0: it would let everybody"):
        prepare(node, dict(environment), allow_open=True, tell=print)
    prepare(node, environment, allow_open=False, tell=print)
    assert "--dashboard-host=0.0.0.0" in command_of(node, jobs=True)


@pytest.mark.parametrize("option", ["--head", "--port=1", "--address", "--node-ip-address=::"])
def test_what_the_command_decides_cannot_be_given(environment: dict[str, str], option: str) -> None:
    with pytest.raises(UserError, match="is decided by this command"):
        prepare(Node(options=(option,)), environment, allow_open=False, tell=print)
    assert not path_in(environment).exists()


def test_nothing_is_sent_home(environment: dict[str, str]) -> None:
    prepare(Node(), environment, allow_open=False, tell=print)
    assert environment["RAY_USAGE_STATS_ENABLED"] == "0"
    assert environment["RAY_AUTH_MODE"] == "token"


def test_jobs_find_the_rib_of_the_environment_that_the_head_is_of(
    environment: dict[str, str],
) -> None:
    """As when it was started by its path, in a virtual environment that is not activated."""
    for before, rest in (({}, []), ({"PATH": "/usr/bin:/bin"}, ["/usr/bin", "/bin"])):
        given = environment | before
        prepare(Node(), given, allow_open=False, tell=print)
        assert given["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), *rest]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("head", "is no address of a head"),
        (":6379", "is no address of a head"),
        ("head:port", "is no address of a head"),
        ("127.0.0.1:1", "no head answers there"),
        ("127.0.0.1:99999", "no head answers there"),
    ],
)
def test_a_head_that_does_not_answer(address: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        wait_for_head(address, 0.0)
