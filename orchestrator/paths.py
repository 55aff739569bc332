"""Paths as users write them."""

from __future__ import annotations

import os
from pathlib import Path

from workers.errors import Problem


def expand(text: str, where: str, problems: list[Problem]) -> str | None:
    """Fill in a path's environment variables and its leading ~; None when one is not set."""
    expanded = os.path.expandvars(text)
    if "$" in expanded:
        problems.append(Problem(where, f"an environment variable in {text!r} is not set"))
        return None
    return str(Path(expanded).expanduser()) if expanded.startswith("~") else expanded
