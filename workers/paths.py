"""Paths as users write them, filled in on the machine that they are used on.

`${RIB_DATA}/imagenet` and `~/imagenet` mean another place on each machine: what crosses from one to
another is the path as it was written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from workers.errors import DataError, Problem

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::-([^}]*))?\})")


class UnsetError(ValueError):
    """A path names environment variables that this machine does not have."""

    def __init__(self, text: str, names: list[str]) -> None:
        if names:
            several = "s" if len(names) > 1 else ""
            verb = "are" if several else "is"
            message = f"the variable{several} {', '.join(names)} in {text!r} {verb}"
            super().__init__(f"{message} not set")
        else:
            super().__init__(f"{text!r} has a $ that begins no variable")


def fill_in(text: str, environment: Mapping[str, str] | None = None) -> str:
    """Fill in a path's environment variables and its leading ~.

    `${NAME:-default}` is the default where NAME is not set or empty, as in a shell.

    Raises:
        UnsetError: naming every variable that is not set.
    """
    values = os.environ if environment is None else environment
    unset: list[str] = []

    def value_of(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if found[3] is not None:
            return values.get(name) or found[3]
        if name not in values:
            unset.append(name)
        return values.get(name, "")

    filled = _VARIABLE.sub(value_of, text)
    if unset or "$" in _VARIABLE.sub("", text):
        raise UnsetError(text, list(dict.fromkeys(unset)))
    return str(Path(filled).expanduser()) if filled.startswith("~") else filled


def differs_by_machine(text: str) -> bool:
    """Whether a path is to be filled in on each machine."""
    return "$" in text or text.startswith("~")


def place_here(text: str) -> Path:
    """Return where a path that came from another machine lies on this one.

    Raises:
        DataError: when it names variables that are not set here, or would depend on the folder
            that this process happens to run in.
    """
    try:
        place = Path(fill_in(text))
    except (UnsetError, RuntimeError) as error:  # RuntimeError: there is no home
        raise DataError([Problem("", str(error))]) from error
    if not place.is_absolute() and differs_by_machine(text):
        raise DataError([Problem("", f"{text!r} is {str(place)!r} here, which is not absolute")])
    return place
