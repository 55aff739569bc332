"""Which of a row's two counts of right predictions is meant, set by set.

A prediction is the arg-max over the set's own classes (its class mask) or over the whole label
space. They differ where a set has fewer classes than the label space: ImageNet-A, -R, ObjectNet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from workers.errors import Problem, UserError, nearest

EVERY_SET = "all"

AS_PUBLISHED = "as published"
"""The label of a table's accuracies, of which it is not known."""


@dataclass(frozen=True)
class Scoring:
    """The sets that are scored over the whole label space; all others over their own classes."""

    unmasked: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, names: Iterable[str], sets: Sequence[str]) -> Scoring:
        """Return the scoring of a user's list of unmasked sets, where `all` stands for each.

        Raises:
            UserError: there is no such set.
        """
        wanted = frozenset(names)
        if EVERY_SET in wanted and EVERY_SET not in sets:
            return cls(frozenset(sets))
        problems = [
            Problem("--unmasked", f"there is no set {name!r}", nearest(name, [*sets, EVERY_SET]))
            for name in sorted(wanted - set(sets))
        ]
        if problems:
            raise UserError(problems)
        return cls(wanted)

    def column(self, name: str) -> str:
        """Return the column of the store's rows that holds a set's count."""
        return "n_correct_unmasked" if name in self.unmasked else "n_correct"

    def label(self, sets: Sequence[str]) -> str:
        """Return it for programs: "masked", "unmasked", or "unmasked: " and the sets."""
        if not self.unmasked:
            return "masked"
        if self.unmasked >= set(sets):
            return "unmasked"
        return f"unmasked: {', '.join(name for name in sets if name in self.unmasked)}"


MASKED = Scoring()


def describe(label: str) -> str:
    """Say for people what a label means."""
    if label == "masked":
        return "scoring: each set over its own classes"
    if label == "unmasked":
        return "scoring: every set over all classes of the label space"
    if label == AS_PUBLISHED:
        return "scoring: as published"
    names = label.partition(": ")[2]
    return f"scoring: {names} over all classes of the label space, the others over their own"
