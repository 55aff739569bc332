"""The ways in which cells end that are not bugs: the input, the data, the loss, being stopped."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, where it stands, and what would be right."""

    where: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text} ({self.hint})" if self.hint else text


class UserError(Exception):
    """The input is wrong. Carries every problem found, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        if not problems:
            raise ValueError("a UserError needs at least one problem")
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type[UserError], tuple[tuple[Problem, ...]]]:
        """Survive pickling: the default passes the message where problems are expected."""
        return type(self), (self.problems,)


class DataError(UserError):
    """A data set on disk is not what its suite says: missing, misnamed, or not decodable."""


class DivergedError(Exception):
    """The training loss is NaN or infinite; the cell is recorded as such and never ranked."""


class LostCheckpointError(Exception):
    """A cell's checkpoint is not there or not whole: the cell has to be made again."""

    def __init__(self, cell_id: str, reason: str) -> None:
        super().__init__(f"the checkpoint of cell {cell_id} is lost: {reason}")
        self.cell_id = cell_id


class PreemptedError(Exception):
    """A cell was asked to stop; what it did so far is in the store. It counts as no failure."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return a hint that names the allowed value closest to `name`, or all of a short list."""
    options = sorted(allowed)
    close = difflib.get_close_matches(name.lower(), [option.lower() for option in options], n=1)
    if close:
        match = next(option for option in options if option.lower() == close[0])
        return f"did you mean {match!r}?"
    if len(options) <= 12:
        return "allowed: " + ", ".join(options)
    return f"{len(options)} names are allowed, none is near"
