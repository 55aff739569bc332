"""Paths as users write them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from workers.errors import Problem

_WITH_DEFAULT = re.compile(r"\$\{(\w+):-([^}]*)\}")


def expand(text: str, where: str, problems: list[Problem]) -> str | None:
    """Fill in a path's environment variables and its leading ~; None when one is not set.

    `${NAME:-default}` is the default where NAME is not set or empty, as in a shell.
    """
    filled = _WITH_DEFAULT.sub(lambda found: os.environ.get(found[1]) or found[2], text)
    expanded = os.path.expandvars(filled)
    if "$" in expanded:
        problems.append(Problem(where, f"an environment variable in {text!r} is not set"))
        return None
    return str(Path(expanded).expanduser()) if expanded.startswith("~") else expanded
