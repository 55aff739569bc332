"""Paths in grids."""

from __future__ import annotations

from pathlib import Path

from workers.errors import Problem
from workers.paths import UnsetError, differs_by_machine, fill_in


def expand(text: str, where: str, problems: list[Problem]) -> str | None:
    """Fill in a path for this machine; None, and a problem, when a variable in it is not set."""
    try:
        return fill_in(text)
    except (UnsetError, RuntimeError) as error:  # RuntimeError: there is no home
        problems.append(Problem(where, str(error)))
        return None


def for_each_machine(text: str, here: str | None) -> str:
    """Return a path as each machine fills it in for itself; empty when it is the same on all.

    Args:
        text: the path as it was written.
        here: what it is on this machine; None when it cannot be said. A variable that holds a
            relative path means one place only: the one that this process finds there.
    """
    if not differs_by_machine(text):
        return ""
    if here is not None and not Path(here).is_absolute():
        return ""
    return text
