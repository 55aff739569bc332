"""The classes that predictions are taken from: a set's own, all, another set's, or a list."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from workers.errors import Problem, UserError, nearest
from workers.labels import LabelSpace
from workers.predictions import declared_masks
from workers.suites import Suite

OWN, ALL = "own", "all"


@dataclass(frozen=True)
class Mask:
    """Which classes a prediction may be."""

    name: str
    """`own`, `all`, a set of the suite, or a file."""
    classes: tuple[int, ...] | None = None
    """Places in the label space, ascending; None for `own`, which differ by set, and for `all`."""


def parse_mask(
    text: str, suite: Suite, classes_seen: Callable[[str], Sequence[int]] = lambda _: ()
) -> Mask:
    """Find out which classes are meant.

    Args:
        text: `own`, `all`, the name of an evaluation set, or a file that lists classes.
        suite: whose classes they are.
        classes_seen: returns those of a set whose classes only its files on disk know, as far as
            predictions show them.

    Raises:
        UserError: with everything that is wrong.
    """
    if text in (OWN, ALL):
        return Mask(text)
    if text in suite.evaluation_sets:
        return _of_set(text, suite, classes_seen)
    path = Path(text)
    if path.is_file():
        return Mask(text, _listed(path, suite.space))
    message = f"{text!r} is no set of {suite.name}, and no file"
    raise UserError([Problem("--mask", message, nearest(text, [OWN, ALL, *suite.evaluation_sets]))])


def _of_set(name: str, suite: Suite, classes_seen: Callable[[str], Sequence[int]]) -> Mask:
    declared = declared_masks(suite)
    if name in declared:
        return Mask(name, declared[name])
    if suite.evaluation_sets[name].n_indices is None:
        return Mask(ALL)  # it has every class
    seen = tuple(sorted(classes_seen(name)))
    if not seen:
        message = f"which classes {name} has is known by its files only"
        hint = "keep predictions on it, or list the classes in a file"
        raise UserError([Problem("--mask", message, hint)])
    return Mask(name, seen)


def _listed(path: Path, space: LabelSpace) -> tuple[int, ...]:
    """Read a list of classes, one a line: ids or names; `#` begins a comment."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError([Problem(str(path), f"cannot be read: {error}")]) from error
    known = _names(space)
    problems: list[Problem] = []
    found: set[int] = set()
    for number, line in enumerate(lines, start=1):
        name = line.partition("#")[0].strip()
        places = known.get(name.lower(), [])
        if len(places) > 1:
            ids = ", ".join(space.ids[place] for place in places)
            hint = f"say which by its id: {ids}"
            problems.append(
                Problem(f"{path}:{number}", f"{len(places)} classes are {name!r}", hint)
            )
        elif name and not places:
            hint = nearest(name, known)
            problems.append(Problem(f"{path}:{number}", f"there is no class {name!r}", hint))
        found.update(places)
    if not found and not problems:
        problems.append(Problem(str(path), "lists no class"))
    if problems:
        raise UserError(problems)
    return tuple(sorted(found))


def _names(space: LabelSpace) -> dict[str, list[int]]:
    """Return the places of what a class may be called: its id, its names, or one of them."""
    known: dict[str, list[int]] = defaultdict(list)
    for place, class_id in enumerate(space.ids):
        names = space.names[place] if space.names else class_id
        for name in dict.fromkeys([class_id, names, *(one.strip() for one in names.split(","))]):
            known[name.lower()].append(place)
    return known
