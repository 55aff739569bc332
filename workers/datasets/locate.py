"""Where a data set lies below the data root: under which of its names, in which of its folders.

People unpack archives under several names, in upper or lower case, and into folders of their own.
All of that is followed as long as only one place fits. Nothing is ever chosen among several.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import chain
from pathlib import Path, PurePosixPath

from workers.datasets.base import folders_in
from workers.errors import DataError, Problem
from workers.suites.base import DatasetSpec


def locate(spec: DatasetSpec, root: Path) -> Path:
    """Return the folder of a data set: `spec.folder` or one of `spec.aliases` below the root.

    Upper and lower case are the same. Of two places the one inside the other is meant.

    Raises:
        DataError: when none is there, or several: all of them are named.
    """
    found = places(spec, root)
    if len(found) > 1:
        raise DataError([ambiguous(spec.name, found)])
    if not found:
        hint = f"nor is there {', '.join(spec.aliases)} in {root}" if spec.aliases else ""
        raise DataError([Problem(str(root / spec.folder), "there is no such folder", hint)])
    return found[0]


def places(spec: DatasetSpec, root: Path) -> list[Path]:
    """Return every folder below the root that could be a data set's."""
    names = (spec.folder, *spec.aliases)
    found = list(dict.fromkeys(chain.from_iterable(_spellings(root, name) for name in names)))
    # A place is left out when it only holds another one, or is the same by a link.
    inner = [p for p in found if not any(p in other.parents for other in found)]
    distinct = {place.resolve(): place for place in reversed(inner)}
    return list(reversed(distinct.values()))


def unwrap(folder: Path, expected: Collection[str]) -> Path:
    """Go into a folder for as long as all it has is one folder that is not expected in it.

    Archives unpacked into a folder of their own leave such folders: `imagenet-r/imagenet-r/`, or
    `imagenet-r/val/`.

    Args:
        folder: where to start.
        expected: names of the folders that the data set itself consists of.

    Raises:
        DataError: when there is no such folder.
    """
    known = {name.casefold() for name in expected}
    names = folders_in(folder)
    while len(names) == 1 and names[0].casefold() not in known:
        folder = folder / names[0]
        names = folders_in(folder)
    return folder


def by_name(folder: Path, expected: Collection[str]) -> dict[str, Path]:
    """Find the folders in a folder that have one of some names, whatever their case.

    Returns:
        expected name -> the folder of that name, for those that are there.

    Raises:
        DataError: when there is no such folder, or two in it differ only in case.
    """
    names = {name.casefold(): name for name in expected}
    places: dict[str, list[Path]] = {}
    for found in folders_in(folder):
        if found.casefold() in names:
            places.setdefault(names[found.casefold()], []).append(folder / found)
    problems = [ambiguous(name, several) for name, several in places.items() if len(several) > 1]
    if problems:
        raise DataError(problems)
    return {name: place for name, (place,) in places.items()}


def ambiguous(name: str, places: Collection[Path]) -> Problem:
    """Say that something could be any of several folders."""
    message = f"{name} could be any of {', '.join(str(place) for place in places)}"
    return Problem("", message, "move or rename all but one")


def _spellings(root: Path, name: str) -> list[Path]:
    """Return the folders below the root that have a name, in any case."""
    places = [root]
    for part in PurePosixPath(name).parts:
        places = [
            place / found
            for place in places
            if place.is_dir()
            for found in folders_in(place)
            if found.casefold() == part.casefold()
        ]
    return places
