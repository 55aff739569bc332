"""The suites that a grid can name: one module each, found by looking, and those of its user."""

from __future__ import annotations

from functools import cache

from workers import registry
from workers.errors import Problem, UserError
from workers.suites.base import Clause, DatasetSpec, SplitKey, Suite

__all__ = ["Clause", "DatasetSpec", "SplitKey", "Suite", "adopt", "suites"]

_ADOPTED: dict[str, Suite] = {}


def suites() -> dict[str, Suite]:
    """Return every suite by name: those that are built in, and those adopted by this process."""
    return {**_built_in(), **_ADOPTED}


def adopt(suite: Suite) -> None:
    """Let this process know a suite that a user declares.

    Raises:
        UserError: when another one has its name.
    """
    known = suites().get(suite.name)
    if known is not None and known.declaration is None:
        what, hint = "there is a suite of this name here", "choose another name"
        raise UserError([Problem(f"suite {suite.name!r}", what, hint)])
    if known is not None and known.declaration != suite.declaration:
        what = f"this process knows another one of this name, version {known.version}"
        hint = "raise its version, and start a new process"
        raise UserError([Problem(f"suite {suite.name!r}", what, hint)])
    _ADOPTED[suite.name] = suite


@cache
def _built_in() -> dict[str, Suite]:
    """Return what the modules of this package call `SUITE`."""
    import workers.suites as package

    found = (getattr(module, "SUITE", None) for module in registry.modules_of(package))
    return {suite.name: suite for suite in found if suite is not None}
