"""The token without which nobody talks to Ray, and the refusal to do without one.

Ray's ports run whatever they are sent. So every cluster that this project starts or joins asks for
a token: a secret that all its machines share, in a file that only its owner can read.
"""

from __future__ import annotations

import os
import secrets
import stat
import uuid
from collections.abc import Callable, MutableMapping
from pathlib import Path

from workers.errors import Problem, UserError

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
ALLOW_OPEN = "RIB_ALLOW_OPEN_CLUSTER"
"""Set to 1 by those who want a cluster that runs what anybody sends it."""

Environment = MutableMapping[str, str]


def ask_for_token(environment: Environment) -> None:
    """Have Ray ask for a token, unless it was decided otherwise.

    Raises:
        UserError: when the environment turns tokens off and does not say that this is meant.
    """
    mode = environment.setdefault(MODE, "token")
    if mode == "token" or environment.get(ALLOW_OPEN) == "1":
        return
    message = f"{mode!r} lets everybody who reaches this machine's ports run programs as you"
    hint = f"unset it; where you trust everybody on the network, set {ALLOW_OPEN}=1"
    raise UserError([Problem(MODE, message, hint)])


def is_open(environment: Environment) -> bool:
    """Whether Ray would ask for no token."""
    return environment.get(MODE) != "token"


def token_file(environment: Environment) -> Path:
    """Return where Ray looks for the token when it is not in the environment itself."""
    named = environment.get(TOKEN_PATH)
    return Path(named) if named else Path.home() / ".ray" / "auth_token"


def need_token(environment: Environment, tell: Callable[[str], None] = lambda _: None) -> None:
    """Check that there is a token to show to a cluster, and that nobody else can read it.

    Raises:
        UserError: when there is none, or others can read it and this cannot be changed.
    """
    if is_open(environment) or environment.get(TOKEN):
        return
    path = token_file(environment)
    if not path.exists():
        hint = "copy the head's there, readable by you alone (chmod 600); see docs/cluster.md"
        raise UserError([Problem(str(path), "there is no token to show to the cluster", hint)])
    close_to_others(path, tell)


def make_token(environment: Environment, tell: Callable[[str], None] = lambda _: None) -> None:
    """Make a token if there is none yet.

    Raises:
        UserError: when that cannot be written, or others can read it and this cannot be changed.
    """
    if is_open(environment) or environment.get(TOKEN):
        return
    path = token_file(environment)
    if not path.exists():
        try:
            _write_new(path, secrets.token_hex(32))
        except OSError as error:
            message = f"the token cannot be written: {error.strerror}"
            raise UserError([Problem(str(path), message)]) from error
        tell(f"made a token for the cluster: {path}; every machine of it needs a copy")
    close_to_others(path, tell)


def _write_new(path: Path, token: str) -> None:
    """Write a file whole that only its owner ever could read; one that is there already stays."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(token)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return  # somebody else was quicker: that is the token
    finally:
        temporary.unlink()


def close_to_others(path: Path, tell: Callable[[str], None] = lambda _: None) -> None:
    """Take everybody's rights to a token file away but its owner's.

    Raises:
        UserError: when others can read it and this cannot be changed.
    """
    try:
        mode = path.stat().st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            path.chmod(stat.S_IRUSR | stat.S_IWUSR)
            tell(f"{path} could be read by others (mode {mode & 0o777:o}); now it cannot")
    except OSError as error:
        message = f"others can read this token, and that cannot be changed: {error.strerror}"
        hint = f"copy it to a file of your own (chmod 600) and have {TOKEN_PATH} name that"
        raise UserError([Problem(str(path), message, hint)]) from error
